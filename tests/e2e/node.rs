//! A node as a child process, and commands as people type them.
//!
//! A process ends by its own pid, at the latest when it is dropped. What is waited for has a
//! deadline; waiting means to ask again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that is waited for, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two questions, so that whoever is asked has the processor meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// The binary, without variables of this process that would change what it does.
pub(crate) fn evermesh() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evermesh"));
    let ours = |name: &str| name.starts_with("EVERMESH_") || name.starts_with("OTEL_");
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command
}

/// Another program, with the variables of a command.
fn around(command: &Command, program: &str) -> Command {
    let mut outer = Command::new(program);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Exit code and standard error of a command that must fail and print nothing else.
pub(crate) fn failure(command: &mut Command) -> (i32, String) {
    let output = run(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{text}");
    (output.status.code().unwrap(), text)
}

/// Asks until the answer is yes.
pub(crate) fn until(what: &str, asked: impl FnMut() -> bool) {
    until_within(DEADLINE, what, asked);
}

/// The same for what takes longer by itself.
pub(crate) fn until_within(within: Duration, what: &str, mut asked: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !asked() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// A port that is free now, and that this process gives to nobody else. Below the range from which
/// the kernel takes ports of outgoing connections, so that none of them comes in between.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    // Two runs of the tests at once begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    let mut ports = (0..COUNT).map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        FIRST + (begin + next) % COUNT
    });
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// One node with its configuration, data, socket and log in a directory.
pub(crate) struct Node {
    directory: PathBuf,
    name: String,
    /// What stands over its configuration.
    variables: Vec<(&'static str, String)>,
    /// The command that runs it in its place, such as a network of its own.
    within: Vec<String>,
    child: Option<Child>,
}

impl Node {
    /// Writes the configuration; `more` is what it has besides name and places.
    pub(crate) fn new(directory: &Path, name: &str, more: &str) -> Self {
        let node = Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            variables: Vec::new(),
            within: Vec::new(),
            child: None,
        };
        let text = format!(
            "[node]\nname = \"{name}\"\ndata_dir = \"{name}.data\"\ndrain = \"5s\"\n\n\
             [listen]\nlocal = \"{name}.sock\"\n{more}"
        );
        fs::write(node.config(), text).unwrap();
        node
    }

    /// A file of the node.
    fn file(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.name))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.file("toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Its address for `--at`.
    pub(crate) fn at(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Keeps no disk, from the next start on.
    #[allow(dead_code, reason = "tests/root does not use it")]
    pub(crate) fn in_memory(&self) {
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text.replace(&format!("data_dir = \"{}.data\"\n", self.name), "");
        let journal = "[journal]\ndurability = \"memory\"\n\n[listen]";
        fs::write(self.config(), text.replacen("[listen]", journal, 1)).unwrap();
    }

    /// Sets a variable of its environment, from the next start on.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.variables.push((variable, value.to_owned()));
    }

    /// Runs it by this command, from the next start on. The command becomes the node: it has the
    /// same process.
    #[allow(dead_code, reason = "tests/root uses it")]
    pub(crate) fn within(&mut self, command: &[&str]) {
        self.within = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// `serve`, not run yet.
    pub(crate) fn serve(&self) -> Command {
        let mut command = evermesh();
        if let [program, arguments @ ..] = &self.within[..] {
            let inner = command.get_program().to_owned();
            command = around(&command, program);
            command.args(arguments).arg(inner);
        }
        command.arg("serve").arg("--config").arg(self.config());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&mut self) {
        if let Err(ended) = self.try_start() {
            panic!("the node ended, {ended}: {}", self.log());
        }
    }

    /// Starts it and waits until it serves, or has ended instead.
    pub(crate) fn try_start(&mut self) -> Result<(), ExitStatus> {
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        let mut command = self.serve();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let at = self.at();
        let child = self.child.insert(command.spawn().unwrap());
        let mut ended = None;
        until("the node serves", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || run(evermesh().args(["health", "--at", &at])).status.success()
        });
        match ended {
            Some(ended) => Err(ended),
            None => Ok(()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut ended = None;
        until("the node ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
