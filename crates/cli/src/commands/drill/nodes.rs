//! The nodes of a drill, and what can be done to them: processes of its own with relays between
//! them, or given ones with commands.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_client::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::given::Given;
use super::plan::{How, Targets};
use super::relay::{Passage, relay};
use crate::Failure;
use crate::mesh::{Mesh, name};
use crate::ports;

/// How long nodes may take to find each other.
const LINK_DEADLINE: Duration = Duration::from_secs(60);

/// Nodes, started here or given.
#[derive(Debug)]
pub(super) enum Nodes {
    Own(Own),
    Given(Vec<Given>),
}

/// Real processes, and a relay in each link.
#[derive(Debug)]
pub(super) struct Own {
    mesh: Mutex<Mesh>,
    count: usize,
    /// By who dials, and whom; the relay is at the other end.
    links: BTreeMap<(usize, usize), watch::Sender<Passage>>,
    /// Ends with this.
    _relays: JoinSet<std::io::Result<()>>,
}

impl Own {
    /// Starts nothing but the relays.
    pub(super) async fn prepare(count: usize, keep: bool) -> Result<Self, Failure> {
        let failed = |error| Failure::io("prepare the links between the nodes", &error);
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let pairs: Vec<_> = pairs.filter(|(from, to)| from != to).collect();
        let mut listeners = BTreeMap::new();
        for (pair, port) in pairs.iter().zip(ports::free(pairs.len()).map_err(failed)?) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            listeners.insert(*pair, listener.map_err(failed)?);
        }
        let (mut links, mut relays) = (BTreeMap::new(), JoinSet::new());
        let mut mesh = Mesh::prepare_through(count, |from, to, port| {
            let listener = listeners.remove(&(from, to));
            let listener = listener.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
            let own = listener.local_addr().map_err(failed)?.port();
            let (turn, passage) = watch::channel(Passage::FREE);
            links.insert((from, to), turn);
            relays.spawn(relay(listener, port, passage));
            Ok(own)
        })?;
        if keep {
            mesh.keep();
        }
        Ok(Self { mesh: Mutex::new(mesh), count, links, _relays: relays })
    }

    /// Starts the nodes, and waits until they are linked.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let mesh = self.mesh.get_mut().unwrap_or_else(PoisonError::into_inner);
        (0..self.count).try_for_each(|node| mesh.start_node(node))?;
        for node in 0..self.count {
            let client = mesh.connect(node)?;
            mesh.linked(&client, LINK_DEADLINE).await?;
        }
        Ok(())
    }

    fn mesh(&self) -> MutexGuard<'_, Mesh> {
        self.mesh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the relays between two: of each, who dialled is one of them.
    fn turn(&self, (one, other): (usize, usize), how: Option<How>) {
        let passage = |there, back| match how {
            None => Passage::FREE,
            Some(How::Refused) => Passage::Refused,
            Some(_) => Passage::Open { there, back },
        };
        let there = how != Some(How::Silent) && how != Some(How::SilentThere);
        let back = how != Some(How::Silent) && how != Some(How::SilentBack);
        for (link, passage) in
            [((one, other), passage(there, back)), ((other, one), passage(back, there))]
        {
            if let Some(turn) = self.links.get(&link) {
                turn.send_replace(passage);
            }
        }
    }
}

impl Nodes {
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Own(own) => own.count,
            Self::Given(given) => given.len(),
        }
    }

    pub(super) fn name(&self, node: usize) -> String {
        match self {
            Self::Own(_) => name(node),
            Self::Given(given) => {
                given.get(node).map(|given| given.name.clone()).unwrap_or_default()
            }
        }
    }

    pub(super) fn client(&self, node: usize) -> Result<Client, Failure> {
        match self {
            Self::Own(own) => own.mesh().connect(node),
            Self::Given(given) => given.get(node).map_or_else(|| Err(no_such(node)), Given::client),
        }
    }

    /// Where its own nodes keep their files.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Own(own) => Some(own.mesh().directory().to_owned()),
            Self::Given(_) => None,
        }
    }

    /// What can be done, and to whom.
    pub(super) fn targets(&self) -> Targets {
        let all: Vec<_> = (0..self.count()).collect();
        match self {
            Self::Own(own) => {
                let part = own.links.keys().copied().filter(|(one, other)| one < other).collect();
                Targets { kill: all.clone(), pause: all, part }
            }
            Self::Given(given) => {
                let able = |able: fn(&Given) -> bool| {
                    let nodes = given.iter().enumerate().filter(move |(_, given)| able(given));
                    nodes.map(|(node, _)| node)
                };
                Targets {
                    kill: able(Given::can_be_killed).collect(),
                    pause: able(Given::can_be_paused).collect(),
                    part: able(Given::can_be_parted).map(|node| (node, node)).collect(),
                }
            }
        }
    }

    pub(super) async fn kill(&self, node: usize) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.mesh().kill_node(node),
            Self::Given(given) => given.get(node).ok_or_else(|| no_such(node))?.kill().await,
        }
    }

    pub(super) async fn start(&self, node: usize) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.mesh().start_node(node),
            Self::Given(given) => given.get(node).ok_or_else(|| no_such(node))?.start().await,
        }
    }

    pub(super) async fn pause(&self, node: usize) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.mesh().pause_node(node),
            Self::Given(given) => given.get(node).ok_or_else(|| no_such(node))?.pause().await,
        }
    }

    pub(super) async fn go_on(&self, node: usize) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.mesh().continue_node(node),
            Self::Given(given) => given.get(node).ok_or_else(|| no_such(node))?.go_on().await,
        }
    }

    pub(super) async fn part(&self, pair: (usize, usize), how: How) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.turn(pair, Some(how)),
            Self::Given(given) => {
                given.get(pair.0).ok_or_else(|| no_such(pair.0))?.part().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn heal(&self, pair: (usize, usize)) -> Result<(), Failure> {
        match self {
            Self::Own(own) => own.turn(pair, None),
            Self::Given(given) => {
                given.get(pair.0).ok_or_else(|| no_such(pair.0))?.heal().await?;
            }
        }
        Ok(())
    }

    /// Whether one of the drill's own processes ended that should be running, and its last words.
    pub(super) fn fallen(&self) -> Option<String> {
        let Self::Own(own) = self else { return None };
        let mut mesh = own.mesh();
        let fallen = mesh.fallen()?;
        Some(format!("{fallen}; {}", mesh.last_words()))
    }

    /// Undoes what was done to given nodes and is not undone, whatever came in between. What cannot
    /// be undone is said.
    pub(super) async fn restore(&self) -> Vec<Failure> {
        let mut failures = Vec::new();
        if let Self::Given(given) = self {
            for given in given {
                failures.extend(given.restore().await);
            }
        }
        failures
    }
}

fn no_such(node: usize) -> Failure {
    Failure::new(70, format!("there is no node {node}"))
}
