//! Credentials from real files, and real handshakes between them over a pipe in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod files;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::fixture::{Authority, Spec, called, hours_from_now, impostor, named};
use crate::{Identity, Naming, Principal, load_client, peer_identity};

const WEB_1: &str = "spiffe://mesh.internal/node/web-1";
const WEB_2: &str = "spiffe://mesh.internal/node/web-2";
const SHOP: &str = "spiffe://mesh.internal/app/shop";

/// What one side knows after a handshake.
#[derive(Debug)]
struct Seen {
    peer: Option<Identity>,
    group: NamedGroup,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
}

fn seen(tls: &rustls::CommonState, naming: &Naming) -> Seen {
    Seen {
        peer: peer_identity(tls.peer_certificates(), naming).ok(),
        group: tls.negotiated_key_exchange_group().unwrap().name(),
        kind: tls.handshake_kind().unwrap(),
        alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
    }
}

/// Shakes hands and exchanges a byte each way, so that each side knows what the other made of it.
async fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    address: &'static str,
    naming: &Naming,
) -> (io::Result<Seen>, io::Result<Seen>) {
    let (here, there) = tokio::io::duplex(16 * 1024);
    let accept = async move {
        let mut tls = TlsAcceptor::from(Arc::clone(server)).accept(there).await?;
        let byte = tls.read_u8().await?;
        tls.write_u8(byte).await?;
        tls.flush().await?;
        Ok(seen(tls.get_ref().1, naming))
    };
    let connect = async move {
        let name = ServerName::try_from(address).unwrap();
        let mut tls = TlsConnector::from(Arc::clone(client)).connect(name, here).await?;
        tls.write_u8(7).await?;
        tls.flush().await?;
        tls.read_u8().await?;
        Ok(seen(tls.get_ref().1, naming))
    };
    tokio::join!(accept, connect)
}

fn refusal(result: io::Result<Seen>) -> String {
    result.expect_err("was let in").to_string()
}

#[tokio::test]
async fn members_recognise_each_other_at_any_address() {
    let authority = Authority::new();
    let web_1 = authority.node("web-1", &named(WEB_1)).unwrap();
    let web_2 = authority.node("web-2", &named(WEB_2)).unwrap();
    for address in ["127.0.0.1", "a-load-balancer.example"] {
        let (server, client) =
            handshake(&web_1.server, &web_2.client, address, &web_1.naming).await;
        let (server, client) = (server.unwrap(), client.unwrap());
        assert_eq!(&**server.peer.unwrap().text(), WEB_2);
        assert_eq!(client.peer.unwrap().member().unwrap().as_str(), "web-1");
        assert_eq!(client.alpn.as_deref(), Some(b"h2".as_slice()));
    }
}

#[tokio::test]
async fn members_by_dns_name_recognise_each_other() {
    let authority = Authority::new();
    let web_1 = authority.node("web-1", &called(&["web-1.mesh.internal"])).unwrap();
    let web_2 = authority.node("web-2", &called(&["web-2.mesh.internal"])).unwrap();
    let (server, client) = handshake(&web_1.server, &web_2.client, "10.0.0.1", &web_1.naming).await;
    assert_eq!(server.unwrap().peer.unwrap().member().unwrap().as_str(), "web-2");
    assert_eq!(client.unwrap().peer.unwrap().member().unwrap().as_str(), "web-1");
    assert_eq!(web_1.naming.trust_domain, None);
}

#[tokio::test]
async fn the_post_quantum_group_comes_first_and_nothing_is_resumed() {
    let authority = Authority::new();
    let node = authority.node("web-1", &named(WEB_1)).unwrap();
    for _ in 0..2 {
        let (server, _) = handshake(&node.server, &node.client, "web-1", &node.naming).await;
        let server = server.unwrap();
        assert_eq!(server.group, NamedGroup::X25519MLKEM768);
        assert_eq!(server.kind, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn an_application_is_let_in_as_itself_and_checks_the_name_it_dialed() {
    let authority = Authority::new();
    let node = authority.node("web-1", &Spec { dns: vec!["web-1"], ..named(WEB_1) }).unwrap();
    let spec = Spec { purposes: vec![ExtendedKeyUsagePurpose::ClientAuth], ..named(SHOP) };
    let app = authority.issue("shop", &spec).files;
    let client = load_client(Some((&app.cert, &app.key)), &app.ca).unwrap();
    let (server, seen) = handshake(&node.server, &client, "web-1", &node.naming).await;
    seen.unwrap();
    let peer = server.unwrap().peer.unwrap();
    assert_eq!(peer.kind(), &Principal::Application("shop".to_owned()));
    let (_, client) = handshake(&node.server, &client, "web-2", &node.naming).await;
    assert!(refusal(client).contains("not valid for name"));
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in() {
    let authority = Authority::new();
    let node = authority.node("web-1", &Spec { dns: vec!["web-1"], ..named(WEB_1) }).unwrap();
    let client = load_client(None, &authority.ca()).unwrap();
    let (server, client) = handshake(&node.server, &client, "web-1", &node.naming).await;
    assert!(refusal(server).contains("no certificates"));
    assert!(refusal(client).contains("CertificateRequired"));
}

#[tokio::test]
async fn another_authority_convinces_neither_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let web_1 = ours.node("web-1", &named(WEB_1)).unwrap();
    let web_2 = theirs.node("web-2", &named(WEB_2)).unwrap();
    let (_, client) = handshake(&web_1.server, &web_2.client, "web-1", &web_1.naming).await;
    assert!(refusal(client).contains("invalid peer certificate"));
    // One that trusts us, and shows a certificate of another authority.
    let stranger = theirs.issue("web-3", &named(WEB_2)).files;
    let spec = Spec { dns: vec!["web-1"], ..named(WEB_1) };
    let web_1 = ours.node("web-1", &spec).unwrap();
    let client = load_client(Some((&stranger.cert, &stranger.key)), &ours.ca()).unwrap();
    let (server, client) = handshake(&web_1.server, &client, "web-1", &web_1.naming).await;
    assert!(refusal(server).contains("invalid peer certificate"));
    client.unwrap_err();
}

#[tokio::test]
async fn certificates_outside_their_time_convince_neither_side() {
    let authority = Authority::new();
    let good = authority.node("web-1", &named(WEB_1)).unwrap();
    for (hours, then) in [((-48, -24), -36), ((24, 48), 36)] {
        // Loaded while it was valid, or by a clock that says so.
        let spec = Spec { hours, ..named(WEB_2) };
        let bad = authority.node_at("web-2", &spec, hours_from_now(then)).unwrap();
        let (server, _) = handshake(&good.server, &bad.client, "x", &good.naming).await;
        assert!(refusal(server).contains("invalid peer certificate"));
        let (_, client) = handshake(&bad.server, &good.client, "x", &good.naming).await;
        assert!(refusal(client).contains("invalid peer certificate"));
    }
}

#[tokio::test]
async fn a_certificate_for_servers_only_does_not_call() {
    let authority = Authority::new();
    let node = authority.node("web-1", &Spec { dns: vec!["web-1"], ..named(WEB_1) }).unwrap();
    let spec = Spec { purposes: vec![ExtendedKeyUsagePurpose::ServerAuth], ..named(WEB_2) };
    let files = authority.issue("web-2", &spec).files;
    let client = load_client(Some((&files.cert, &files.key)), &files.ca).unwrap();
    let (server, _) = handshake(&node.server, &client, "web-1", &node.naming).await;
    assert!(refusal(server).contains("invalid peer certificate"));
}

#[tokio::test]
async fn whoever_is_no_member_does_not_pose_as_one() {
    let authority = Authority::new();
    let node = authority.node("web-1", &named(WEB_1)).unwrap();
    let client_only = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let two_names = Spec { uris: vec![SHOP, WEB_2], ..named("") };
    let table = [
        (named(SHOP), "app/shop answers there, which is not a member"),
        (Spec { dns: vec!["web-2.mesh.internal"], ..named(SHOP) }, "not a member"),
        (named("spiffe://elsewhere/node/web-2"), "not a member"),
        (called(&["web-2.example"]), "not a member"),
        (called(&[]), "neither a SPIFFE id nor a DNS name"),
        (two_names, "2 URI names"),
        (Spec { hours: (-2, -1), ..named(WEB_2) }, "expired"),
        (Spec { hours: (1, 2), ..named(WEB_2) }, "not valid yet"),
        (Spec { purposes: client_only, ..named(WEB_2) }, "key usage"),
    ];
    for (spec, words) in table {
        let server = impostor(&authority.issue("impostor", &spec));
        let (_, client) = handshake(&server, &node.client, "web-2", &node.naming).await;
        let refusal = refusal(client);
        assert!(refusal.contains(words), "{refusal}");
    }
    // The same, with nothing wrong, is let in.
    let server = impostor(&authority.issue("member", &named(WEB_2)));
    let (_, client) = handshake(&server, &node.client, "web-2", &node.naming).await;
    client.unwrap();
}

#[tokio::test]
async fn a_foreign_node_is_let_in_as_no_member() {
    let authority = Authority::new();
    let node = authority.node("web-1", &Spec { dns: vec!["web-1"], ..named(WEB_1) }).unwrap();
    let files = authority.issue("x", &named("spiffe://elsewhere/node/web-2")).files;
    let client = load_client(Some((&files.cert, &files.key)), &files.ca).unwrap();
    let (server, _) = handshake(&node.server, &client, "web-1", &node.naming).await;
    let peer = server.unwrap().peer.unwrap();
    assert_eq!(peer.member(), None);
    assert!(peer.not_after().unwrap() > SystemTime::now());
}
