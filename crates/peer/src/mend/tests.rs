//! Whom it asks, and when it gives up.
#![allow(clippy::unwrap_used, reason = "tests")]

use evermesh_event::JournalId;

use super::*;

const LEASE: Duration = Duration::from_secs(2);

fn name(node: usize) -> NodeName {
    NodeName::new(&format!("web-{node}")).unwrap()
}

fn lacking(node: usize, after: u64, through: u64) -> Lacking {
    let origin = Origin { node: name(node), journal: JournalId::new([1; 16]) };
    Lacking { origin, after: at(after), through: at(through) }
}

fn at(sequence: u64) -> Sequence {
    Sequence::from_u64(sequence)
}

fn mend(members: std::ops::Range<usize>) -> Mend {
    let mut mend = Mend::default();
    members.for_each(|member| mend.linked(&name(member)));
    mend
}

const NOW: Duration = Duration::from_secs(100);

#[test]
fn p1_one_member_after_the_other_is_asked_before_anything_is_missed() {
    let mut mend = mend(1..3);
    let all = [lacking(5, 3, 9)];
    assert_eq!(mend.ask(&name(1), &all, NOW), Some(all[0].clone()));
    assert_eq!(mend.ask(&name(2), &all, NOW), None, "one is enough");
    assert_eq!(mend.ask(&name(1), &all, NOW), None, "and once");
    mend.answered(&name(1), at(6), &all);
    assert_eq!(mend.hopeless(&all, true, LEASE, NOW), [], "the other was not asked");
    assert_eq!(mend.ask(&name(1), &all, NOW), None, "it does not hold it");
    assert_eq!(mend.ask(&name(2), &all, NOW), Some(all[0].clone()));
    mend.answered(&name(2), Sequence::ZERO, &all);
    assert_eq!(mend.hopeless(&all, false, LEASE, NOW), [], "a third may come");
    let hopeless = mend.hopeless(&all, true, LEASE, NOW);
    assert_eq!(hopeless, [(all[0].clone(), at(6))], "as far as one of them goes on");
    let rest = [lacking(5, 6, 9)];
    assert_eq!(mend.ask(&name(1), &rest, NOW), Some(rest[0].clone()));
}

#[test]
fn nobody_is_asked_twice_for_what_it_does_not_hold() {
    let mut mend = mend(1..2);
    let all = [lacking(5, 3, 9), lacking(5, 20, 22)];
    for wanted in &all {
        assert_eq!(mend.ask(&name(1), &all, NOW).as_ref(), Some(wanted));
        mend.answered(&name(1), Sequence::ZERO, &all);
    }
    assert_eq!(mend.ask(&name(1), &all, NOW), None);
    assert_eq!(mend.hopeless(&all, true, LEASE, NOW).len(), 2);
}

#[test]
fn who_brought_something_is_asked_for_the_rest_and_who_goes_away_for_nothing() {
    let mut mend = mend(1..3);
    let all = [lacking(5, 3, 9), lacking(6, 0, 2)];
    assert_eq!(mend.ask(&name(1), &all, NOW), Some(all[0].clone()));
    assert_eq!(mend.ask(&name(2), &all, NOW), Some(all[1].clone()), "at the same time");
    let rest = [lacking(5, 7, 9), lacking(6, 0, 2)];
    mend.answered(&name(1), Sequence::ZERO, &rest);
    assert_eq!(mend.ask(&name(1), &rest, NOW), Some(rest[0].clone()));
    mend.unlinked(&name(1));
    mend.answered(&name(2), Sequence::ZERO, &rest[..1]);
    assert_eq!(mend.ask(&name(2), &rest[..1], NOW), Some(rest[0].clone()));
}

#[test]
fn nobody_is_waited_for_longer_than_is_said() {
    let mut alone = mend(0..0);
    let all = [lacking(5, 3, 9)];
    assert_eq!(alone.hopeless(&all, false, LEASE, NOW), []);
    assert_eq!(alone.hopeless(&all, false, LEASE, NOW + LEASE), []);
    let hopeless = alone.hopeless(&all, false, LEASE, NOW + LEASE * 2);
    assert_eq!(hopeless, [(all[0].clone(), at(9))], "nobody came");
    let mut silent = mend(1..3);
    assert!(silent.ask(&name(1), &all, NOW).is_some());
    assert_eq!(silent.hopeless(&all, true, LEASE, NOW + LEASE / 2), []);
    silent.came(&name(1), NOW + LEASE / 2);
    assert_eq!(silent.hopeless(&all, true, LEASE, NOW + LEASE), []);
    assert_eq!(silent.ask(&name(2), &all, NOW + LEASE), None, "something came");
    assert_eq!(silent.hopeless(&all, true, LEASE, NOW + LEASE * 3 / 2), []);
    assert_eq!(silent.ask(&name(2), &all, NOW + LEASE * 3 / 2), Some(all[0].clone()));
}
