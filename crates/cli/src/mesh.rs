//! Nodes for the demonstration, the bench and the drill: fresh certificates, configuration files
//! and real processes in a temporary directory. Dropping it ends every process by its own pid and
//! removes the directory.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use evermesh_client::{Address, Client, Credentials};
use evermesh_event::NodeName;
use evermesh_identity::ca;
use evermesh_proto::v1;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, ports};

/// How many nodes the demonstration and the bench have.
pub(crate) const NODES: usize = 3;
/// The scope of the demonstration's events.
pub(crate) const SITE: &str = "demo";

/// How often a state is asked for that nothing announces.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Nodes, and at most one subscriber process beside each.
#[derive(Debug)]
pub(crate) struct Mesh {
    program: PathBuf,
    directory: tempfile::TempDir,
    nodes: Vec<Option<Child>>,
    subscribers: Vec<Option<Child>>,
}

impl Mesh {
    /// Makes certificates and configurations of so many nodes; starts nothing.
    pub(crate) fn prepare(count: usize) -> Result<Self, Failure> {
        Self::prepare_through(count, |_, _, port| Ok(port))
    }

    /// The same, where a node does not dial another's port, but the one that is given instead:
    /// `through` is asked with who dials, whom, and the port of that one.
    pub(crate) fn prepare_through(
        count: usize,
        mut through: impl FnMut(usize, usize, u16) -> Result<u16, Failure>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("find this program's own file", &error))?;
        let directory = tempfile::Builder::new()
            .prefix("evermesh-")
            .tempdir()
            .map_err(|error| Failure::io("make a temporary directory", &error))?;
        let none = || (0..count).map(|_| None).collect();
        let mesh = Self { program, directory, nodes: none(), subscribers: none() };
        mesh.certificates()?;
        let ports = ports::free(count).map_err(|error| Failure::io("find free ports", &error))?;
        for (node, port) in ports.iter().enumerate() {
            let others = ports.iter().enumerate().filter(|(other, _)| *other != node);
            let dialled = others.map(|(other, port)| through(node, other, *port));
            let text = configuration(node, *port, &dialled.collect::<Result<Vec<_>, _>>()?);
            fs::write(mesh.path(node, "toml"), text)
                .map_err(|error| Failure::io("write a configuration", &error))?;
        }
        Ok(mesh)
    }

    fn certificates(&self) -> Result<(), Failure> {
        let failed = |error: evermesh_identity::Error| Failure::new(70, error.to_string());
        let authority = self.directory.path().join("ca");
        let now = SystemTime::now();
        let new = ca::NewAuthority { dir: authority.clone(), trust_domain: "demo.internal".into() };
        ca::init(&new, now).map_err(failed)?;
        for node in 0..self.nodes.len() {
            let name = NodeName::new(&name(node)).map_err(|e| Failure::new(70, e.to_string()))?;
            let leaf = ca::Leaf {
                subject: ca::Subject::Node(name),
                dns: vec!["localhost".into()],
                ip: vec![Ipv4Addr::LOCALHOST.into()],
                out_dir: self.directory.path().to_owned(),
                days: 1,
            };
            ca::issue(&authority, &leaf, now).map_err(failed)?;
        }
        Ok(())
    }

    /// Starts a node; its log lines go to a file.
    pub(crate) fn start_node(&mut self, node: usize) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(self.path(node, "log"));
        let log = log.map_err(|error| Failure::io("open a log file", &error))?;
        let child = Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(self.path(node, "toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::io("start a node", &error))?;
        if let Some(place) = self.nodes.get_mut(node) {
            *place = Some(child);
        }
        Ok(())
    }

    /// Starts the subscriber process beside a node; what it hears goes to a file.
    pub(crate) fn start_subscriber(&mut self, node: usize, plant: bool) -> Result<(), Failure> {
        let record = File::create(self.path(node, "jsonl"));
        let record = record.map_err(|error| Failure::io("make a record", &error))?;
        let mut command = Command::new(&self.program);
        command.arg("subscribe").arg("--at").arg(self.address(node));
        command.args(["--site", SITE, "--from", "beginning", "--json", "--timestamps"]);
        if plant {
            command.args(["--plant", "drop-one"]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(record)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::io("start a subscriber", &error))?;
        if let Some(place) = self.subscribers.get_mut(node) {
            *place = Some(child);
        }
        Ok(())
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub(crate) fn kill_node(&mut self, node: usize) -> Result<(), Failure> {
        end(self.nodes.get_mut(node)).map_err(|error| Failure::io("kill a node", &error))
    }

    /// SIGSTOP: it stays, and does nothing.
    pub(crate) fn pause_node(&self, node: usize) -> Result<(), Failure> {
        self.signal(node, Signal::STOP).map_err(|error| Failure::io("pause a node", &error))
    }

    /// SIGCONT: it goes on, and does not know for how long it did not.
    pub(crate) fn continue_node(&self, node: usize) -> Result<(), Failure> {
        self.signal(node, Signal::CONT).map_err(|error| Failure::io("continue a node", &error))
    }

    fn signal(&self, node: usize, signal: Signal) -> io::Result<()> {
        let child = self.nodes.get(node).and_then(Option::as_ref);
        let pid = child.and_then(|child| Pid::from_raw(child.id().cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("it is not running"))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether a process that should be running has ended, and which.
    pub(crate) fn fallen(&mut self) -> Option<String> {
        for (kind, children) in
            [("node", &mut self.nodes), ("subscriber at", &mut self.subscribers)]
        {
            for (n, child) in children.iter_mut().enumerate() {
                if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
                    return Some(format!("{kind} {} ended by itself: {status}", name(n)));
                }
            }
        }
        None
    }

    /// The last log line of each node that has one: why it ended, most likely.
    pub(crate) fn last_words(&self) -> String {
        let last = |node| {
            let log = fs::read_to_string(self.path(node, "log")).ok()?;
            Some(format!("{} said last: {}", name(node), log.lines().last()?))
        };
        (0..self.nodes.len()).filter_map(last).collect::<Vec<_>>().join("; ")
    }

    /// A client of a node, through its local socket. Connects when it is first used.
    pub(crate) fn connect(&self, node: usize) -> Result<Client, Failure> {
        let address: Address =
            self.address(node).parse().map_err(|error| Failure::new(70, format!("{error}")))?;
        Client::connect(&address, &Credentials::default())
            .map_err(|error| Failure::new(69, error.to_string()))
    }

    /// Waits until the client's node pulls from every other and feeds every other.
    pub(crate) async fn linked(
        &mut self,
        client: &Client,
        within: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + within;
        loop {
            let status = client.admin().get_status(v1::GetStatusRequest {}).await;
            let members = status.map(|status| status.into_inner().members).unwrap_or_default();
            let linked = members.iter().filter(|member| member.pulling && member.feeding).count();
            if linked + 1 == self.nodes.len() {
                return Ok(());
            }
            if let Some(fallen) = self.fallen() {
                return Err(Failure::new(70, format!("{fallen}; {}", self.last_words())));
            }
            if Instant::now() > deadline {
                let text = format!("the nodes did not find each other; {}", self.last_words());
                return Err(Failure::new(69, text));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// CPU time of all nodes so far: user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let pids = self.nodes.iter().flatten().map(Child::id);
        pids.filter_map(cpu_of).sum()
    }

    /// Resident memory of the largest node, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let pids = self.nodes.iter().flatten().map(Child::id);
        pids.filter_map(memory_of).max().unwrap_or_default()
    }

    /// The local socket of a node, as `--at` takes it.
    pub(crate) fn address(&self, node: usize) -> String {
        format!("unix:{}", self.path(node, "sock").display())
    }

    /// A file of a node.
    pub(crate) fn path(&self, node: usize, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{}.{kind}", name(node)))
    }

    /// The directory that goes when this is dropped.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory stays.
    pub(crate) fn keep(&mut self) {
        self.directory.disable_cleanup(true);
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for child in self.subscribers.iter_mut().chain(&mut self.nodes) {
            // What cannot be ended here has ended by itself.
            let _ = end(Some(child));
        }
    }
}

/// The configuration of a node, and the ports at which it dials its peers.
fn configuration(node: usize, port: u16, peers: &[u16]) -> String {
    let peers: Vec<_> = peers.iter().map(|port| format!("\"https://127.0.0.1:{port}\"")).collect();
    let name = name(node);
    format!(
        "[node]\nname = \"{name}\"\ndata_dir = \"{name}.data\"\n\n\
         [listen]\nshared = \"127.0.0.1:{port}\"\nlocal = \"{name}.sock\"\n\n\
         [tls]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\nca = \"ca.pem\"\n\n\
         [mesh]\npeers = [{}]\n",
        peers.join(", ")
    )
}

/// Ends a process by its own pid and waits for it.
fn end(child: Option<&mut Option<Child>>) -> io::Result<()> {
    if let Some(mut child) = child.and_then(Option::take) {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Fields 14 and 15 of `/proc/PID/stat`, in ticks; see proc_pid_stat(5).
fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>().ok()?.into_iter().sum();
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// The line `VmRSS` of `/proc/PID/status`; see proc_pid_status(5).
fn memory_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    cpu_of(std::process::id()).unwrap_or_default()
}

/// The name of a node.
pub(crate) fn name(node: usize) -> String {
    format!("web-{}", node + 1)
}
