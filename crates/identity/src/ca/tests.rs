//! An authority in a directory, and what it issues.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use evermesh_event::NodeName;
use tempfile::TempDir;

use super::{Issued, LEAF_DAYS_DEFAULT, Leaf, Made, NewAuthority, Subject, init, issue};
use crate::certificate::Facts;
use crate::fixture::{chmod, mode_of};
use crate::{Error, Identity, Naming, Principal, TlsFiles, files, load, load_client};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Place {
    dir: TempDir,
    now: SystemTime,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), now: SystemTime::now() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn init(&self, name: &str) -> Result<Made, Error> {
        let new = NewAuthority { dir: self.at(name), trust_domain: "mesh.internal".to_owned() };
        init(&new, self.now)
    }

    fn node(&self, name: &str) -> Leaf {
        Leaf {
            subject: Subject::Node(NodeName::new(name).unwrap()),
            dns: vec!["web-1.example".to_owned(), name.to_owned()],
            ip: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            out_dir: self.at("out"),
            days: LEAF_DAYS_DEFAULT,
        }
    }

    fn app(&self, name: &str) -> Leaf {
        let subject = Subject::App(name.to_owned());
        Leaf { subject, dns: vec![], ip: vec![], ..self.node("web-1") }
    }

    fn issue(&self, leaf: &Leaf) -> Result<Issued, Error> {
        issue(&self.at("ca"), leaf, self.now)
    }
}

fn tls(issued: &Issued) -> TlsFiles {
    let Issued { cert, key, ca, .. } = issued.clone();
    TlsFiles { cert, key, ca }
}

fn facts(file: &Path) -> Facts {
    Facts::of(&files::certificates(file).unwrap().remove(0)).unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_authority_makes_nodes_that_load() {
    let place = Place::new();
    let made = place.init("ca").unwrap();
    assert_eq!((mode_of(&made.key), mode_of(&place.at("ca"))), (0o600, 0o700));
    assert!(made.not_after > place.now + 3650 * DAY);
    let issued = place.issue(&place.node("web-1")).unwrap();
    assert_eq!(mode_of(&issued.key), 0o600);
    assert_eq!(names_in(&place.at("out")), ["ca.pem", "web-1.key", "web-1.pem"]);
    assert_eq!(names_in(&place.at("ca")), ["ca.key", "ca.pem"]);
    assert_eq!(fs::read(&issued.ca).unwrap(), fs::read(&made.cert).unwrap());

    let node = load(&tls(&issued), &[], place.now).unwrap();
    assert_eq!(&**node.identity.text(), "spiffe://mesh.internal/node/web-1");
    assert_eq!(node.not_after, issued.not_after);
    let facts = facts(&issued.cert);
    assert_eq!(facts.dns, ["web-1", "web-1.example"]);
    assert!(
        facts.not_before < place.now && facts.not_before > place.now - Duration::from_secs(302)
    );
    let left = facts.not_after.duration_since(place.now).unwrap();
    assert!(left <= 90 * DAY && left > 89 * DAY);
}

#[test]
fn an_authority_makes_applications_that_are_no_nodes() {
    let place = Place::new();
    place.init("ca").unwrap();
    let issued = place.issue(&place.app("shop")).unwrap();
    load_client(Some((&issued.cert, &issued.key)), &issued.ca).unwrap();
    assert!(matches!(load(&tls(&issued), &[], place.now), Err(Error::NotANode { .. })));
    let naming = Naming { trust_domain: Some("mesh.internal".to_owned()), ..Naming::default() };
    let leaf = files::certificates(&issued.cert).unwrap().remove(0);
    let identity = Identity::from_certificate(&leaf, &naming).unwrap();
    assert_eq!(identity.kind(), &Principal::Application("shop".to_owned()));
    assert_eq!(facts(&issued.cert).dns, [""; 0]);
}

#[test]
fn an_authority_is_never_overwritten() {
    let place = Place::new();
    place.init("ca").unwrap();
    let before = fs::read(place.at("ca/ca.key")).unwrap();
    assert!(matches!(place.init("ca"), Err(Error::Taken { .. })));
    fs::remove_file(place.at("ca/ca.pem")).unwrap();
    assert!(matches!(place.init("ca"), Err(Error::Taken { .. })));
    assert_eq!(fs::read(place.at("ca/ca.key")).unwrap(), before);
    let bad = NewAuthority { dir: place.at("new"), trust_domain: "Mesh/x".to_owned() };
    assert!(matches!(init(&bad, place.now), Err(Error::Subject { .. })));
    assert!(!place.at("new").exists());
}

#[test]
fn a_leaf_is_renewed_in_place_and_never_replaces_another() {
    let place = Place::new();
    place.init("ca").unwrap();
    let issued = place.issue(&place.node("web-1")).unwrap();
    let before = fs::read(&issued.cert).unwrap();
    place.issue(&place.node("web-1")).unwrap();
    assert_ne!(fs::read(&issued.cert).unwrap(), before);
    load(&tls(&issued), &[], place.now).unwrap();

    let taken = place.issue(&place.app("web-1")).unwrap_err();
    assert!(taken.to_string().contains("is not for spiffe://mesh.internal/app/web-1"), "{taken}");
    fs::write(place.at("out/other.key"), "somebody's").unwrap();
    assert!(matches!(place.issue(&place.app("other")), Err(Error::Taken { .. })));
    place.init("second").unwrap();
    let leaf = place.node("web-2");
    let other = issue(&place.at("second"), &leaf, place.now).unwrap_err();
    assert!(other.to_string().contains("is of another authority"), "{other}");
    load(&tls(&issued), &[], place.now).unwrap();
    assert_eq!(names_in(&place.at("out")), ["ca.pem", "other.key", "web-1.key", "web-1.pem"]);
}

#[test]
fn beside_the_authority_its_own_files_stay() {
    let place = Place::new();
    let made = place.init("ca").unwrap();
    let before = fs::read(&made.key).unwrap();
    let beside = |leaf| Leaf { out_dir: place.at("ca"), ..leaf };
    let issued = place.issue(&beside(place.node("web-1"))).unwrap();
    load(&tls(&issued), &[], place.now).unwrap();
    assert!(matches!(place.issue(&beside(place.node("ca"))), Err(Error::Subject { .. })));
    assert!(matches!(place.issue(&beside(place.app("ca"))), Err(Error::Subject { .. })));
    assert_eq!(fs::read(&made.key).unwrap(), before);
}

#[test]
fn subjects_that_cannot_be_are_refused() {
    let place = Place::new();
    place.init("ca").unwrap();
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "ä", &"x".repeat(64)] {
        let refused = place.issue(&place.app(name));
        assert!(matches!(refused, Err(Error::Subject { .. })), "{name}");
    }
    let refused = [
        Leaf { days: 0, ..place.node("web-1") },
        Leaf { days: 4000, ..place.node("web-1") },
        Leaf { dns: vec!["not a name".to_owned()], ..place.node("web-1") },
        Leaf { dns: vec!["*.example".to_owned()], ..place.node("web-1") },
        Leaf { dns: (0..70).map(|n| format!("n{n}")).collect(), ..place.node("web-1") },
        Leaf { dns: vec!["shop".to_owned()], ..place.app("shop") },
        place.node("a..b"),
    ];
    for leaf in refused {
        assert!(matches!(place.issue(&leaf), Err(Error::Subject { .. })), "{leaf:?}");
    }
    assert!(!place.at("out").exists());
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let place = Place::new();
    let made = place.init("ca").unwrap();
    let later = made.not_after - 10 * DAY;
    let issued = issue(&place.at("ca"), &place.node("web-1"), later).unwrap();
    assert_eq!(issued.not_after, made.not_after);
    assert_eq!(facts(&issued.cert).not_after, made.not_after);
    let late = issue(&place.at("ca"), &place.node("web-1"), made.not_after + DAY);
    assert!(matches!(late, Err(Error::Expired { .. })));
    let early = issue(&place.at("ca"), &place.node("web-1"), place.now - DAY);
    assert!(matches!(early, Err(Error::NotYetValid { .. })));
}

#[test]
fn a_damaged_authority_issues_nothing() {
    let place = Place::new();
    assert!(matches!(place.issue(&place.node("web-1")), Err(Error::File { .. })));
    let made = place.init("ca").unwrap();
    let other = place.init("other").unwrap();
    chmod(&made.key, 0o640);
    assert!(matches!(place.issue(&place.node("web-1")), Err(Error::Exposed { .. })));
    chmod(&made.key, 0o600);
    let key = fs::read(&made.key).unwrap();
    fs::copy(&other.key, &made.key).unwrap();
    assert!(matches!(place.issue(&place.node("web-1")), Err(Error::Mismatch { .. })));
    fs::write(&made.key, "junk").unwrap();
    assert!(matches!(place.issue(&place.node("web-1")), Err(Error::Unusable { .. })));
    fs::write(&made.key, key).unwrap();
    let leaf = place.issue(&place.node("web-1")).unwrap();
    fs::copy(&leaf.cert, &made.cert).unwrap();
    assert!(matches!(place.issue(&place.node("web-2")), Err(Error::Unusable { .. })));
}
