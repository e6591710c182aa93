//! A publisher and a subscriber as processes of their own, and what their files say afterwards.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use evermesh_event::Sequence;
use evermesh_event::verdict::{Fate, History, Published};
use serde_json::Value;

use crate::node::{evermesh, until};

/// A process that ends by its own pid, at the latest when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, output: &Path, errors: &Path) -> Process {
    let open = |path| File::options().create(true).append(true).open(path).unwrap();
    let child = command.stdout(open(output)).stderr(open(errors)).spawn().unwrap();
    Process(child)
}

/// Makes a command for a place to begin at.
pub(crate) type Subscribe = Box<dyn Fn(&str) -> Command>;

/// A subscriber, and the file it writes.
pub(crate) struct Subscriber {
    subscribe: Subscribe,
    file: PathBuf,
    process: Option<Process>,
}

impl Subscriber {
    /// `evermesh subscribe`: hears site `shop` from the beginning.
    pub(crate) fn start(at: &str, file: PathBuf) -> Self {
        let at = at.to_owned();
        let subscribe = move |from: &str| {
            let mut command = evermesh();
            command.args(["subscribe", "--at", &at, "--site", "shop", "--from", from]);
            command.args(["--json", "--timestamps"]);
            command
        };
        Self::start_with(Box::new(subscribe), "beginning", file)
    }

    /// One of another kind.
    pub(crate) fn start_with(subscribe: Subscribe, from: &str, file: PathBuf) -> Self {
        let mut subscriber = Self { subscribe, file, process: None };
        subscriber.run(from);
        subscriber
    }

    fn run(&mut self, from: &str) {
        let mut command = (self.subscribe)(from);
        command.stdin(Stdio::null());
        self.process = Some(start(&mut command, &self.file, &self.file.with_extension("err")));
    }

    /// How often it said that it had caught up.
    pub(crate) fn caught_up(&self) -> usize {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("{\"caught_up\"")).count()
    }

    /// SIGKILL, and another process that begins there.
    pub(crate) fn kill_and_begin(&mut self, from: &str) {
        self.process = None;
        let whole = self.whole().len();
        File::options().write(true).open(&self.file).unwrap().set_len(whole as u64).unwrap();
        self.run(from);
    }

    /// The lines that were written whole.
    fn whole(&self) -> String {
        let mut text = fs::read_to_string(&self.file).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    /// SIGKILL, and another process that goes on after the last line that was written whole.
    pub(crate) fn kill_and_resume(&mut self) {
        self.process = None;
        let text = self.whole();
        File::options().write(true).open(&self.file).unwrap().set_len(text.len() as u64).unwrap();
        let lines = text.lines().rev();
        let token =
            lines.map(json).find_map(|line| Some(line.get("resume_token")?.as_str()?.to_owned()));
        self.run(token.as_deref().unwrap_or("beginning"));
    }

    /// The ids of the events that it heard so far, in their order, each as often as it was heard.
    pub(crate) fn ids(&self) -> Vec<String> {
        let id = |line: Value| Some(line.get("event")?["id"].as_str()?.to_owned());
        self.whole().lines().map(json).filter_map(id).collect()
    }

    /// What it heard so far.
    pub(crate) fn history(&self) -> History {
        let mut history = History::default();
        for line in self.whole().lines().map(json) {
            if line.get("opened").is_some() {
                history.opened();
            } else if line.get("missed").is_some() {
                history.missed();
            } else if let Some(event) = line.get("event") {
                assert_eq!(line["attempt"], 1, "{line}");
                let sequence: Sequence = line["sequence"].as_str().unwrap().parse().unwrap();
                let id = event["id"].as_str().unwrap();
                history.heard(line["origin"].as_str().unwrap(), sequence, id);
            }
        }
        history
    }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A publisher that is fed with lines, and the file of what it was assured.
pub(crate) struct Publisher {
    publish: Box<dyn Fn() -> Command>,
    file: PathBuf,
    process: Option<Process>,
    next: usize,
}

impl Publisher {
    /// `evermesh publish --input -`.
    pub(crate) fn start(at: &str, file: PathBuf) -> Self {
        let at = at.to_owned();
        let publish = move || {
            let mut command = evermesh();
            command.args(["publish", "--at", &at, "--site", "shop", "--type", "t"]);
            command.args(["--input", "-", "--json"]);
            command
        };
        Self::start_with(Box::new(publish), file)
    }

    /// One of another kind.
    pub(crate) fn start_with(publish: Box<dyn Fn() -> Command>, file: PathBuf) -> Self {
        let mut publisher = Self { publish, file, process: None, next: 0 };
        publisher.run();
        publisher
    }

    fn run(&mut self) {
        let mut command = (self.publish)();
        command.stdin(Stdio::piped());
        self.process = Some(start(&mut command, &self.file, &self.file.with_extension("err")));
    }

    /// Hands in events; they are published as fast as the node takes them.
    pub(crate) fn hand_in(&mut self, count: usize) {
        let stdin = self.process.as_mut().unwrap().0.stdin.as_mut().unwrap();
        let lines: String = (self.next..self.next + count)
            .map(|n| format!("{{\"id\":\"e{n}\",\"key\":\"k{}\",\"data\":\"{n}\"}}\n", n % 50))
            .collect();
        self.next += count;
        // A publisher that was killed takes no more.
        let _ = stdin.write_all(lines.as_bytes()).and_then(|()| stdin.flush());
    }

    /// SIGKILL, and another process that goes on with the events after those handed in.
    pub(crate) fn kill_and_go_on(&mut self) {
        self.process = None;
        self.run();
    }

    /// How many events were assured so far.
    pub(crate) fn assured(&self) -> usize {
        self.published().assured()
    }

    /// What was handed in, and what of it was assured.
    pub(crate) fn published(&self) -> Published {
        let mut published = Published::default();
        (0..self.next).for_each(|n| published.note(&format!("e{n}"), Fate::Unknown));
        let text = fs::read_to_string(&self.file).unwrap();
        for line in text.lines() {
            // A line that a kill cut short was assured to nobody.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            if line["assured"] == "stored" {
                published.note(line["id"].as_str().unwrap(), Fate::Assured);
            }
        }
        published
    }

    /// Ends the input and waits until everything is assured and the process has ended well.
    pub(crate) fn finish(&mut self) {
        let mut process = self.process.take().unwrap();
        drop(process.0.stdin.take());
        let mut ended = None;
        until("the publisher ends", || {
            ended = process.0.try_wait().unwrap();
            ended.is_some() || {
                std::thread::yield_now();
                false
            }
        });
        let errors = fs::read_to_string(self.file.with_extension("err")).unwrap();
        assert!(ended.unwrap().success(), "{errors}");
    }
}
