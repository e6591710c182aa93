//! TLS: who is let in, and what is said to who is not (P10).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use evermesh_client::{Client, Credentials, Error, Fault, Publisher};
use evermesh_event::NodeName;
use evermesh_identity::{TlsFiles, ca};
use evermesh_proto::v1;

use crate::scripted::Node;

struct Mesh {
    directory: tempfile::TempDir,
    node: Node,
    port: u16,
}

fn issue(dir: &Path, subject: ca::Subject) {
    let dns =
        if matches!(subject, ca::Subject::Node(_)) { vec!["localhost".into()] } else { vec![] };
    let leaf = ca::Leaf { subject, dns, ip: vec![], out_dir: dir.to_owned(), days: 1 };
    ca::issue(dir, &leaf, SystemTime::now()).unwrap();
}

impl Mesh {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().to_owned();
        let authority = ca::NewAuthority { dir: dir.clone(), trust_domain: "mesh.internal".into() };
        ca::init(&authority, SystemTime::now()).unwrap();
        issue(&dir, ca::Subject::Node(NodeName::new("web-1").unwrap()));
        issue(&dir, ca::Subject::App("shop".into()));
        let file = |name: &str| dir.join(name);
        let files =
            TlsFiles { cert: file("web-1.pem"), key: file("web-1.key"), ca: file("ca.pem") };
        let tls = evermesh_identity::load(&files, &[], SystemTime::now()).unwrap();
        let (node, port) = Node::start_tls(tls.server);
        Self { directory, node, port }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    fn publisher(&self, host: &str, credentials: &Credentials) -> Publisher {
        let address = format!("https://{host}:{}", self.port).parse().unwrap();
        Publisher::new(Client::connect(&address, credentials).unwrap())
    }

    fn application(&self) -> Credentials {
        Credentials {
            cert: self.file("shop.pem"),
            key: self.file("shop.key"),
            ca: self.file("ca.pem"),
        }
    }
}

async fn publish(publisher: &Publisher) -> Result<(), Error> {
    let event = v1::Event { site: "shop".into(), r#type: "t".into(), ..Default::default() };
    let wait_for = Duration::ZERO;
    publisher.publish(vec![event], v1::Assurance::Stored, wait_for).await.map(|_| ())
}

#[tokio::test]
async fn an_application_with_its_certificate_is_let_in() {
    let mut mesh = Mesh::new();
    let publisher = mesh.publisher("localhost", &mesh.application());
    let (published, _) =
        tokio::join!(publish(&publisher), async { mesh.node.published().await.take(false) });
    published.unwrap();
}

#[tokio::test]
async fn without_a_certificate_the_refusal_is_named() {
    let mesh = Mesh::new();
    let anonymous = Credentials { cert: None, key: None, ..mesh.application() };
    let error = publish(&mesh.publisher("localhost", &anonymous)).await.unwrap_err();
    assert!(matches!(&error, Error::Unwelcome { .. }), "{error:?}");
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Operator, false));
}

#[tokio::test]
async fn a_node_under_another_name_is_not_trusted() {
    let mesh = Mesh::new();
    let error = publish(&mesh.publisher("127.0.0.1", &mesh.application())).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { retry: false, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("not valid for name"), "{text}");
}

#[tokio::test]
async fn incomplete_credentials_name_what_they_lack() {
    let mesh = Mesh::new();
    let address = "https://web-1.internal:7443".parse().unwrap();
    for (credentials, lacks) in [
        (Credentials::default(), "the authorities to trust (ca)"),
        (Credentials { key: None, ..mesh.application() }, "the private key of that certificate"),
        (Credentials { cert: None, ..mesh.application() }, "the certificate of that private key"),
    ] {
        let error = Client::connect(&address, &credentials).unwrap_err();
        assert!(error.to_string().ends_with(&format!("lack {lacks}")), "{error}");
    }
}
