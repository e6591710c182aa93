//! The kill matrix: {publisher, subscriber, its node, the other node} × {Rust, Python, Node} ×
//! {live, resume token, durable name}. Sets and order are compared after each kill.
//!
//! Each run publishes at one node and hears at the other, in one language and one mode, through all
//! four kills in turn. A live subscriber that is killed is another subscriber afterwards: it hears
//! what comes after it opened, so nothing is under way at that moment. What it may hear twice is
//! what had been written and not acknowledged, which only a durable name can show: the others
//! resume after what they wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use evermesh_event::Offset;
use evermesh_event::verdict::Verdict;
use rustix::process::Signal;
use serde_json::Value;

use crate::history::{Publisher, Subscribe, Subscriber};
use crate::mesh::{Mesh, status};
use crate::node::{evermesh, until};
use crate::pages::{copy_files, page, repository};
use crate::{javascript, python};

/// Handed in around each kill.
const EVENTS: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Live,
    Token,
    Name,
}

/// The programs of one language, for a directory with the page's files.
#[derive(Clone)]
enum Language {
    Rust,
    Python(PathBuf),
    Node,
}

impl Language {
    fn prepare(&self, directory: &Path) {
        match self {
            Self::Rust => {}
            Self::Python(python) => {
                python::generate(python, directory);
                copy_files(&page("docs/clients/python.md"), directory);
            }
            Self::Node => javascript::prepare(directory),
        }
    }

    /// A script of the tests, where the page's files are.
    fn script(&self, name: &str, directory: &Path) -> Command {
        let tests = repository().join("tests/e2e");
        match self {
            Self::Rust => evermesh(),
            Self::Python(python) => {
                let mut command = Command::new(python);
                command.arg(tests.join(format!("python/{name}.py"))).env("PYTHONPATH", directory);
                command.current_dir(directory);
                command
            }
            Self::Node => {
                let mut command = javascript::node(directory);
                command.arg(tests.join(format!("node_js/{name}.js")));
                command
            }
        }
    }

    fn publisher(&self, at: String, directory: PathBuf) -> Publisher {
        let file = directory.join("published.jsonl");
        if matches!(self, Self::Rust) {
            return Publisher::start(&at, file);
        }
        let language = self.clone();
        let publish = move || {
            let mut command = language.script("publisher", &directory);
            command.arg(&at);
            command
        };
        Publisher::start_with(Box::new(publish), file)
    }

    fn subscriber(&self, at: String, directory: PathBuf, begin: &str) -> Subscriber {
        let file = directory.join("heard.jsonl");
        let language = self.clone();
        let subscribe: Subscribe = Box::new(move |from| {
            let mut command = language.script("subscriber", &directory);
            if !matches!(language, Self::Rust) {
                command.args([&at, from]);
                return command;
            }
            command.args(["subscribe", "--at", &at, "--site", "shop", "--timestamps"]);
            match from.strip_prefix("name:") {
                Some(name) => command.args(["--name", name]),
                None => command.args(["--from", from]),
            };
            command
        });
        Subscriber::start_with(subscribe, begin, file)
    }
}

struct Run {
    mesh: Mesh,
    publisher: Publisher,
    subscriber: Subscriber,
    /// A durable name that nobody knew begins with one.
    missed: u64,
    /// What was heard twice up to the kill before, where that was allowed.
    duplicated: u64,
}

impl Run {
    /// Everything that was assured so far is heard, in order, once.
    fn check(&mut self, killed: &str, twice: bool, renumbered: bool) {
        until(&format!("everything assured is heard after {killed} was killed"), || {
            Verdict::of(&self.publisher.published(), &self.subscriber.history()).lost == 0
        });
        let mut verdict = Verdict::of(&self.publisher.published(), &self.subscriber.history());
        verdict.missed -= self.missed;
        assert!(verdict.is_clean(), "after {killed} was killed: {verdict:?}");
        let again = verdict.duplicated - self.duplicated;
        assert!(twice || again == 0, "after {killed} was killed: {verdict:?}");
        self.duplicated = verdict.duplicated;
        assert!(renumbered || verdict.renumbered == 0, "{killed}: {verdict:?}");
    }

    /// Hands in events, and waits until some of them are assured: the kill falls between.
    fn under_way(&mut self) {
        let before = self.publisher.assured();
        self.publisher.hand_in(EVENTS);
        until("publishing goes on", || self.publisher.assured() > before + EVENTS / 4);
    }

    /// Waits until the node has an acknowledgement of everything that was heard. Gives how many
    /// events that are, and the place in its journal.
    fn acknowledged(&self) -> (usize, Offset) {
        let count = self.subscriber.ids().len();
        let mut place = None;
        until("everything that was heard is acknowledged", || {
            let status = status(&self.mesh.nodes[1]);
            // The stream of one that was killed may still be there for a moment.
            if let [only] = &status["subscriptions"].as_array().unwrap()[..] {
                let all = only["unacknowledged"] == 0;
                place = all.then(|| offset(&only["acknowledged"]));
            }
            place.is_some()
        });
        (count, place.unwrap())
    }

    /// Waits until something behind a place is on its node's disk: then the acknowledgement is too.
    fn stored(&self, place: Offset) {
        until("the place is stored", || {
            offset(&status(&self.mesh.nodes[1])["journal"]["durable"]) > place
        });
    }

    /// The first so many events that were heard never came again.
    fn never_again(&self, first: usize) {
        let ids = self.subscriber.ids();
        let (first, later) = ids.split_at(first);
        let again: Vec<_> = later.iter().filter(|id| first.contains(id)).collect();
        assert!(again.is_empty(), "acknowledged, stored, and heard again: {again:?}");
    }

    fn all_assured(&mut self, handed_in: usize) {
        until("all is assured", || self.publisher.assured() >= handed_in);
    }
}

fn run(language: &Language, mode: Mode) {
    let mesh = Mesh::started(2);
    let directory = mesh.path("");
    language.prepare(&directory);
    let publisher = language.publisher(mesh.nodes[0].at(), directory.clone());
    let begin = if mode == Mode::Name { "name:matrix" } else { "live" };
    let subscriber = language.subscriber(mesh.nodes[1].at(), directory, begin);
    let missed = u64::from(mode == Mode::Name);
    let mut run = Run { mesh, publisher, subscriber, missed, duplicated: 0 };
    until("the subscriber has caught up", || run.subscriber.caught_up() > 0);

    run.under_way();
    run.publisher.kill_and_go_on();
    run.publisher.hand_in(EVENTS);
    until("the new publisher is done", || {
        let last = format!("e{}", 2 * EVENTS - 1);
        run.publisher.published().is_assured(&last)
    });
    run.check("the publisher", false, false);
    let before = run.publisher.assured();

    if mode == Mode::Live {
        run.check("nobody", false, false);
        let caught_up = run.subscriber.caught_up();
        run.subscriber.kill_and_begin("live");
        until("the new subscriber has caught up", || run.subscriber.caught_up() > caught_up);
        run.under_way();
    } else {
        run.under_way();
        let caught_up = run.subscriber.caught_up();
        match mode {
            Mode::Name => run.subscriber.kill_and_begin("name:matrix"),
            _ => run.subscriber.kill_and_resume(),
        }
        // A program that finds nobody at its very beginning ends: its node is killed next.
        until("the new subscriber is there", || run.subscriber.caught_up() > caught_up);
    }
    run.all_assured(before + EVENTS);
    let twice = mode == Mode::Name;
    run.check("the subscriber", twice, false);

    let (acknowledged, place) = run.acknowledged();
    run.under_way();
    run.stored(place);
    run.mesh.nodes[1].end(Signal::KILL);
    run.mesh.nodes[1].start();
    run.all_assured(before + 2 * EVENTS);
    // Its node is killed before what it was told last was stored there, or acknowledged there.
    run.check("its node", true, false);
    run.never_again(acknowledged);

    run.under_way();
    run.mesh.nodes[0].end(Signal::KILL);
    run.mesh.nodes[0].start();
    run.all_assured(before + 3 * EVENTS);
    // What was seen before it was on its origin's disk may be numbered anew.
    run.check("the other node", false, true);
    run.publisher.finish();
}

fn offset(text: &Value) -> Offset {
    text.as_str().unwrap().parse().unwrap()
}

fn rust(mode: Mode) {
    run(&Language::Rust, mode);
}

fn in_python(mode: Mode) {
    if let Some(python) = python::python() {
        run(&Language::Python(python), mode);
    }
}

fn in_node(mode: Mode) {
    if javascript::is_there() {
        run(&Language::Node, mode);
    }
}

#[test]
fn rust_live() {
    rust(Mode::Live);
}

#[test]
fn rust_by_token() {
    rust(Mode::Token);
}

#[test]
fn rust_by_name() {
    rust(Mode::Name);
}

#[test]
fn python_live() {
    in_python(Mode::Live);
}

#[test]
fn python_by_token() {
    in_python(Mode::Token);
}

#[test]
fn python_by_name() {
    in_python(Mode::Name);
}

#[test]
fn node_live() {
    in_node(Mode::Live);
}

#[test]
fn node_by_token() {
    in_node(Mode::Token);
}

#[test]
fn node_by_name() {
    in_node(Mode::Name);
}
