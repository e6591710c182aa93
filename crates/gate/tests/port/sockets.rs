//! Real sockets: the shared port with mutual TLS, and the local socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use evermesh_event::NodeName;
use evermesh_gate::{
    Admission, Counters, Drain, DrainHandle, Gate, Limits, Listener, PeerCredentials, Routes,
    Service, Tcp, Tls, Unix,
};
use evermesh_identity::{Credentials, TlsFiles, ca, load, load_client};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::health_reporter;

use crate::pipes::{Caller, seen, until};
use crate::services;

struct Serving {
    counters: Arc<Counters>,
    handle: DrainHandle,
    ended: JoinHandle<()>,
}

fn serve<L, A>(routes: Routes, listener: L, admission: A) -> Serving
where
    L: Listener,
    A: Admission<Raw = L::Io>,
{
    let (drain, handle) = Drain::new();
    let counters = Arc::new(Counters::default());
    let gate = Gate { routes, limits: Limits::default(), counters: Arc::clone(&counters) };
    let ended = tokio::spawn(gate.serve(listener, admission, drain));
    Serving { counters, handle, ended }
}

impl Serving {
    async fn end(self) {
        self.handle.stop();
        self.ended.await.unwrap();
    }
}

/// A mesh with the nodes `web-1` and `web-2` and the application `shop`.
struct Mesh {
    dir: tempfile::TempDir,
    web_1: Credentials,
    web_2: Credentials,
    shop: Arc<ClientConfig>,
}

fn mesh(trust_domain: &str) -> Mesh {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = dir.path().join("ca");
    let new = ca::NewAuthority { dir: authority.clone(), trust_domain: trust_domain.to_owned() };
    ca::init(&new, now).unwrap();
    let issue = |subject| {
        let out_dir = authority.join("leaves");
        let leaf = ca::Leaf { subject, dns: Vec::new(), ip: Vec::new(), out_dir, days: 1 };
        ca::issue(&authority, &leaf, now).unwrap()
    };
    let node = |name: &str| {
        let issued = issue(ca::Subject::Node(NodeName::new(name).unwrap()));
        let files = TlsFiles { cert: issued.cert, key: issued.key, ca: issued.ca };
        load(&files, &[], now).unwrap()
    };
    let shop = issue(ca::Subject::App("shop".to_owned()));
    let shop = load_client(Some((&shop.cert, &shop.key)), &shop.ca).unwrap();
    Mesh { web_1: node("web-1"), web_2: node("web-2"), shop, dir }
}

async fn shared_port(mesh: &Mesh) -> (SocketAddr, Serving) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::new(Arc::clone(&mesh.web_1.server), mesh.web_1.naming.clone());
    (address, serve(services::routes(), Tcp::new(listener), tls))
}

async fn dial(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("web-1").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

async fn who<Io>(io: Io) -> String
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let caller = Caller::speak(io).await.unwrap();
    caller.call("/test.v1.Who/Ask").await.text("identity").to_owned()
}

#[tokio::test]
async fn the_shared_port_knows_its_callers_by_certificate() {
    let mesh = mesh("mesh.internal");
    let (address, serving) = shared_port(&mesh).await;
    let member = dial(address, Arc::clone(&mesh.web_2.client)).await.unwrap();
    assert_eq!(who(member).await, "spiffe://mesh.internal/node/web-2");
    let application = dial(address, Arc::clone(&mesh.shop)).await.unwrap();
    assert_eq!(who(application).await, "spiffe://mesh.internal/app/shop");
    serving.end().await;
}

#[tokio::test]
async fn who_has_no_certificate_of_this_mesh_is_refused() {
    let mesh = mesh("mesh.internal");
    let other = self::mesh("mesh.internal");
    let (address, serving) = shared_port(&mesh).await;

    // Not TLS at all.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    until(|| seen(&serving.counters.refused) == 1).await;

    // A node of another mesh that does not trust this one either, and hangs up with an alert.
    assert!(dial(address, Arc::clone(&other.web_2.client)).await.is_err());
    until(|| seen(&serving.counters.refused) == 2).await;

    // Without a certificate, and with one of another mesh's CA. In TLS 1.3 the client is done
    // first, and hears that it was refused when it reads.
    let foreign = other.dir.path().join("ca").join("leaves");
    let (cert, key) = (foreign.join("web-2.pem"), foreign.join("web-2.key"));
    for (refused, own) in [(3, None), (4, Some((cert.as_path(), key.as_path())))] {
        let trusting = load_client(own, &mesh.dir.path().join("ca").join("ca.pem")).unwrap();
        if let Ok(mut stream) = dial(address, trusting).await {
            assert!(stream.read_u8().await.is_err());
        }
        until(|| seen(&serving.counters.refused) == refused).await;
    }

    assert_eq!(seen(&serving.counters.calls), 0);
    let member = dial(address, Arc::clone(&mesh.web_2.client)).await.unwrap();
    assert_eq!(who(member).await, "spiffe://mesh.internal/node/web-2");
    serving.end().await;
}

#[tokio::test]
async fn who_never_finishes_its_handshake_delays_nobody() {
    let mesh = mesh("mesh.internal");
    let (address, serving) = shared_port(&mesh).await;
    let mut lorises = Vec::new();
    for _ in 0..8 {
        let mut loris = TcpStream::connect(address).await.unwrap();
        loris.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        lorises.push(loris);
    }
    until(|| seen(&serving.counters.accepted) == 8).await;
    let member = dial(address, Arc::clone(&mesh.web_2.client)).await.unwrap();
    assert_eq!(who(member).await, "spiffe://mesh.internal/node/web-2");
    // They are still at it while the other is served.
    assert_eq!(seen(&serving.counters.refused) + seen(&serving.counters.abandoned), 0);
    serving.end().await;
}

#[tokio::test]
async fn the_local_socket_knows_its_callers_by_account() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evermesh.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let named = PeerCredentials::new(|_| Some("somebody".to_owned()));
    let serving = serve(services::routes(), Unix::new(listener), named);
    let stream = UnixStream::connect(&path).await.unwrap();
    let own = stream.peer_cred().unwrap();
    let identity = who(stream).await;
    let expected = evermesh_identity::Identity::local(own.uid(), own.gid(), None, Some("somebody"));
    assert_eq!(identity, **expected.text());
    serving.end().await;
}

#[tokio::test]
async fn a_tonic_service_is_a_built_in_and_a_tonic_client_reaches_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evermesh.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (reporter, health) = health_reporter();
    reporter.set_service_status("test.v1.Who", tonic_health::ServingStatus::Serving).await;
    let routes = Routes::builder().service("grpc.health.v1.Health", Service::new(health)).build();
    let serving = serve(routes, Unix::new(listener), PeerCredentials::new(|_| None));

    let uri = format!("unix:{}", path.display());
    let channel = tonic::transport::Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let serving_status = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;
    let checked = client.check(of("test.v1.Who")).await.unwrap().into_inner();
    assert_eq!(checked.status, serving_status);
    // Streams, with messages as they come.
    let mut watch = client.watch(of("test.v1.Who")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving_status);
    reporter.set_service_status("test.v1.Who", tonic_health::ServingStatus::NotServing).await;
    assert_ne!(watch.message().await.unwrap().unwrap().status, serving_status);
    assert_eq!(client.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
    serving.end().await;
    assert!(watch.message().await.is_err());
}
