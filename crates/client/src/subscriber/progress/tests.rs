//! Rules of resuming: what is told to the node, and from where the next stream is asked for.
#![allow(clippy::unwrap_used, reason = "tests")]

use evermesh_event::{JournalId, StartId};

use super::*;

const A: u8 = 1;
const B: u8 = 2;

fn run(start: u8) -> Run {
    Run { journal: JournalId::new([7; 16]), start: StartId::new([start; 16]) }
}

fn at(start: u8, offset: u64) -> ResumeToken {
    ResumeToken { run: run(start), offset: Offset::from_u64(offset) }
}

fn open(progress: &mut Progress, start: u8, offset: u64) {
    let opened = v1::SubscribeOpened { run: run(start).to_bytes(), offset, node: "web-1".into() };
    progress.opened(&opened).unwrap();
}

fn deliver(progress: &mut Progress, offsets: &[u64]) -> ResumeToken {
    let mut delivery = v1::Delivery::default();
    delivery.offsets.extend_from_slice(offsets);
    // A tag and an empty entry: the offsets are what counts here.
    offsets.iter().for_each(|_| delivery.splice(vec![v1::Delivery::ENTRY_TAG, 0].into()));
    match progress.heard(Message::Delivery(delivery)).unwrap().unwrap() {
        Item::Delivery { through, .. } => through,
        other => panic!("{other:?}"),
    }
}

fn told(progress: &mut Progress) -> Option<u64> {
    progress.untold().map(Offset::as_u64)
}

#[test]
fn resumes_from_the_opening_until_something_is_acknowledged() {
    let mut progress = Progress::new(&Begin::Live);
    assert_eq!(progress.token(), None);
    open(&mut progress, A, 5);
    assert_eq!(progress.token(), Some(at(A, 5)));
    assert_eq!(deliver(&mut progress, &[6, 9]), at(A, 9));
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(A, 5)), None));
    progress.acknowledge(at(A, 6));
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(A, 6)), Some(6)));
    assert_eq!(told(&mut progress), None, "once is enough");
    progress.acknowledge(at(A, 5));
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(A, 6)), None), "never back");
}

#[test]
fn a_late_acknowledgement_is_held_back_until_it_was_delivered_again() {
    let mut progress = Progress::new(&Begin::Live);
    open(&mut progress, A, 5);
    let late = deliver(&mut progress, &[6, 7, 8]);
    open(&mut progress, A, 5);
    progress.acknowledge(late);
    assert_eq!(progress.token(), Some(at(A, 8)), "a third stream begins after it");
    assert_eq!(told(&mut progress), None, "no further than this stream has delivered");
    deliver(&mut progress, &[6, 7]);
    assert_eq!(told(&mut progress), Some(7));
    deliver(&mut progress, &[8]);
    assert_eq!(told(&mut progress), Some(8));
}

#[test]
fn an_acknowledgement_of_an_earlier_start_is_kept_and_not_told() {
    let mut progress = Progress::new(&Begin::Live);
    open(&mut progress, A, 5);
    let late = deliver(&mut progress, &[6, 7]);
    open(&mut progress, B, 5);
    progress.acknowledge(late);
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(A, 7)), None));
    let again = deliver(&mut progress, &[6, 7]);
    progress.acknowledge(again);
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(B, 7)), Some(7)));
    progress.acknowledge(at(A, 100));
    assert_eq!(progress.token(), Some(at(B, 7)), "meaningless by now");
}

#[test]
fn a_missed_is_asked_for_again_until_it_is_acknowledged() {
    let mut progress = Progress::new(&Begin::After(at(A, 5)));
    open(&mut progress, B, 2);
    assert_eq!(progress.token(), Some(at(A, 5)), "the node did not know it, and will say so again");
    let notice = v1::MissedNotice { missed: Some(v1::Missed::default()), offset: 2 };
    let Item::Missed { through, .. } = progress.heard(Message::Missed(notice)).unwrap().unwrap()
    else {
        panic!("not a missed");
    };
    assert_eq!(progress.token(), Some(at(A, 5)));
    progress.acknowledge(through);
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(B, 2)), Some(2)));
    // Offsets of a restored copy may be lower than the token's; they count all the same.
    let next = deliver(&mut progress, &[3]);
    progress.acknowledge(next);
    assert_eq!((progress.token(), told(&mut progress)), (Some(at(B, 3)), Some(3)));
}

#[test]
fn what_cannot_be_is_an_error() {
    let mut progress = Progress::new(&Begin::Live);
    assert!(progress.heard(Message::Freshness(v1::Freshness::default())).is_err());
    assert!(progress.opened(&v1::SubscribeOpened::default()).is_err());
    open(&mut progress, A, 0);
    assert!(progress.heard(Message::Delivery(v1::Delivery::default())).is_err());
    let mut short = v1::Delivery::default();
    short.offsets = vec![1, 2];
    short.splice(vec![v1::Delivery::ENTRY_TAG, 0].into());
    assert!(progress.heard(Message::Delivery(short)).is_err());
}

#[test]
fn that_it_has_caught_up_is_not_lost_to_a_reject() {
    let mut progress = Progress::new(&Begin::Live);
    open(&mut progress, A, 5);
    deliver(&mut progress, &[6, 7, 8]);
    assert!(progress.reject(at(A, 7)));
    // On their way: an event more, and that everything was said. Neither is handed on.
    let mut delivery = v1::Delivery::default();
    delivery.first_offset = 9;
    delivery.splice(vec![v1::Delivery::ENTRY_TAG, 0].into());
    assert_eq!(progress.heard(Message::Delivery(delivery)).unwrap(), None);
    let caught_up = v1::CaughtUp { offset: 30, ..Default::default() };
    assert_eq!(progress.heard(Message::CaughtUp(caught_up.clone())).unwrap(), None);
    assert_eq!(progress.late(), None);
    deliver(&mut progress, &[7, 8]);
    assert_eq!(progress.late(), None, "9 is to come");
    deliver(&mut progress, &[9]);
    let through = at(A, 9);
    assert_eq!(progress.late(), Some(Item::CaughtUp { caught_up, through }));
    assert_eq!(progress.late(), None, "once");
    progress.acknowledge(through);
    assert_eq!(told(&mut progress), Some(9));
    // Another stream says it anew.
    open(&mut progress, A, 9);
    assert_eq!(progress.late(), None);
}
