//! What is wrong with files, as an operator reads it.

use std::fs;
use std::time::{Duration, SystemTime};

use rcgen::ExtendedKeyUsagePurpose;

use super::{SHOP, WEB_1, WEB_2};
use crate::fixture::{Authority, Spec, called, chmod, hours_from_now, named};
use crate::{Error, TlsFiles, load, load_client};

fn refusal(files: &TlsFiles) -> String {
    load(files, &[], SystemTime::now()).unwrap_err().to_string()
}

fn web_1(authority: &Authority) -> TlsFiles {
    authority.issue("web-1", &named(WEB_1)).files
}

#[test]
fn a_key_that_others_may_use_is_refused_with_the_remedy() {
    let authority = Authority::new();
    let files = web_1(&authority);
    for mode in [0o640, 0o604, 0o660, 0o644, 0o620] {
        chmod(&files.key, mode);
        let refusal = refusal(&files);
        assert!(refusal.contains(&format!("mode {mode:04o}")), "{refusal}");
        assert!(refusal.contains(&format!("chmod 600 {}", files.key.display())), "{refusal}");
        let client = load_client(Some((&files.cert, &files.key)), &files.ca);
        assert!(matches!(client, Err(Error::Exposed { .. })));
    }
    for mode in [0o400, 0o600] {
        chmod(&files.key, mode);
        load(&files, &[], SystemTime::now()).unwrap();
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (one, two) = (web_1(&authority), authority.issue("web-2", &named(WEB_2)).files);
    let mixed = TlsFiles { key: two.key, ..one };
    assert!(matches!(
        load(&mixed, &[], SystemTime::now()),
        Err(Error::Mismatch { cert, key }) if cert == mixed.cert && key == mixed.key
    ));
}

#[test]
fn missing_and_useless_files_are_named() {
    let authority = Authority::new();
    let good = web_1(&authority);
    let path = |name: &str| authority.dir.path().join(name);
    let write = |name: &str, content: &[u8]| {
        fs::write(path(name), content).unwrap();
        chmod(&path(name), 0o600);
        path(name)
    };
    let key = |key| TlsFiles { key, ..good.clone() };
    let cert = |cert| TlsFiles { cert, ..good.clone() };
    let ca = |ca| TlsFiles { ca, ..good.clone() };
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nc2VjcmV0\n-----END {kind}-----\n");
    let cut = "-----BEGIN CERTIFICATE-----\nc2Vj";
    let table = [
        (key(path("none")), "No such file"),
        (cert(path("none")), "No such file"),
        (ca(path("none")), "No such file"),
        (ca(authority.dir.path().to_owned()), "s a directory"),
        (key(write("empty", b"")), "has no private key in it"),
        (cert(write("empty", b"")), "has no certificate in it"),
        (cert(good.key.clone()), "has no certificate in it"),
        (ca(write("cut", cut.as_bytes())), "it ends within a certificate"),
        (cert(write("junk", pem("CERTIFICATE").as_bytes())), "cannot be read"),
        (ca(write("junk", pem("CERTIFICATE").as_bytes())), "cannot be read"),
        (ca(good.cert.clone()), "not an authority's"),
        (key(write("locked", pem("ENCRYPTED PRIVATE KEY").as_bytes())), "the key is encrypted"),
        (key(write("broken", b"-----BEGIN PRIVATE KEY-----\nsec!ret")), "it is damaged"),
        (key(write("strange", pem("PRIVATE KEY").as_bytes())), "cannot be used"),
        (cert(write("big", &vec![b'x'; 1024 * 1024 + 1])), "larger than 1 MiB"),
    ];
    let directory = authority.dir.path().to_string_lossy().into_owned();
    for (files, words) in table {
        let refused = load(&files, &[], SystemTime::now()).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(words) && text.contains(&directory), "{text}");
        let debug = format!("{refused:?}");
        for secret in ["c2Vj", "secret", "sec!ret"] {
            assert!(!text.contains(secret) && !debug.contains(secret), "{text} {debug}");
        }
    }
}

#[test]
fn a_certificate_outside_its_time_is_refused_with_the_date() {
    let authority = Authority::new();
    let files = web_1(&authority);
    let late = load(&files, &[], hours_from_now(2)).unwrap_err();
    assert!(matches!(&late, Error::Expired { .. }));
    let early = load(&files, &[], hours_from_now(-2)).unwrap_err();
    assert!(matches!(&early, Error::NotYetValid { .. }));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let expired = Error::Expired { file: "a.pem".into(), at };
    assert_eq!(expired.to_string(), "certificate a.pem expired at 2027-01-15T08:00:00Z");
}

#[test]
fn a_node_has_a_nodes_certificate() {
    let authority = Authority::new();
    for (spec, words) in [
        (named(SHOP), "names spiffe://mesh.internal/app/shop, which is not a node"),
        (called(&["web-1.example"]), "names dns:web-1.example, which is not a node"),
        (called(&[]), "neither a SPIFFE id nor a DNS name"),
        (Spec { uris: vec![WEB_1, WEB_2], ..named("") }, "2 URI names"),
    ] {
        let refusal = refusal(&authority.issue("x", &spec).files);
        assert!(refusal.contains(words) && refusal.contains("x.pem"), "{refusal}");
    }
}

#[test]
fn a_certificate_that_members_would_refuse_is_refused_here() {
    let authority = Authority::new();
    let other = Authority::new();
    let files = TlsFiles { ca: other.ca(), ..web_1(&authority) };
    assert!(refusal(&files).contains("none of these authorities signed it"));
    for (purpose, words) in [
        (ExtendedKeyUsagePurpose::ServerAuth, "lacks client authentication"),
        (ExtendedKeyUsagePurpose::ClientAuth, "lacks server authentication"),
    ] {
        let spec = Spec { purposes: vec![purpose], ..named(WEB_1) };
        let refusal = refusal(&authority.issue("x", &spec).files);
        assert!(refusal.contains(words), "{refusal}");
    }
    // Without any stated purpose it serves for all.
    let spec = Spec { purposes: vec![], ..named(WEB_1) };
    authority.node("x", &spec).unwrap();
}

#[test]
fn credentials_say_whose_they_are_and_hide_the_rest() {
    let authority = Authority::new();
    let node = authority.node("web-1", &named(WEB_1)).unwrap();
    assert_eq!(node.identity.member().unwrap().as_str(), "web-1");
    assert_eq!(node.naming.trust_domain.as_deref(), Some("mesh.internal"));
    assert_eq!(Some(node.not_after), node.identity.not_after());
    assert_eq!(node.server.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(node.server.send_tls13_tickets, 0);
    let debug = format!("{node:?}");
    assert!(debug.contains("web-1") && !debug.to_lowercase().contains("key"), "{debug}");
}

#[test]
fn a_bad_pattern_of_member_names_is_no_fault_of_the_certificate() {
    let authority = Authority::new();
    let refused = load(&web_1(&authority), &["*".to_owned()], SystemTime::now());
    assert!(matches!(refused, Err(Error::MemberNames { .. })));
}
