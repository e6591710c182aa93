//! Nodes that know each other, with certificates made by the binary, and what the tests do to them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use evermesh_client::{Address, Client, Credentials};
use evermesh_event::world::Clock as _;
use evermesh_identity::ca;
use evermesh_server::world::SystemClock;
use serde_json::Value;

use crate::node::{Node, evermesh, free_port, run, until};

/// Some nodes of one mesh; none runs before it is started.
pub(crate) struct Mesh {
    directory: tempfile::TempDir,
    places: Vec<String>,
    pub(crate) nodes: Vec<Node>,
}

impl Mesh {
    /// `web-1` to `web-N`, each with all others as peers, and the application `shop`.
    pub(crate) fn new(count: usize) -> Self {
        Self::on(&vec!["127.0.0.1"; count])
    }

    /// The same, each node at an address of its own.
    pub(crate) fn on(hosts: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (ca, out) = (path("ca"), path(""));
        // Old enough to have issued certificates that have expired since.
        let authority =
            ca::NewAuthority { dir: ca.clone().into(), trust_domain: "mesh.internal".into() };
        ca::init(&authority, days_ago(30)).unwrap();
        for (number, host) in (1..).zip(hosts) {
            let name = format!("web-{number}");
            let at = ["--dns", "localhost", "--ip", host, "--out", &out];
            succeed(&[&["ca", "issue", "--dir", &ca, "--node", &name][..], &at].concat());
        }
        succeed(&["ca", "issue", "--dir", &ca, "--app", "shop", "--out", &out]);
        let places: Vec<_> = hosts.iter().map(|host| format!("{host}:{}", free_port())).collect();
        let nodes = (0..hosts.len()).map(|own| node(directory.path(), own, &places)).collect();
        Self { directory, places, nodes }
    }

    /// Starts all nodes and waits until each is linked to all others.
    pub(crate) fn started(count: usize) -> Self {
        let mut mesh = Self::new(count);
        mesh.start();
        mesh
    }

    /// Starts all nodes and waits until each is linked to all others.
    pub(crate) fn start(&mut self) {
        self.nodes.iter_mut().for_each(Node::start);
        (0..self.nodes.len()).for_each(|node| self.linked(node));
    }

    /// Waits until a node pulls from every other and feeds every other.
    pub(crate) fn linked(&self, node: usize) {
        until("the nodes are linked", || {
            let status = status(&self.nodes[node]);
            let members = status["members"].as_array().unwrap().iter();
            let linked = members.filter(|m| m["pulling"] == true && m["feeding"] == true);
            linked.count() == self.nodes.len() - 1
        });
    }

    /// Waits until everything that a node holds is on its disk.
    #[allow(dead_code, reason = "tests/root does not use it")]
    pub(crate) fn settled(&self, node: usize) {
        until("everything is on the disk", || {
            let journal = &status(&self.nodes[node])["journal"];
            journal["durable"] == journal["head"]
        });
    }

    /// The journal id of a node that is there.
    #[allow(dead_code, reason = "tests/root does not use it")]
    pub(crate) fn journal_id(&self, node: usize) -> String {
        let status = status(&self.nodes[node]);
        status["journal"]["origin"]["journal"].as_str().unwrap().to_owned()
    }

    /// A file of the mesh.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The shared port of a node, as `--at` takes it.
    pub(crate) fn shared(&self, node: usize) -> String {
        format!("https://{}", self.places[node])
    }

    /// Takes the peers out of a node's configuration.
    #[allow(dead_code, reason = "tests/root does not use it")]
    pub(crate) fn knows_nobody(&self, node: usize) {
        let file = self.nodes[node].config();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("peers = "));
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }

    /// Another node that bears the name and certificate of one and has its peers, with a disk of
    /// its own and a port that nobody dials.
    #[allow(dead_code, reason = "tests/root does not use it")]
    pub(crate) fn twin(&self, of: usize) -> Node {
        let text = std::fs::read_to_string(self.nodes[of].config()).unwrap();
        let (_, more) = text.split_once("shared = ").unwrap();
        let more = format!("shared = {more}").replace(&self.places[of], "127.0.0.1:0");
        let twin = Node::new(self.directory.path(), "twin", &more);
        let text = std::fs::read_to_string(twin.config()).unwrap();
        let text = text.replace("name = \"twin\"", &format!("name = \"web-{}\"", of + 1));
        std::fs::write(twin.config(), text).unwrap();
        twin
    }

    /// A client through a node's local socket.
    pub(crate) fn client(&self, node: usize) -> Client {
        let address: Address = self.nodes[node].at().parse().unwrap();
        Client::connect(&address, &Credentials::default()).unwrap()
    }
}

fn node(directory: &Path, own: usize, places: &[String]) -> Node {
    let name = format!("web-{}", own + 1);
    let peers: Vec<_> = (0..places.len())
        .filter(|other| *other != own)
        .map(|other| format!("\"https://{}\"", places[other]))
        .collect();
    let more = format!(
        "shared = \"{}\"\n[tls]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n\
         ca = \"ca.pem\"\n[mesh]\npeers = [{}]\nlease = \"1s\"\n\
         [[allow]]\nwho = \"spiffe://mesh.internal/app/shop\"\n\
         acts = [\"publish\", \"subscribe\", \"observe\"]\n",
        places[own],
        peers.join(", ")
    );
    Node::new(directory, &name, &more)
}

/// So many days before now.
pub(crate) fn days_ago(days: u64) -> SystemTime {
    SystemClock.wall() - Duration::from_secs(days * 24 * 60 * 60)
}

/// Runs a command that must succeed.
pub(crate) fn succeed(arguments: &[&str]) -> Output {
    let output = run(evermesh().args(arguments));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "evermesh {}: {said}", arguments.join(" "));
    output
}

/// What a node says of itself.
pub(crate) fn status(node: &Node) -> Value {
    let output = succeed(&["status", "--json", "--at", &node.at()]);
    serde_json::from_slice(&output.stdout).unwrap()
}
