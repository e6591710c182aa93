//! Which certificate is whose: the table of names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::SystemTime;

use evermesh_event::NodeName;

use crate::fixture::{Authority, HOUR, Spec, called, named};
use crate::{Error, Identity, Naming, Principal, peer_identity};

fn naming() -> Naming {
    Naming {
        trust_domain: Some("mesh.internal".to_owned()),
        member_names: vec!["*.Nodes.internal".to_owned(), "db.example".to_owned()],
    }
}

fn identify(spec: &Spec) -> Result<Identity, Error> {
    let leaf = Authority::new().issue("x", spec);
    peer_identity(Some(&[leaf.der]), &naming())
}

fn member(name: &str) -> Principal {
    Principal::Member(NodeName::new(name).unwrap())
}

#[test]
fn spiffe_ids_become_members_applications_or_neither() {
    let other = |uri: &str| Principal::Spiffe(uri.to_owned());
    let table = [
        ("spiffe://mesh.internal/node/web-1", member("web-1")),
        ("spiffe://mesh.internal/app/shop", Principal::Application("shop".to_owned())),
        ("spiffe://mesh.internal/app/node", Principal::Application("node".to_owned())),
        ("spiffe://mesh.internal/ns/prod/sa/web", other("spiffe://mesh.internal/ns/prod/sa/web")),
        ("spiffe://mesh.internal/node", other("spiffe://mesh.internal/node")),
        ("spiffe://mesh.internal/node/a/b", other("spiffe://mesh.internal/node/a/b")),
        ("spiffe://mesh.internal/node/Web-1", other("spiffe://mesh.internal/node/Web-1")),
        ("spiffe://elsewhere/node/web-1", other("spiffe://elsewhere/node/web-1")),
        ("spiffe://elsewhere/app/shop", other("spiffe://elsewhere/app/shop")),
        ("spiffe://mesh.internal.evil/node/x", other("spiffe://mesh.internal.evil/node/x")),
    ];
    for (uri, principal) in table {
        let identity = identify(&named(uri)).unwrap();
        assert_eq!(identity.kind(), &principal, "{uri}");
        assert_eq!(&**identity.text(), uri);
        assert_eq!(identity.member().is_some(), matches!(principal, Principal::Member(_)));
    }
}

#[test]
fn dns_names_become_members_only_by_pattern() {
    let dns = |name: &str| Principal::Dns(name.to_owned());
    let table: [(&[&str], Principal, &str); 7] = [
        (&["web-1.nodes.internal"], member("web-1"), "dns:web-1.nodes.internal"),
        (&["WEB-1.nodes.internal"], member("web-1"), "dns:web-1.nodes.internal"),
        (&["localhost", "db.example"], member("db"), "dns:db.example"),
        (&["shop.example", "b"], dns("shop.example"), "dns:shop.example"),
        (&["a.web-1.nodes.internal"], dns("a.web-1.nodes.internal"), "dns:a.web-1.nodes.internal"),
        // A wildcard is a certificate for many, and nobody's identity.
        (&["*.nodes.internal", "shop"], dns("shop"), "dns:shop"),
        (&["-.nodes.internal"], dns("-.nodes.internal"), "dns:-.nodes.internal"),
    ];
    for (names, principal, text) in table {
        let identity = identify(&called(names)).unwrap();
        assert_eq!(identity.kind(), &principal, "{names:?}");
        assert_eq!(&**identity.text(), text);
    }
}

#[test]
fn a_spiffe_id_wins_over_dns_names() {
    for uri in ["spiffe://mesh.internal/app/shop", "spiffe://elsewhere/node/web-1"] {
        let spec = Spec { dns: vec!["web-1.nodes.internal"], ..named(uri) };
        assert_eq!(identify(&spec).unwrap().member(), None, "{uri}");
    }
    let spec = Spec { dns: vec!["web-1.nodes.internal"], ..named("https://elsewhere/x") };
    assert_eq!(identify(&spec).unwrap().kind(), &member("web-1"));
}

#[test]
fn without_an_own_trust_domain_no_spiffe_id_is_a_member() {
    let leaf = Authority::new().issue("x", &named("spiffe://mesh.internal/node/web-1"));
    let identity = Identity::from_certificate(&leaf.der, &Naming::default()).unwrap();
    assert!(matches!(identity.kind(), Principal::Spiffe(_)));
}

#[test]
fn unclear_certificates_name_nobody() {
    let two = Spec {
        uris: vec!["spiffe://mesh.internal/app/shop", "spiffe://mesh.internal/node/web-1"],
        ..named("")
    };
    assert!(matches!(identify(&two), Err(Error::Uris(2))));
    let mixed = Spec { uris: vec!["spiffe://mesh.internal/node/web-1", "https://x/"], ..two };
    assert!(matches!(identify(&mixed), Err(Error::Uris(2))));
    assert!(matches!(identify(&called(&[])), Err(Error::NoName)));
    assert!(matches!(identify(&called(&["*.nodes.internal"])), Err(Error::NoName)));
    let malformed = Spec {
        dns: vec!["web-1.nodes.internal"],
        ..named("spiffe://mesh.internal/app/../node/web-1")
    };
    assert!(matches!(identify(&malformed), Err(Error::Spiffe { .. })));
    let nodes = called(&["web-1.nodes.internal", "web-2.nodes.internal"]);
    assert!(matches!(identify(&nodes), Err(Error::Ambiguous(..))));
    assert!(matches!(peer_identity(None, &naming()), Err(Error::NoCertificate)));
    assert!(matches!(peer_identity(Some(&[]), &naming()), Err(Error::NoCertificate)));
    let garbage = [b"garbage".as_slice().into()];
    assert!(matches!(peer_identity(Some(&garbage), &naming()), Err(Error::Unreadable(_))));
}

#[test]
fn the_certificates_end_is_known_to_the_second() {
    let end = identify(&named("spiffe://mesh.internal/node/web-1")).unwrap().not_after().unwrap();
    let left = end.duration_since(SystemTime::now()).unwrap();
    assert!(left <= HOUR && left > HOUR / 2);
}

#[test]
fn local_callers_are_their_user() {
    let identity = Identity::local(1000, 100, Some(7), Some("shop"));
    assert_eq!(&**identity.text(), "local:uid=1000");
    assert_eq!((identity.member(), identity.not_after()), (None, None));
    let again = Identity::local(1000, 100, Some(8), None);
    assert_eq!(identity.text(), again.text());
    let simulated = Identity::member_named(NodeName::new("web-1").unwrap());
    assert_eq!(simulated.member().unwrap().as_str(), "web-1");
}
