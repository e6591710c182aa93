//! What nobody recorded: a number that nobody heard, an answer that was on its way, what a node
//! knew between a ping and its answer. What could be either way is no fault.

use super::*;

fn keyed(id: &str) -> Event {
    Event { coalesce: Some("k".into()), ..event(id) }
}

/// Stored, and nobody says as what.
fn stored(id: &str) -> What {
    let taken = vec![Taken { id: id.into(), number: None }];
    let (node, assured, members) = ("web-1".into(), Sure::Stored, Vec::new());
    What::Published { node, assured, taken, newest: None, members }
}

#[test]
fn what_was_handed_in_before_may_be_numbered_after() {
    let with = |heard_first: bool| {
        let mut run = Run::faultless();
        let hand_in =
            |id| What::Publishing { node: "web-1".into(), events: vec![keyed(id)], must: true };
        run.say(hand_in("e"));
        if heard_first {
            run.hear_at(1, 5, 5, 1, keyed("e"));
        }
        run.say(hand_in("d")).say(stored("d"));
        if !heard_first {
            run.hear_at(1, 5, 5, 1, keyed("e"));
        }
        run.say(stored("e")).say(What::Quiet).verdicts()
    };
    assert_eq!(with(false), clean(), "e may have replaced it");
    assert_eq!(with(true), [Verdict::NotLive], "e was there before");
}

#[test]
fn p9_what_replaces_an_event_may_be_missed_without_a_number() {
    let with = |handed_in: bool| {
        let mut run = Run::faultless();
        let hand_in =
            |id| What::Publishing { node: "web-1".into(), events: vec![keyed(id)], must: true };
        run.say(hand_in("v1")).answer("v1", 4, Sure::Stored, &[]);
        if handed_in {
            run.say(hand_in("v2")).say(stored("v2"));
        }
        run.trust(1, 1000).publish("w", 5, Sure::Stored).hear(1, 5, "w");
        run.missed("retention", 6, 9, Some(ORIGIN)).fence(4, true, false);
        run.verdicts().contains(&Verdict::Unsound)
    };
    assert!(with(false));
    assert!(!with(true), "v2 may be in what was missed");
}

#[test]
fn p1_an_answer_may_be_of_a_start_that_is_over() {
    let with = |before: bool| {
        let mut run = Run::faultless();
        run.started("s1");
        if before {
            run.hand_in("d");
        }
        run.stopped(End::Killed).exchanged(Exchange::Restored, 3, &[]).started("s2");
        if !before {
            run.hand_in("d");
        }
        let newest = Some(number(4));
        let taken = vec![Taken { id: "d".into(), number: None }];
        let (node, assured, members) = ("web-1".into(), Sure::Stored, Vec::new());
        run.say(What::Published { node, assured, taken, newest, members }).say(What::Quiet);
        for line in &mut run.lines {
            if let What::Started { epoch, .. } = &mut line.what {
                *epoch = 0;
            }
        }
        run.verdicts()
    };
    assert_eq!(with(true), clean(), "its disk went before the answer was heard");
    assert_eq!(with(false), [Verdict::NotLive]);
}

#[test]
fn p3_a_disk_may_go_between_a_ping_and_its_answer() {
    let with = |between: bool| {
        let mut run = Run::default();
        let name = || Begin::Name("varnish".into());
        run.started("s1").open(1, 1, name(), 0).publish("a", 1, Sure::Stored).hear(1, 1, "a");
        let goes = |run: &mut Run| {
            run.stopped(End::Goodbye).exchanged(Exchange::Restored, 0, &["web-2"]);
        };
        if !between {
            goes(&mut run);
        }
        run.say(What::Acknowledging { stream: 1, through: 1 });
        run.say(What::Pinging { stream: 1, number: 1 });
        if between {
            goes(&mut run);
        }
        run.say(What::Fresh { stream: 1, number: 1, until: BTreeMap::new() });
        run.open(1, 2, name(), 0);
        run.verdicts().contains(&Verdict::Duplicated)
    };
    assert!(!with(true) && with(false));
}
