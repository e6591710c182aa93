//! P9: what a fence says of those who trust their caches.

use super::*;

#[test]
fn p9_a_fence_binds_whoever_still_trusts_its_cache() {
    let with = |trusts: u64, done: bool, first: bool| {
        let mut run = Run::faultless();
        run.trust(1, trusts).publish("d", 4, Sure::Stored);
        if first {
            run.hear(1, 4, "d").fence(4, done, false);
        } else {
            run.fence(4, done, false).hear(1, 4, "d");
        }
        run.verdicts()
    };
    assert_eq!(with(1000, true, false), [Verdict::Unsound]);
    assert_eq!(with(1000, true, true), clean(), "it had applied it");
    assert_eq!(with(1000, false, false), clean(), "the fence was not done");
    assert_eq!(with(20, true, false), clean(), "its lease was over");
    let mut run = Run::faultless();
    run.publish("d", 4, Sure::Applied).trust(1, 1000).hear(1, 4, "d");
    assert_eq!(run.verdicts(), [Verdict::Unsound], "trust that began after it was said");
}

#[test]
fn p9_who_dropped_what_it_missed_may_trust_before_that_comes_after_all() {
    let with = |told: bool| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).fence(4, true, false);
        if told {
            run.missed("hole", 4, 4, Some(ORIGIN));
        }
        run.trust(1, 1000).hear(1, 4, "d");
        run.verdicts().contains(&Verdict::Unsound)
    };
    assert!(with(false) && !with(true));
}

/// A subscriber that trusts its cache passes over `v1`, which newer ones of its key replace.
fn replaced(tell: &dyn Fn(&mut Run)) -> Vec<Verdict> {
    let mut run = Run::faultless();
    let publish = |run: &mut Run, id: &str, sequence, key: &str| {
        let event = Event { coalesce: Some(key.into()), ..event(id) };
        run.say(What::Publishing { node: "web-1".into(), events: vec![event], must: true });
        run.answer(id, sequence, Sure::Stored, &[]);
    };
    publish(&mut run, "v1", 4, "k");
    publish(&mut run, "v2", 5, "k");
    publish(&mut run, "w", 6, "other");
    run.trust(1, 1000);
    tell(&mut run);
    run.verdicts()
}

fn keyed(run: &mut Run, id: &str, sequence: u64, key: &str) {
    let event = Event { coalesce: Some(key.into()), ..event(id) };
    run.hear_at(1, sequence, sequence, 1, event);
}

#[test]
fn p9_what_newer_events_replace_is_applied_once_they_are() {
    let heard = |early: bool| {
        replaced(&|run| {
            if early {
                keyed(run, "v2", 5, "k");
            }
            run.fence(4, true, false);
            if !early {
                keyed(run, "v2", 5, "k");
            }
            keyed(run, "w", 6, "other");
        })
    };
    assert_eq!(heard(false), [Verdict::Unsound]);
    assert_eq!(heard(true), clean(), "what replaces it was heard");
    let over = replaced(&|run| {
        run.at += 1000;
        run.fence(4, true, false);
        keyed(run, "v2", 5, "k");
        keyed(run, "w", 6, "other");
    });
    assert_eq!(over, clean(), "its lease was over");
    let pending = replaced(&|run| {
        run.fence(4, false, false);
        keyed(run, "v2", 5, "k");
        keyed(run, "w", 6, "other");
    });
    assert_eq!(pending, clean(), "the fence was not done");
    let told = |through| {
        replaced(&|run| {
            run.missed("retention", 4, through, Some(ORIGIN)).fence(4, true, false);
            keyed(run, "w", 6, "other");
        })
    };
    assert_eq!(told(5), clean(), "what replaces it was missed, and that was told");
}

#[test]
fn p9_what_was_rejected_is_not_applied_yet() {
    let mut run = Run::faultless();
    run.trust(1, 1000).publish("d", 4, Sure::Stored).hear(1, 4, "d");
    run.say(What::Rejecting { stream: 1, offset: 4 }).fence(4, true, false);
    run.hear_at(1, 4, 4, 2, event("d"));
    assert_eq!(run.verdicts(), [Verdict::Unsound]);
}
