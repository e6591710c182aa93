//! A publisher and a subscriber as processes of their own, and what their files say afterwards.

use std::cell::{Ref, RefCell};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use evermesh_event::verdict::{Fate, History, Published};
use evermesh_event::{FenceToken, Sequence};
use serde_json::Value;

use crate::node::{evermesh, until};

/// Portions of events that wait for a publisher; who hands in more waits with them.
const PORTIONS_MAX: usize = 64;

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

/// What was read of a file that grows by lines.
#[derive(Default)]
struct Read<T> {
    bytes: u64,
    all: T,
}

impl<T> Read<T> {
    /// Takes the lines that were written whole since the last time.
    fn on(&mut self, file: &Path, mut take: impl FnMut(&mut T, &str)) {
        let Ok(mut file) = File::open(file) else { return };
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.bytes)).unwrap();
        file.read_to_end(&mut text).unwrap();
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        self.bytes += text.len() as u64;
        let text = String::from_utf8(text).unwrap();
        text.lines().for_each(|line| take(&mut self.all, line));
    }
}

/// Makes a command for a place to begin at.
pub(crate) type Subscribe = Box<dyn Fn(&str) -> Command>;

/// A subscriber, and the file it writes.
pub(crate) struct Subscriber {
    subscribe: Subscribe,
    file: PathBuf,
    process: Option<Process>,
    heard: RefCell<Read<History>>,
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
        let heard = RefCell::default();
        let mut subscriber = Self { subscribe, file, process: None, heard };
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
    pub(crate) fn history(&self) -> Ref<'_, History> {
        self.heard.borrow_mut().on(&self.file, |history, line| {
            let line = json(line);
            if line.get("opened").is_some() {
                history.opened();
            } else if line.get("missed").is_some() {
                history.missed();
            } else if let Some(event) = line.get("event") {
                assert_eq!(line["attempt"], 1, "{line}");
                let sequence: Sequence = line["sequence"].as_str().unwrap().parse().unwrap();
                let id = event["id"].as_str().unwrap();
                // The node and its journal: another journal numbers anew.
                let token = line["fence_token"].as_str().and_then(|t| t.parse::<FenceToken>().ok());
                let node = || line["origin"].as_str().unwrap().to_owned();
                let origin = token.map_or_else(node, |token| format!("{:?}", token.origin));
                history.heard(&origin, sequence, id);
            }
        });
        Ref::map(self.heard.borrow(), |read| &read.all)
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
    /// A thread writes them into the pipe, which is full while the node is away.
    lines: Option<SyncSender<String>>,
    /// With which its ids begin.
    prefix: &'static str,
    next: usize,
    noted: RefCell<Read<Noted>>,
}

/// What was handed in, and what of it was assured.
#[derive(Default)]
struct Noted {
    published: Published,
    handed_in: usize,
    assured: usize,
}

impl Publisher {
    /// `evermesh publish --input -`.
    pub(crate) fn start(at: &str, file: PathBuf) -> Self {
        Self::start_as("e", at, file)
    }

    /// The same, with ids of its own beside other publishers.
    pub(crate) fn start_as(prefix: &'static str, at: &str, file: PathBuf) -> Self {
        let at = at.to_owned();
        let publish = move || {
            let mut command = evermesh();
            command.args(["publish", "--at", &at, "--site", "shop", "--type", "t"]);
            command.args(["--input", "-", "--json", "--wait-for", "30s"]);
            command
        };
        let mut publisher = Self::new(Box::new(publish), file);
        publisher.prefix = prefix;
        publisher
    }

    /// One of another kind.
    pub(crate) fn start_with(publish: Box<dyn Fn() -> Command>, file: PathBuf) -> Self {
        Self::new(publish, file)
    }

    fn new(publish: Box<dyn Fn() -> Command>, file: PathBuf) -> Self {
        let noted = RefCell::default();
        let (process, lines, prefix, next) = (None, None, "e", 0);
        let mut publisher = Self { publish, file, process, lines, prefix, next, noted };
        publisher.run();
        publisher
    }

    fn run(&mut self) {
        let mut command = (self.publish)();
        command.stdin(Stdio::piped());
        let mut process = start(&mut command, &self.file, &self.file.with_extension("err"));
        let mut stdin = process.0.stdin.take().unwrap();
        let (lines, portions) = sync_channel::<String>(PORTIONS_MAX);
        thread::spawn(move || {
            // A publisher that was killed takes no more.
            while let Ok(lines) = portions.recv()
                && stdin.write_all(lines.as_bytes()).and_then(|()| stdin.flush()).is_ok()
            {
            }
        });
        (self.process, self.lines) = (Some(process), Some(lines));
    }

    /// Hands in events; they are published as fast as the node takes them.
    pub(crate) fn hand_in(&mut self, count: usize) {
        let prefix = self.prefix;
        let line =
            |n| format!("{{\"id\":\"{prefix}{n}\",\"key\":\"k{}\",\"data\":\"{n}\"}}\n", n % 50);
        let lines: String = (self.next..self.next + count).map(line).collect();
        self.next += count;
        let _ = self.lines.as_ref().unwrap().send(lines);
    }

    /// SIGKILL, and another process that goes on with the events after those handed in.
    pub(crate) fn kill_and_go_on(&mut self) {
        self.process = None;
        self.run();
    }

    fn noted(&self) -> Ref<'_, Noted> {
        let mut noted = self.noted.borrow_mut();
        for n in noted.all.handed_in..self.next {
            noted.all.published.note(&format!("{}{n}", self.prefix), Fate::Unknown);
        }
        noted.all.handed_in = self.next;
        noted.on(&self.file, |noted, line| {
            // A line that a kill cut short was assured to nobody.
            let Ok(line) = serde_json::from_str::<Value>(line) else { return };
            if line["assured"] == "stored" {
                let id = line["id"].as_str().unwrap();
                noted.assured += usize::from(!noted.published.is_assured(id));
                noted.published.note(id, Fate::Assured);
            }
        });
        drop(noted);
        Ref::map(self.noted.borrow(), |read| &read.all)
    }

    /// How many events were handed in so far.
    #[allow(dead_code, reason = "tests/root uses it")]
    pub(crate) const fn handed_in(&self) -> usize {
        self.next
    }

    /// The id of the last of them.
    #[allow(dead_code, reason = "tests/root uses it")]
    pub(crate) fn newest(&self) -> Option<String> {
        Some(format!("{}{}", self.prefix, self.next.checked_sub(1)?))
    }

    /// How many events were assured so far.
    pub(crate) fn assured(&self) -> usize {
        self.noted().assured
    }

    /// What was handed in, and what of it was assured.
    pub(crate) fn published(&self) -> Ref<'_, Published> {
        Ref::map(self.noted(), |noted| &noted.published)
    }

    /// Ends the input and waits until everything is assured and the process has ended well.
    pub(crate) fn finish(&mut self) {
        let mut process = self.process.take().unwrap();
        self.lines = None;
        let mut ended = None;
        until("the publisher ends", || {
            ended = process.0.try_wait().unwrap();
            ended.is_some()
        });
        let errors = fs::read_to_string(self.file.with_extension("err")).unwrap();
        assert!(ended.unwrap().success(), "{errors}");
    }
}
