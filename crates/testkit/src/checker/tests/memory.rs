//! Nodes that keep no disk: what the end of each start excuses, and what it does not.

use super::*;

/// The node of these histories keeps no disk, or web-2 beside it.
fn in_memory(run: &mut Run, host: &str) {
    for line in &mut run.lines {
        if let What::Started { node, in_memory, epoch, .. } = &mut line.what {
            *in_memory |= node == host;
            // The numbers of these histories are of the epoch 0.
            *epoch = 0;
        }
    }
}

/// A second node, under a journal of its own.
fn other(run: &mut Run, journal: &str) {
    let (node, journal) = ("web-2".into(), journal.into());
    let (called, forgets_ids, in_memory) = (None, false, false);
    let (start, epoch, lease) = ("s9".into(), 1, 1000);
    run.say(What::Started { node, called, journal, start, epoch, lease, forgets_ids, in_memory });
}

/// What was in the memory of a node is gone; these know of its origin.
fn unkept(run: &mut Run, node: &str, origin: &str, witnesses: &[&str]) {
    let witnesses = witnesses.iter().map(|name| (*name).to_owned()).collect();
    let remains = Remains { witnesses, ..Remains::default() };
    let origins = BTreeMap::from([(origin.to_owned(), remains)]);
    run.say(What::Exchanged { node: node.into(), by: Exchange::Unkept, origins });
}

/// A run of a node that stores nothing: what was assured is applied.
fn applied() -> Run {
    let mut run = Run::faultless();
    for line in &mut run.lines {
        if let What::Published { assured, .. } = &mut line.what {
            *assured = Sure::Applied;
        }
    }
    run
}

#[test]
fn p1_what_memory_took_is_excused_if_nobody_else_shows_it() {
    let with = |witnesses: &[&str], first: &str, second: &str| {
        let mut run = applied();
        run.publish("d", 4, Sure::Applied).stopped(End::Killed);
        for host in [first, second] {
            let (origin, shows) = match host {
                "web-1" => (ORIGIN, witnesses),
                _ => ("web-2/j2", [].as_slice()),
            };
            unkept(&mut run, host, origin, shows);
        }
        run.say(What::Quiet);
        in_memory(&mut run, "web-1");
        run.verdicts()
    };
    assert_eq!(with(&[], "web-2", "web-1"), clean());
    assert_eq!(with(&["web-2"], "web-2", "web-1"), [Verdict::NotLive], "web-2 shows it");
    assert_eq!(with(&["web-2"], "web-1", "web-2"), clean(), "and forgot it");
    assert_eq!(with(&["web-3"], "web-1", "web-2"), [Verdict::NotLive]);
}

#[test]
fn p1_what_is_accepted_in_memory_is_due_where_its_start_never_ends() {
    let with = |memory: bool, ends: bool| {
        let mut run = applied();
        run.publish("d", 4, Sure::Accepted);
        if ends {
            run.stopped(End::Killed);
            unkept(&mut run, "web-1", ORIGIN, &["web-2"]);
        }
        for line in &mut run.lines {
            if let What::Publishing { must, .. } = &mut line.what {
                *must = false;
            }
        }
        run.say(What::Quiet);
        in_memory(&mut run, if memory { "web-1" } else { "nobody" });
        run.verdicts()
    };
    assert_eq!(with(true, false), [Verdict::NotLive]);
    assert_eq!(with(true, true), clean(), "it was never more than accepted");
    assert_eq!(with(false, false), clean(), "a disk may refuse it");
}

#[test]
fn p4_nothing_is_stored_without_a_disk() {
    let with = |host: &str, assured: Sure, standing: &str| {
        let mut run = Run::faultless();
        run.lines.retain(|line| !matches!(line.what, What::Published { .. }));
        other(&mut run, "j2");
        run.at += 5000;
        run.hand_in("d").answer("d", 4, assured, &[("web-2", standing)]).hear(1, 4, "d");
        in_memory(&mut run, host);
        run.verdicts()
    };
    assert_eq!(with("nobody", Sure::Replicated, "stored"), clean());
    assert_eq!(with("web-1", Sure::Stored, "pending"), [Verdict::Overstated]);
    assert_eq!(with("web-1", Sure::Replicated, "in_memory"), [Verdict::Overstated]);
    assert_eq!(with("web-1", Sure::Applied, "applied"), clean());
    assert_eq!(with("web-2", Sure::Replicated, "stored"), [Verdict::Overstated]);
    assert_eq!(with("web-2", Sure::Replicated, "in_memory"), clean());
}

/// A subscriber of web-1 that is told that web-2's journal is forgotten, once web-2 is back.
fn told(origin: &str, through: u64, before: impl Fn(&mut Run)) -> Vec<Verdict> {
    told_at(origin, (through, through), before)
}

/// The same with what web-1 had before it was told, and after that.
fn told_at(origin: &str, had: (u64, u64), before: impl Fn(&mut Run)) -> Vec<Verdict> {
    let mut run = Run::faultless();
    other(&mut run, "j2");
    before(&mut run);
    let holds = |through| {
        let (node, origin) = ("web-1".into(), "web-2/j2".into());
        What::Holds { node, origin, base: 0, through, durable: through }
    };
    run.say(holds(had.0)).missed("forgotten", 0, 0, Some(origin)).say(holds(had.1));
    in_memory(&mut run, "web-2");
    run.verdicts()
}

fn ends(run: &mut Run, last_word: Option<&[&str]>) {
    let how = if last_word.is_some() { End::Goodbye } else { End::Killed };
    if let Some(lack) = last_word {
        let number = Number { origin: "web-2/j2".into(), sequence: 7 };
        let lack = lack.iter().map(|name| (*name).to_owned()).collect();
        run.say(What::Leaving { node: "web-2".into(), number, lack });
    }
    run.say(What::Stopped { node: "web-2".into(), how });
    unkept(run, "web-2", "web-2/j2", &["web-1"]);
    other(run, "j3");
}

#[test]
fn p1_forgotten_of_memory_needs_an_end_whose_last_word_is_not_here() {
    let needless = [Verdict::MissedNeedlessly];
    assert_eq!(told("web-2/j2", 7, |_| {}), needless, "it never ended");
    assert_eq!(told("web-2/j2", 7, |run| ends(run, None)), clean());
    assert_eq!(told("web-2/j2", 7, |run| ends(run, Some(&[]))), needless);
    assert_eq!(told("web-2/j2", 6, |run| ends(run, Some(&[]))), clean(), "more was numbered");
    let late = told_at("web-2/j2", (6, 7), |run| ends(run, Some(&[])));
    assert_eq!(late, needless, "others held the rest");
    let deaf = |run: &mut Run| ends(run, Some(&["web-1"]));
    assert_eq!(told("web-2/j2", 7, deaf), clean(), "nobody heard that this was all");
    let second = |run: &mut Run| {
        other(run, "j0");
        unkept(run, "web-2", "web-2/j0", &["web-1"]);
        other(run, "j2");
        ends(run, Some(&[]));
    };
    assert_eq!(told("web-2/j2", 7, second), needless, "j0 is told by itself");
    let restarted = |run: &mut Run| {
        ends(run, Some(&[]));
        run.stopped(End::Killed).started("s2");
    };
    assert_eq!(told("web-2/j2", 7, restarted), needless, "it is stored");
    let gone = |run: &mut Run| {
        restarted(run);
        unkept(run, "web-1", ORIGIN, &[]);
    };
    assert_eq!(told("web-2/j2", 7, gone), clean(), "it was known in memory only");
}

#[test]
fn p1_rolled_back_is_needless_where_nothing_is_kept() {
    let mut run = applied();
    run.stopped(End::Killed);
    unkept(&mut run, "web-1", ORIGIN, &[]);
    run.missed("rolled_back", 0, 0, Some(ORIGIN));
    in_memory(&mut run, "web-1");
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly]);
}

#[test]
fn no_number_of_a_journal_in_memory_is_given_twice() {
    let with = |by: Exchange| {
        let mut run = Run::faultless();
        run.stopped(End::Killed).exchanged(by, 0, &[]).publish("d", 3, Sure::Stored);
        run.verdicts().contains(&Verdict::Reused)
    };
    assert!(with(Exchange::Unkept), "its next start has another journal");
    assert!(!with(Exchange::Emptied));
}

#[test]
fn p1_the_present_journal_of_a_name_without_a_disk_stands_for_no_former_one() {
    let with = |had_another: bool| {
        let mut run = Run::faultless();
        if had_another {
            other(&mut run, "j1");
            run.say(What::Stopped { node: "web-2".into(), how: End::Killed });
            unkept(&mut run, "web-2", "web-2/j1", &["web-3"]);
        }
        other(&mut run, "j2");
        run.missed("forgotten", 0, 0, Some("web-2/j2"));
        in_memory(&mut run, "web-2");
        run.verdicts()
    };
    assert_eq!(with(true), [Verdict::MissedNeedlessly]);
    assert_eq!(with(false), [Verdict::MissedNeedlessly]);
}
