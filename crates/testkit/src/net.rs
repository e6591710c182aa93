//! The simulated network: a dialler, a listener, and identities in plain words.
//!
//! Whoever connects says in its first bytes who it is, and is believed: the place of TLS is taken
//! by the simulation, which starts only honest parties.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::NodeName;
use evermesh_gate::{Admission, Listener, Refusal, Remote};
use evermesh_identity::Identity;
use evermesh_peer::{Dial, DialError, Dialer, Dialled};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

use crate::standstill::{Connection, Standstill};

/// The shared port of every simulated node.
pub const PORT: u16 = 7443;
/// The longest name that a caller says.
const NAME_BYTES_MAX: usize = 63;
/// How long a dialler waits for a connection: a cut swallows the first packet as well.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);
/// An application looks so often whether its node is still there, and waits so long for an answer.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);

/// Connects to a node and says who is calling; an application says an empty name.
///
/// # Errors
/// If nobody is there.
pub async fn connect(host: &str, name: &str, machine: &Standstill) -> io::Result<Connection> {
    machine.over().await;
    let connecting = async {
        let mut stream = TcpStream::connect((host, PORT)).await?;
        stream.set_nodelay(true)?;
        let length = u8::try_from(name.len()).map_err(io::Error::other)?;
        stream.write_all(&[&[length], name.as_bytes()].concat()).await?;
        Ok(Connection::new(stream, machine.clone()))
    };
    tokio::time::timeout(DIAL_DEADLINE, connecting).await?
}

/// A gRPC channel of an application to a node: one connection, none after it.
///
/// # Errors
/// If nobody is there.
pub async fn channel(host: &str, machine: &Standstill) -> Result<Channel, tonic::transport::Error> {
    let (host, machine) = (host.to_owned(), machine.clone());
    let connector = tower::service_fn(move |_: http::Uri| {
        let (host, machine) = (host.clone(), machine.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(connect(&host, "", &machine).await?)) }
    });
    Endpoint::from_static("http://node.evermesh")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// Dials simulated nodes: the address `https://web-2:7443` is the host `web-2`.
#[derive(Clone, Debug)]
pub struct SimDialer {
    /// Who dials.
    pub name: NodeName,
    /// Who answers where.
    pub hosts: Hosts,
    /// From where.
    pub machine: Standstill,
}

/// Under which name the node of each host runs: its host's, unless it was renamed. Clones are the
/// same.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<String, String>,
    gone: BTreeSet<String>,
}

impl Hosts {
    /// The name of the node on a host.
    #[must_use]
    pub fn name_of(&self, host: &str) -> String {
        self.known().names.get(host).map_or_else(|| host.to_owned(), Clone::clone)
    }

    /// The node on a host has another name from its next start on.
    pub fn rename(&self, host: &str, name: String) {
        self.known().names.insert(host.to_owned(), name);
    }

    /// Nobody is configured with this host any more, from the next start on.
    pub fn remove(&self, host: &str) {
        self.known().gone.insert(host.to_owned());
    }

    /// Whether it is nobody's peer any more.
    #[must_use]
    pub fn is_gone(&self, host: &str) -> bool {
        self.known().gone.contains(host)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer for SimDialer {
    fn dial(&self, address: &str) -> Dial {
        let (dialer, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let host = address.strip_prefix("https://").and_then(|rest| rest.split(':').next());
            let wrong = || DialError::Address(address.clone());
            let host = host.ok_or_else(wrong)?.to_owned();
            let io = connect(&host, dialer.name.as_str(), &dialer.machine).await;
            let io =
                io.map_err(|source| DialError::Connect { address: address.clone(), source })?;
            // Whoever runs there now: a connection outlives no node.
            let name = dialer.hosts.name_of(&host);
            let identity = Identity::member_named(NodeName::new(&name).map_err(|_| wrong())?);
            Ok(Dialled { io: Box::new(io), identity })
        })
    }
}

/// Listens on a simulated host.
pub struct SimListener {
    listener: TcpListener,
    machine: Standstill,
}

impl SimListener {
    /// Listens on this host.
    ///
    /// # Errors
    /// If somebody else does.
    pub async fn bind(machine: Standstill) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(("0.0.0.0", PORT)).await?, machine })
    }
}

impl Listener for SimListener {
    type Io = Connection;

    async fn accept(&mut self) -> io::Result<(Connection, Remote)> {
        self.machine.over().await;
        let (stream, from) = self.listener.accept().await?;
        Ok((Connection::new(stream, self.machine.clone()), Remote::new(from.to_string())))
    }
}

/// Believes what callers say.
#[derive(Clone, Copy, Debug)]
pub struct Believing;

impl Admission for Believing {
    type Raw = Connection;
    type Io = Connection;

    async fn admit(&self, mut raw: Connection) -> Result<(Connection, Identity), Refusal> {
        let mut read = async || {
            let length = usize::from(raw.read_u8().await?);
            let mut name = [0; NAME_BYTES_MAX];
            let name = name.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            raw.read_exact(name).await?;
            String::from_utf8(name.to_vec()).map_err(io::Error::other)
        };
        let name = read().await.map_err(|_| Refusal::Gone)?;
        let identity = match NodeName::new(&name) {
            Ok(name) => Identity::member_named(name),
            // Applications are known by the account that runs the nodes.
            Err(_) => Identity::local(0, 0, None, Some("root")),
        };
        Ok((raw, identity))
    }
}
