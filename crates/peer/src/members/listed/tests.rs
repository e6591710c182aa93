//! Whom the list tells to dial, while links end in their own time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::SystemTime;

use evermesh_event::world::{Clock, Random};
use evermesh_event::{JournalId, Remote, StartId};
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Journal, Limits, Options};

use super::*;

#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug)]
struct Same;

impl Random for Same {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn listed(incarnation: u64, left: bool) -> Vec<(NodeName, Listed)> {
    let address = "https://web-2:7443".to_owned();
    vec![(name("web-2"), Listed { address, incarnation, left, ..Listed::default() })]
}

fn journal() -> Journal {
    let (journal, _writer) = Journal::open(Options {
        node: name("web-1"),
        storage: Arc::new(MemoryDisk::new()),
        clock: Arc::new(Standing),
        random: Arc::new(Same),
        limits: Limits::default(),
    })
    .unwrap();
    journal
}

#[test]
fn p9_who_left_and_comes_back_is_dialled_though_its_last_link_ends_after_that() {
    let members = Members::new(journal(), Duration::from_secs(1), &[], Duration::ZERO);
    let tell = |list: &[_]| members.told(&name("web-3"), list, Duration::ZERO);
    let dialled = || members.learnt().into_iter().collect::<Vec<_>>();
    let there = ["https://web-2:7443".to_owned()];
    tell(&listed(0, false));
    assert_eq!(dialled(), there);
    tell(&listed(0, true));
    assert_eq!(dialled(), [""; 0]);
    // The task that keeps the link notices only now.
    members.unlinked("https://web-2:7443", "it ended".into(), Duration::ZERO);
    members.hold("https://web-2:7443", &name("web-2")).unwrap_err();
    members.linked("https://web-2:7443", &name("web-2"));
    tell(&listed(1, false));
    assert_eq!(dialled(), there);
}

#[test]
fn p9_who_was_forgotten_beside_its_former_start_comes_back_under_its_name_alone() {
    let journal = journal();
    let now = Duration::ZERO;
    let members = Members::new(journal.clone(), Duration::from_secs(1), &[], now);
    let tell = |list: &[_]| members.told(&name("web-3"), list, now);
    let web_2 = name("web-2");
    let feed = |number: u8| {
        let (journal, start) = (JournalId::from_slice(&[number; 16]), [number; 16]);
        let run = (journal.unwrap(), StartId::from_slice(&start).unwrap());
        members.begin_feed(&web_2, run, Remote::new("there"), now).unwrap()
    };
    tell(&listed(0, false));
    let former = feed(1);
    members.pinged(&web_2, Some(former.start), now);
    // It comes back with another journal before its former connection is noticed to be dead.
    let present = feed(2);
    assert_ne!(present.label, former.label);
    tell(&listed(0, true));
    assert!(former.stop.is_cancelled() && present.stop.is_cancelled(), "both feeds end");
    tell(&listed(1, false));
    assert_eq!(feed(2).label, "web-2");
    let members = journal.cursors().snapshot().into_iter().map(|member| member.label);
    assert_eq!(members.collect::<Vec<_>>(), ["web-2"], "nobody waits for the former one");
}

#[test]
fn p1_who_is_linked_is_asked_by_its_echo_alone_however_often_another_address_of_it_is_tried() {
    let addresses = ["https://web-2:7443", "https://10.0.0.2:7443"];
    let both = addresses.map(str::to_owned);
    let members = Members::new(journal(), Duration::from_secs(1), &both, Duration::ZERO);
    let (web_2, since) = (name("web-2"), Duration::from_secs(5));
    let asked = || members.all_asked(&name("web-4"), since);
    members.told(&name("web-3"), &listed(0, false), Duration::ZERO);
    let tries = |address: &str| members.unlinked(address, "no link".into(), since);
    members.hold(addresses[0], &web_2).unwrap();
    members.linked(addresses[0], &web_2);
    tries(addresses[1]);
    members.hold(addresses[1], &web_2).unwrap_err();
    tries(addresses[1]);
    assert!(!asked(), "its echo is on its way");
    tries(addresses[0]);
    assert!(asked(), "it cannot be reached");
}
