//! Disks that are another one than before: what that excuses, and what it does not.

use super::*;

/// The numbers of these histories are of the epoch 0: so is the start that gave them.
fn verdicts_of_epoch_0(run: &mut Run) -> Vec<Verdict> {
    for line in &mut run.lines {
        if let What::Started { epoch, .. } = &mut line.what {
            *epoch = 0;
        }
    }
    run.verdicts()
}

#[test]
fn p1_what_a_disk_took_is_excused_if_no_other_one_shows_it() {
    let with = |by: Exchange, through: u64, witnesses: &[&str]| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).stopped(End::Killed);
        run.exchanged(by, through, witnesses).say(What::Quiet);
        verdicts_of_epoch_0(&mut run)
    };
    assert_eq!(with(Exchange::Emptied, 0, &[]), clean());
    assert_eq!(with(Exchange::Restored, 3, &[]), clean());
    assert_eq!(with(Exchange::Restored, 4, &[]), [Verdict::NotLive], "the copy has it");
    assert_eq!(with(Exchange::Emptied, 0, &["web-2"]), [Verdict::NotLive], "web-2 shows it");
}

#[test]
fn p1_who_was_gone_before_a_disk_showed_it_could_not_be_told() {
    let lost = |then: &dyn Fn(&mut Run)| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).stopped(End::Killed);
        run.exchanged(Exchange::Restored, 3, &[]).started("s2").publish("e", 5, Sure::Stored);
        then(&mut run);
        verdicts_of_epoch_0(&mut run)
    };
    fn shows(run: &mut Run) -> &mut Run {
        run.stopped(End::Killed).exchanged(Exchange::Restored, 4, &[])
    }
    let closed = || What::Closed { subscription: 1 };
    let before = |run: &mut Run| {
        shows(run.hear(1, 5, "e").say(closed()));
    };
    assert_eq!(lost(&before), clean());
    let meanwhile = |run: &mut Run| {
        shows(run.hear(1, 5, "e")).say(closed());
    };
    assert_eq!(lost(&meanwhile), clean(), "nobody says how soon it is told what it passed over");
    let after = |run: &mut Run| {
        shows(run).hear(1, 5, "e").say(closed());
    };
    assert_eq!(lost(&after), [Verdict::Lost], "the disk that has it was there again");
    let stays = |run: &mut Run| {
        shows(run.hear(1, 5, "e")).say(What::Quiet);
    };
    assert_eq!(lost(&stays), [Verdict::Lost], "it was there to be told");
}

#[test]
fn p1_what_another_start_numbered_alike_is_not_there() {
    let with = |start: &str| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).stopped(End::Killed).exchanged(
            Exchange::FlippedState,
            4,
            &[],
        );
        if let What::Exchanged { origins, .. } = &mut run.lines.last_mut().unwrap().what {
            let starts = BTreeMap::from([(start.to_owned(), 4)]);
            origins.values_mut().for_each(|remains| remains.starts = starts.clone());
        }
        run.say(What::Quiet);
        verdicts_of_epoch_0(&mut run)
    };
    assert_eq!(with("s1"), [Verdict::NotLive]);
    assert_eq!(with("s0"), clean(), "another one, of the same epoch");
}

#[test]
fn p1_who_left_before_it_was_told_what_a_copy_lacked_cannot_be_told() {
    let with = |last: What| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).stopped(End::Killed);
        run.exchanged(Exchange::Restored, 3, &["web-2"]).started("s2");
        run.publish("e", 5, Sure::Stored).hear(1, 5, "e").say(last);
        verdicts_of_epoch_0(&mut run)
    };
    assert_eq!(with(What::Closed { subscription: 1 }), clean());
    assert_eq!(with(What::Quiet), [Verdict::Lost], "web-2 shows it");
}

#[test]
fn what_was_heard_before_an_event_was_there_passed_over_nothing() {
    let with = |handed_in_first: bool| {
        let mut run = Run::faultless();
        run.stopped(End::Killed).exchanged(Exchange::Restored, 1, &["web-2"]).started("s2");
        if handed_in_first {
            run.hand_in("d");
        }
        run.hand_in("e").hear(1, 5, "e");
        run.publish("d", 4, Sure::Stored).say(What::Closed { subscription: 1 });
        verdicts_of_epoch_0(&mut run)
    };
    assert_eq!(with(false), clean(), "e bears a number of the copy before");
    assert_eq!(with(true), [Verdict::Lost]);
}

#[test]
fn p1_what_was_assured_on_the_disk_that_is_there_is_not_excused() {
    let mut run = Run::faultless();
    run.stopped(End::Killed).exchanged(Exchange::Emptied, 0, &[]).started("s2");
    run.publish("d", 4, Sure::Stored).say(What::Quiet);
    assert_eq!(verdicts_of_epoch_0(&mut run), [Verdict::NotLive]);
}

#[test]
fn p1_what_is_told_of_disks_is_needless_where_none_was_another() {
    let with = |cause: &str, by: Option<Exchange>| {
        let mut run = Run::faultless();
        run.stopped(End::Killed);
        if let Some(by) = by {
            run.exchanged(by, 3, &[]);
        }
        run.missed(cause, 0, 0, Some(ORIGIN));
        run.verdicts()
    };
    assert_eq!(with("rolled_back", None), [Verdict::MissedNeedlessly]);
    assert_eq!(with("rolled_back", Some(Exchange::Restored)), clean());
    assert_eq!(with("rolled_back", Some(Exchange::Renamed)), [Verdict::MissedNeedlessly]);
    assert_eq!(with("damaged", None), [Verdict::MissedNeedlessly]);
    assert_eq!(with("damaged", Some(Exchange::Flipped)), clean());
    assert_eq!(with("damaged", Some(Exchange::Restored)), [Verdict::MissedNeedlessly]);
}

#[test]
fn p1_what_a_node_cut_is_needless_only_while_it_holds_it_itself() {
    let with = |node: &str, base: u64| {
        let mut run = Run::faultless();
        run.missed("retention", 4, 6, Some(ORIGIN)).holds(node, base, 6, 6);
        run.verdicts()
    };
    assert_eq!(with("web-1", 3), [Verdict::MissedNeedlessly]);
    assert_eq!(with("web-1", 6), clean(), "it is lost there");
    assert_eq!(with("web-2", 3), clean(), "another one does");
}

#[test]
fn p1_an_unknown_place_needs_one_to_be_named() {
    let mut run = Run::faultless();
    run.open(1, 2, Begin::Live, 3).missed("unknown_token", 0, 0, None);
    match &mut run.lines.last_mut().unwrap().what {
        What::Missed { stream, .. } => *stream = 2,
        _ => unreachable!(),
    }
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly], "it began live");
    let with = |by: Option<Exchange>| {
        let mut run = Run::faultless();
        run.stopped(End::Killed);
        if let Some(by) = by {
            run.exchanged(by, 3, &[]);
        }
        run.started("s1").open(1, 2, token("s1", 3), 3).missed("unknown_token", 0, 0, None);
        match &mut run.lines.last_mut().unwrap().what {
            What::Missed { stream, .. } => *stream = 2,
            _ => unreachable!(),
        }
        run.verdicts()
    };
    assert_eq!(with(None), [Verdict::MissedNeedlessly]);
    assert_eq!(with(Some(Exchange::FlippedState)), clean(), "its disk may not know it");
}

#[test]
fn a_number_that_a_copy_gave_again_is_contested() {
    let with = |through: Option<u64>| {
        let mut run = Run::faultless();
        run.stopped(End::Killed);
        if let Some(through) = through {
            run.exchanged(Exchange::Restored, through, &["web-2"]);
        }
        run.publish("d", 3, Sure::Stored);
        run.verdicts().contains(&Verdict::Reused)
    };
    assert!(with(None));
    assert!(!with(Some(2)), "a copy that did not have it numbered anew");
    assert!(with(Some(3)), "a copy that had it");
}

#[test]
fn p4_what_a_member_had_on_a_disk_that_is_gone_was_no_overstatement() {
    let with = |by: Exchange| {
        let mut run = Run::faultless();
        run.at += 5000;
        run.hand_in("d").answer("d", 4, Sure::Replicated, &[("web-2", "stored")]);
        let origins = BTreeMap::new();
        run.say(What::Exchanged { node: "web-2".into(), by, origins });
        run.holds("web-2", 0, 3, 3).hear(1, 4, "d");
        run.verdicts()
    };
    assert_eq!(with(Exchange::Emptied), clean());
    let mut run = Run::faultless();
    run.at += 5000;
    run.hand_in("d").answer("d", 4, Sure::Replicated, &[("web-2", "stored")]);
    run.holds("web-2", 0, 3, 3).hear(1, 4, "d");
    assert_eq!(run.verdicts(), [Verdict::Overstated]);
}

#[test]
fn p3_a_place_that_a_disk_lost_may_lead_back() {
    let with = |by: Option<Exchange>| {
        let mut run = Run::faultless();
        run.stopped(End::Goodbye);
        if let Some(by) = by {
            run.exchanged(by, 3, &[]);
        }
        run.started("s1").open(1, 2, token("s1", 3), 1);
        run.verdicts()
    };
    assert_eq!(with(None), [Verdict::Duplicated]);
    assert_eq!(with(Some(Exchange::Flipped)), clean());
    assert_eq!(with(Some(Exchange::Renamed)), [Verdict::Duplicated]);
}

#[test]
fn p9_what_is_applied_under_one_journal_is_not_under_another() {
    let with = |journal: &str| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).hand_in("e").hear(1, 5, "e").trust(1, 900);
        let other = |sequence| Number { origin: "web-1/j2".into(), sequence };
        let again =
            What::Heard { stream: 1, number: other(1), offset: 6, attempt: 1, event: event("e") };
        let newest = Some(Number { origin: format!("web-1/{journal}"), sequence: 5 });
        let taken = vec![Taken { id: "e".into(), number: None }];
        let (node, assured) = ("web-1".to_owned(), Sure::Applied);
        run.say(again).say(What::Published { node, assured, taken, newest, members: Vec::new() });
        run.open(1, 2, token("s1", 3), 3).hear(2, 4, "d");
        run.verdicts().contains(&Verdict::Unsound)
    };
    assert!(with("j1"), "d lies below e there");
    assert!(!with("j2"), "of j1 nothing was said");
}

#[test]
fn what_two_disks_numbered_is_assured_as_on_the_one_that_was_there() {
    let with = |through: u64| {
        let mut run = Run::faultless();
        // Heard as 4; the disk is exchanged, and heard as 7; exchanged again, and then assured.
        run.hand_in("d").open(2, 2, Begin::Live, 3).hear(2, 4, "d").stopped(End::Killed);
        run.exchanged(Exchange::Restored, 3, &["web-2"]).started("s2").hear(2, 7, "d");
        run.stopped(End::Killed).exchanged(Exchange::Restored, through, &[]).started("s3");
        let taken = vec![Taken { id: "d".into(), number: None }];
        let (node, assured, members) = ("web-1".to_owned(), Sure::Stored, Vec::new());
        run.open(3, 3, Begin::Live, 6).hand_in("f").hand_in("e").hear(3, 6, "f");
        run.say(What::Published { node, assured, taken, newest: None, members });
        run.hear(3, 8, "e").say(What::Closed { subscription: 3 });
        let lost = judge(&run.lines).faults.into_iter().filter(|f| f.verdict == Verdict::Lost);
        lost.filter(|fault| fault.text.ends_with("subscriber 3")).count()
    };
    assert_eq!(with(6), 0, "that disk has it as 4, before subscriber 3 began");
    assert_eq!(with(7), 1, "that disk has it as 7");
}
