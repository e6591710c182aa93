//! What subscribers and producers leave here: durable names, dead letters, counters, over restarts
//! and crashes.

use std::sync::Arc;

use evermesh_event::{Frontier, Offset};
use evermesh_journal::{Appended, Counted, Intake, Journal, Letter, NAMES_MAX, NameError};
use prost::Message as _;

use crate::world::{World, append, identity, intake, now};

fn counted(journal: &Journal, counters: &[u64]) -> Appended {
    let counted = Counted { producer: "import".into(), counters: counters.to_vec() };
    let events: Vec<Intake> = counters.iter().map(|n| intake(&format!("e{n}"))).collect();
    now(journal.append_counted(&identity(), events, Some(&counted))).unwrap()
}

fn letter(journal: &Journal, name: &str, offset: Offset) -> Letter {
    Letter {
        number: 0,
        identity: identity().to_string(),
        name: name.into(),
        offset,
        origin: journal.origin().clone(),
        entry: evermesh_proto::v1::Entry::default().encode_to_vec().into(),
        attempts: 5,
        reason: "503 Service Unavailable".into(),
        set_aside_ms: 1_700_000_000_123,
    }
}

#[test]
fn a_name_begins_at_the_durable_end_untold_and_keeps_its_place_over_a_crash() {
    let world = World::new(1);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let end = journal.head();
    append(&journal, &["b"]);
    let name = journal.open_name("varnish", &identity(), &["shop".into()]).unwrap();
    assert_eq!((name.acknowledged, name.untold), (end, true), "at the durable end");
    let stranger = journal.open_name("varnish", &Arc::from("uid:1000"), &[]).unwrap_err();
    assert_eq!(stranger, NameError::Held(identity()));

    let (head, frontier) = journal.here();
    journal.advance_name("varnish", head, &frontier, true);
    let places = writer.turn().map(|_| journal.names()).unwrap();
    assert_eq!(places[0].1.acknowledged, head);
    drop((journal, writer));
    world.disk.kill();
    let (journal, _writer) = world.open();
    let name = journal.open_name("varnish", &identity(), &["shop".into()]).unwrap();
    assert_eq!((name.acknowledged, name.untold, name.through), (head, false, frontier));
}

#[test]
fn a_place_is_never_stored_ahead_of_what_is_durable() {
    let world = World::new(2);
    let (journal, mut writer) = world.open();
    journal.open_name("varnish", &identity(), &[]).unwrap();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let durable = journal.head();
    append(&journal, &["b"]);
    // Delivered and acknowledged before it was on the disk; the disk takes no more.
    let (head, frontier) = journal.here();
    journal.advance_name("varnish", head, &frontier, true);
    drop((journal, writer));
    world.disk.kill();
    let (journal, mut writer) = world.open();
    let place = journal.names()[0].1.acknowledged;
    assert!(place <= durable, "{place} is beyond {durable}");
    append(&journal, &["c"]);
    let (head, _) = journal.here();
    journal.advance_name("varnish", head, &Frontier::default(), true);
    writer.turn().unwrap();
    drop((journal, writer));
    world.disk.kill();
    assert_eq!(world.open().0.names()[0].1.acknowledged, head);
}

#[test]
fn forgotten_names_and_dropped_letters_stay_so() {
    let world = World::new(3);
    let (journal, mut writer) = world.open();
    journal.open_name("varnish", &identity(), &[]).unwrap();
    journal.open_name("redis", &identity(), &[]).unwrap();
    let at = append(&journal, &["a"]).through;
    let first = journal.set_aside(letter(&journal, "varnish", at));
    let second = journal.set_aside(letter(&journal, "redis", at));
    writer.turn().unwrap();
    assert!(journal.forget_name("redis") && !journal.forget_name("redis"));
    assert!(journal.drop_letter(second) && !journal.drop_letter(second));
    writer.turn().unwrap();
    let kept = journal.letters(None, 0, 10);
    drop((journal, writer));
    world.disk.kill();
    let (journal, _writer) = world.open();
    assert_eq!(journal.letters(None, 0, 10), kept);
    assert_eq!(kept.iter().map(|letter| letter.number).collect::<Vec<_>>(), [first]);
    assert!(journal.aside("varnish", Offset::ZERO).contains(&at));
    assert!(journal.aside("varnish", at).is_empty(), "the cursor is past it");
    let names: Vec<_> = journal.names().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["varnish"]);
}

#[test]
fn names_are_bounded() {
    let world = World::new(4);
    let (journal, _writer) = world.open();
    for n in 0..NAMES_MAX {
        journal.open_name(&format!("n{n}"), &identity(), &[]).unwrap();
    }
    assert_eq!(journal.open_name("more", &identity(), &[]).unwrap_err(), NameError::TooMany);
    assert!(journal.open_name("n0", &identity(), &[]).is_ok());
}

#[test]
fn p5_counters_are_taken_once_and_live_and_die_with_their_events() {
    let world = World::new(5);
    let (journal, mut writer) = world.open();
    let first = counted(&journal, &[1, 2, 3]);
    writer.turn().unwrap();
    let again = counted(&journal, &[2, 3, 5]);
    let marks: Vec<_> = again.taken.iter().map(|taken| taken.duplicate).collect();
    assert_eq!(marks, [true, true, false]);
    assert_eq!(again.taken[0].sequence, first.own_through, "the producer's newest");
    assert_eq!(journal.highest(&identity(), "import").counter, 5);
    assert_eq!(journal.highest("uid:1000", "import").counter, 0, "another identity's");
    // The second group was never on the disk: its counter is not known either.
    drop((journal, writer));
    world.disk.kill();
    let (journal, mut writer) = world.open();
    let highest = journal.highest(&identity(), "import");
    assert!(highest.counter == 3 || highest.counter == 5, "{highest:?}");
    let kept = highest.counter == 5;
    assert_eq!(counted(&journal, &[5]).taken[0].duplicate, kept);
    writer.turn().unwrap();
    drop((journal, writer));
    world.disk.kill();
    assert_eq!(world.open().0.highest(&identity(), "import").counter, 5);
}
