//! Small histories by hand: one that is faultless, and for each verdict the change that brings it,
//! beside the nearest change that must not.

use std::collections::BTreeMap;

use evermesh_event::Sequence;
use evermesh_event::verdict::{self, Fate, History, Published};

use super::*;

mod disks;
mod fences;
mod members;
mod memory;
mod unseen;

const ORIGIN: &str = "web-1/j1";

/// A run that is being written down.
#[derive(Default)]
struct Run {
    lines: Vec<Line>,
    at: u64,
}

fn event(id: &str) -> Event {
    let (id, site) = (id.to_owned(), "shop".to_owned());
    Event { id, site, source: String::new(), coalesce: None }
}

fn number(sequence: u64) -> Number {
    Number { origin: ORIGIN.into(), sequence }
}

impl Run {
    fn say(&mut self, what: What) -> &mut Self {
        self.at += 10;
        self.lines.push(Line { at: self.at, what });
        self
    }

    /// A node that is up, a subscriber of it, and three events that it heard.
    fn faultless() -> Self {
        let mut run = Self::default();
        run.started("s1").open(1, 1, Begin::Live, 0);
        run.publish("a", 1, Sure::Stored).publish("b", 2, Sure::Stored);
        run.publish("c", 3, Sure::Stored).hear(1, 1, "a").hear(1, 2, "b").hear(1, 3, "c");
        run
    }

    fn started(&mut self, start: &str) -> &mut Self {
        let (node, journal, start) = ("web-1".into(), "j1".into(), start.into());
        let (forgets_ids, in_memory, called) = (false, false, None);
        let (epoch, lease) = (1, 1000);
        self.say(What::Started {
            node,
            called,
            journal,
            start,
            epoch,
            lease,
            forgets_ids,
            in_memory,
        })
    }

    fn open(&mut self, subscription: u32, stream: u32, from: Begin, offset: u64) -> &mut Self {
        let (node, sites) = ("web-1".to_owned(), vec!["shop".to_owned()]);
        let exclude_sources = vec!["me".to_owned()];
        self.say(What::Opening { subscription, stream, node, sites, exclude_sources, from });
        self.say(What::Opened { stream, journal: "j1".into(), start: "s1".into(), offset })
    }

    fn publish(&mut self, id: &str, sequence: u64, assured: Sure) -> &mut Self {
        self.hand_in(id).answer(id, sequence, assured, &[])
    }

    fn hand_in(&mut self, id: &str) -> &mut Self {
        let (node, events) = ("web-1".to_owned(), vec![event(id)]);
        self.say(What::Publishing { node, events, must: true })
    }

    fn answer(
        &mut self,
        id: &str,
        sequence: u64,
        assured: Sure,
        members: &[(&str, &str)],
    ) -> &mut Self {
        let taken = vec![Taken { id: id.to_owned(), number: Some(number(sequence)) }];
        let node = "web-1".to_owned();
        self.say(What::Published { node, assured, taken, newest: None, members: named(members) })
    }

    fn fence(&mut self, sequence: u64, done: bool, due: bool) -> &mut Self {
        let members = named(&[("web-2", if done { "applied" } else { "pending" })]);
        let (number, site) = (number(sequence), "shop".to_owned());
        self.say(What::Fenced { number, site, done, members, due })
    }

    fn hear(&mut self, stream: u32, sequence: u64, id: &str) -> &mut Self {
        self.hear_at(stream, sequence, sequence, 1, event(id))
    }

    fn hear_at(
        &mut self,
        stream: u32,
        sequence: u64,
        offset: u64,
        attempt: u32,
        event: Event,
    ) -> &mut Self {
        self.say(What::Heard { stream, number: number(sequence), offset, attempt, event })
    }

    fn missed(&mut self, cause: &str, from: u64, through: u64, origin: Option<&str>) -> &mut Self {
        let (origin, cause) = (origin.map(str::to_owned), cause.to_owned());
        let scope = Scope { origin, from, through, sites: vec!["shop".into()], cause };
        self.say(What::Missed { stream: 1, offset: 3, scope })
    }

    fn trust(&mut self, stream: u32, millis: u64) -> &mut Self {
        let (number, until) = (self.at, self.at + millis);
        self.say(What::Pinging { stream, number });
        let until = BTreeMap::from([("web-1".to_owned(), until)]);
        self.say(What::Fresh { stream, number, until })
    }

    fn holds(&mut self, node: &str, base: u64, through: u64, durable: u64) -> &mut Self {
        let (node, origin) = (node.to_owned(), ORIGIN.to_owned());
        self.say(What::Holds { node, origin, base, through, durable })
    }

    /// The disk of web-1 is another one, which has its events through a sequence.
    fn exchanged(&mut self, by: Exchange, through: u64, witnesses: &[&str]) -> &mut Self {
        let witnesses = witnesses.iter().map(|name| (*name).to_owned()).collect();
        let remains = Remains { through, witnesses, ..Remains::default() };
        let origins = BTreeMap::from([(ORIGIN.to_owned(), remains)]);
        self.say(What::Exchanged { node: "web-1".into(), by, origins })
    }

    fn stopped(&mut self, how: End) -> &mut Self {
        self.say(What::Stopped { node: "web-1".into(), how })
    }

    fn verdicts(&self) -> Vec<Verdict> {
        judge(&self.lines).verdicts().into_iter().collect()
    }
}

fn named(members: &[(&str, &str)]) -> Vec<Member> {
    let member = |(node, standing): &(&str, &str)| Member {
        node: (*node).into(),
        standing: (*standing).into(),
    };
    members.iter().map(member).collect()
}

fn token(start: &str, offset: u64) -> Begin {
    Begin::Token { journal: "j1".into(), start: start.into(), offset }
}

fn clean() -> Vec<Verdict> {
    Vec::new()
}

#[test]
fn a_faultless_history_is_clean_and_counted() {
    let run = Run::faultless();
    let found = judge(&run.lines);
    assert!(found.is_clean(), "{:?}", found.faults);
    assert_eq!((found.counts.assured, found.counts.heard), (3, 3));
    let text = to_json_lines(&run.lines);
    assert_eq!(from_json_lines(&text).unwrap(), run.lines, "it is what was written");
}

#[test]
fn p1_what_was_assured_and_passed_over_is_lost() {
    let mut run = Run::faultless();
    run.publish("d", 4, Sure::Stored).publish("e", 5, Sure::Stored).hear(1, 5, "e");
    assert_eq!(run.verdicts(), [Verdict::Lost]);
    let mut run = Run::faultless();
    run.publish("d", 4, Sure::Accepted).publish("e", 5, Sure::Stored).hear(1, 5, "e");
    assert_eq!(run.verdicts(), clean(), "accepted promises nothing");
    let mut run = Run::faultless();
    run.say(What::Publishing {
        node: "web-1".into(),
        events: vec![Event { source: "me".into(), ..event("d") }],
        must: true,
    });
    run.answer("d", 4, Sure::Stored, &[]).publish("e", 5, Sure::Stored).hear(1, 5, "e");
    assert_eq!(run.verdicts(), clean(), "it left its own out");
}

#[test]
fn p1_what_came_before_a_live_stream_is_not_due_and_from_the_beginning_it_is() {
    let mut run = Run::default();
    run.started("s1").publish("a", 1, Sure::Stored).open(1, 1, Begin::Live, 1);
    run.publish("b", 2, Sure::Stored).hear(1, 2, "b").say(What::Quiet);
    assert_eq!(run.verdicts(), clean());
    run.open(2, 2, Begin::Beginning, 0).hear(2, 2, "b").say(What::Quiet);
    assert_eq!(run.verdicts(), [Verdict::Lost]);
}

#[test]
fn p1_a_missed_covers_what_it_names_and_only_before_anything_later() {
    let lost = |tell: &dyn Fn(&mut Run)| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).publish("e", 5, Sure::Stored);
        tell(&mut run);
        run.verdicts()
    };
    let hole = |from, through, origin| {
        move |run: &mut Run| {
            run.missed("hole", from, through, origin).hear(1, 5, "e");
        }
    };
    assert_eq!(lost(&hole(4, 4, Some(ORIGIN))), clean());
    assert_eq!(lost(&hole(5, 9, Some(ORIGIN))), [Verdict::Lost], "another range");
    assert_eq!(lost(&hole(4, 4, Some("web-2/j2"))), [Verdict::Lost], "another origin");
    assert_eq!(lost(&hole(0, 0, None)), clean(), "everything so far");
    let late = |run: &mut Run| {
        run.hear(1, 5, "e").missed("hole", 4, 4, Some(ORIGIN));
    };
    assert_eq!(lost(&late), [Verdict::Lost], "something later came first");
    let before = |run: &mut Run| {
        run.missed("hole", 0, 0, None).publish("f", 6, Sure::Stored);
        run.publish("g", 7, Sure::Stored).hear(1, 5, "e").hear(1, 7, "g");
    };
    assert_eq!(lost(&before), [Verdict::Lost], "f came after it was told");
    let behind = |run: &mut Run| {
        run.publish("f", 6, Sure::Stored).missed("hole", 0, 0, None);
        run.hear(1, 4, "d").hear(1, 6, "f");
    };
    assert_eq!(lost(&behind), [Verdict::Lost], "d came after it: e lies behind that");
    // It goes to another node and back: there e was still to come when it went again.
    let there_and_back = |above: bool| {
        move |run: &mut Run| {
            run.publish("f", 6, Sure::Stored).publish("g", 7, Sure::Stored);
            run.missed("unknown_token", 0, 0, None);
            if above {
                run.open(1, 2, token("s2", 6), 6).hear(2, 6, "f");
            }
            run.open(1, 3, token("s3", 2), 2).missed("unknown_token", 0, 0, None);
            run.hear_at(3, 4, 4, 1, event("d")).hear_at(3, 7, 7, 1, event("g"));
        }
    };
    let passes = |above| lost(&there_and_back(above)).contains(&Verdict::Lost);
    assert!(!passes(true), "f came before: e was missed by then");
    assert!(passes(false), "d came after all that was told: e lies behind that");
}

#[test]
fn a_newer_one_of_the_same_key_stands_for_those_before_it() {
    let keyed = |id: &str, key: &str| Event { coalesce: Some(key.into()), ..event(id) };
    let with = |key: &str| {
        let mut run = Run::faultless();
        let events = vec![keyed("d", "k"), keyed("e", key)];
        run.say(What::Publishing { node: "web-1".into(), events, must: true });
        run.answer("d", 4, Sure::Stored, &[]).answer("e", 5, Sure::Stored, &[]);
        run.hear_at(1, 5, 5, 1, keyed("e", key));
        run.verdicts()
    };
    assert_eq!(with("k"), clean());
    assert_eq!(with("other"), [Verdict::Lost]);
}

#[test]
fn p2_what_does_not_rise_is_reordered_but_after_a_reject() {
    let mut run = Run::faultless();
    run.publish("d", 4, Sure::Stored).publish("e", 5, Sure::Stored);
    run.hear(1, 5, "e").hear(1, 4, "d");
    assert_eq!(run.verdicts(), [Verdict::Reordered]);
    let mut run = Run::faultless();
    run.hear(1, 3, "c");
    assert_eq!(run.verdicts(), [Verdict::Reordered], "twice in one stream");
    let mut run = Run::faultless();
    run.say(What::Rejecting { stream: 1, offset: 2 });
    run.hear_at(1, 2, 2, 2, event("b")).hear_at(1, 3, 3, 2, event("c"));
    assert_eq!(run.verdicts(), clean());
    run.hear_at(1, 1, 1, 3, event("a"));
    assert_eq!(run.verdicts(), [Verdict::Reordered], "that was not rejected");
}

#[test]
fn p3_a_token_that_does_not_lead_to_its_place_is_duplicated() {
    let mut run = Run::faultless();
    run.open(1, 2, token("s1", 2), 2).hear(2, 3, "c");
    assert_eq!(run.verdicts(), clean(), "c was not acknowledged");
    run.open(1, 3, token("s1", 3), 2).hear(3, 3, "c");
    assert_eq!(run.verdicts(), [Verdict::Duplicated]);
    let mut run = Run::faultless();
    run.stopped(End::PowerLoss).open(1, 2, token("s0", 9), 3);
    assert_eq!(run.verdicts(), clean(), "a former start that crashed ends where its disk did");
}

#[test]
fn p3_what_a_durable_name_had_stored_comes_not_again() {
    let named = |wait: u64| {
        let mut run = Run::default();
        let name = || Begin::Name("varnish".into());
        run.started("s1").open(1, 1, name(), 0).publish("a", 1, Sure::Stored).hear(1, 1, "a");
        run.say(What::Acknowledging { stream: 1, through: 1 }).trust(1, 1);
        run.at += wait;
        run.stopped(End::Killed).open(1, 2, name(), 0).hear(2, 1, "a");
        // The second stream is of another start.
        let said = run.lines.iter_mut().rev().find_map(|line| match &mut line.what {
            What::Opened { start, .. } => Some(start),
            _ => None,
        });
        *said.unwrap() = "s2".into();
        run.verdicts()
    };
    assert_eq!(named(10), clean(), "it had no time to store that");
    assert_eq!(named(5000), [Verdict::Duplicated]);
}

#[test]
fn what_nobody_published_or_asked_for_is_phantom() {
    let mut run = Run::faultless();
    run.hear(1, 4, "x");
    assert_eq!(run.verdicts(), [Verdict::Phantom]);
    let mut run = Run::faultless();
    let blog = Event { site: "blog".into(), ..event("d") };
    run.say(What::Publishing { node: "web-1".into(), events: vec![blog.clone()], must: true });
    run.answer("d", 4, Sure::Stored, &[]).hear_at(1, 4, 4, 1, blog);
    assert_eq!(run.verdicts(), [Verdict::Phantom], "it did not ask for that site");
}

#[test]
fn one_number_for_two_is_reused_and_two_for_one_need_a_crash() {
    let mut run = Run::faultless();
    run.publish("d", 3, Sure::Stored);
    assert!(run.verdicts().contains(&Verdict::Reused));
    let mut run = Run::faultless();
    run.hand_in("d").hear(1, 4, "d").answer("d", 5, Sure::Stored, &[]).hear(1, 5, "d");
    assert_eq!(run.verdicts(), [Verdict::Renumbered]);
    let mut run = Run::faultless();
    run.hand_in("d").hear(1, 4, "d").stopped(End::Killed);
    run.answer("d", 5, Sure::Stored, &[]).hear(1, 5, "d");
    assert_eq!(run.verdicts(), clean(), "it was seen and not on the disk");
    run.answer("d", 6, Sure::Stored, &[]);
    assert_eq!(run.verdicts(), [Verdict::Renumbered], "once assured, it keeps its number");
}

#[test]
fn p1_a_missed_for_what_is_known_or_held_is_needless() {
    let mut run = Run::faultless();
    run.open(1, 2, token("s1", 3), 3).missed("unknown_token", 0, 0, None);
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly]);
    let mut run = Run::faultless();
    run.open(1, 2, token("s9", 3), 3).missed("unknown_token", 0, 0, None);
    assert_eq!(run.verdicts(), clean(), "another node's");
    let mut run = Run::faultless();
    run.missed("hole", 4, 6, Some(ORIGIN)).holds("web-2", 3, 6, 6);
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly]);
    let mut run = Run::faultless();
    run.missed("hole", 4, 6, Some(ORIGIN)).holds("web-2", 4, 6, 6);
    assert_eq!(run.verdicts(), clean(), "nobody held it");
    let mut run = Run::faultless();
    run.missed("retention", 0, 6, Some(ORIGIN)).holds("web-1", 6, 8, 8).holds("web-2", 0, 8, 8);
    assert_eq!(run.verdicts(), clean(), "its node cut it");
    let mut run = Run::faultless();
    run.missed("retention", 0, 6, Some(ORIGIN)).holds("web-1", 5, 8, 8);
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly], "what was lost ended before");
    let mut run = Run::faultless();
    for _ in 0..5 {
        run.say(What::Rejecting { stream: 1, offset: 3 });
    }
    run.missed("dead_letter", 3, 3, Some(ORIGIN));
    assert_eq!(run.verdicts(), clean());
    run.say(What::Rejecting { stream: 1, offset: 2 });
    run.missed("dead_letter", 2, 2, Some(ORIGIN));
    match &mut run.lines.last_mut().unwrap().what {
        What::Missed { offset, .. } => *offset = 2,
        _ => unreachable!(),
    }
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly]);
}

#[test]
fn p1_a_durable_name_that_acknowledged_is_known() {
    let mut run = Run::default();
    let name = || Begin::Name("varnish".into());
    run.started("s1").open(1, 1, name(), 0).missed("unknown_name", 0, 0, None);
    assert_eq!(run.verdicts(), clean(), "a new name");
    run.say(What::Acknowledging { stream: 1, through: 3 }).trust(1, 1);
    run.open(1, 2, name(), 3).missed("unknown_name", 0, 0, None);
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly]);
}

#[test]
fn p4_a_member_that_was_named_has_it_on_its_disk() {
    let with = |durable: u64, standing: &str| {
        let mut run = Run::faultless();
        run.at += 5000;
        run.hand_in("d").answer("d", 4, Sure::Replicated, &[("web-2", standing)]);
        run.holds("web-2", 0, 4, durable).hear(1, 4, "d");
        run.verdicts()
    };
    assert_eq!(with(4, "stored"), clean());
    assert_eq!(with(3, "stored"), [Verdict::Overstated]);
    assert_eq!(with(3, "suspended"), clean());
}

#[test]
fn p4_nobody_is_suspended_before_a_lease_of_this_start_is_over() {
    let with = |wait: u64| {
        let mut run = Run::faultless();
        run.stopped(End::Killed).started("s2");
        run.at += wait;
        run.hand_in("d").answer("d", 4, Sure::Replicated, &[("web-2", "suspended")]);
        run.hear(1, 4, "d");
        run.verdicts()
    };
    assert_eq!(with(500), [Verdict::Hasty]);
    assert_eq!(with(1500), clean());
    assert_eq!(with(10), clean(), "the answer may be of the start before");
    let mut run = Run::faultless();
    run.hand_in("d").stopped(End::Killed).started("s2");
    run.at += 500;
    run.answer("d", 4, Sure::Replicated, &[("web-2", "suspended")]).hear(1, 4, "d");
    assert_eq!(run.verdicts(), clean(), "so may one that a parted network held");
}

#[test]
fn what_is_not_there_at_the_quiet_end_is_not_live() {
    let mut run = Run::faultless();
    run.publish("d", 4, Sure::Stored);
    assert_eq!(run.verdicts(), clean(), "it may still come");
    run.say(What::Quiet);
    assert_eq!(run.verdicts(), [Verdict::NotLive]);
    run.say(What::Closed { subscription: 1 });
    assert_eq!(run.verdicts(), clean(), "nobody is there to hear it");
    let mut run = Run::faultless();
    run.hand_in("d").say(What::Quiet);
    assert_eq!(run.verdicts(), [Verdict::NotLive], "its publisher tries in vain");
    let mut run = Run::faultless();
    run.fence(3, false, true);
    assert_eq!(run.verdicts(), [Verdict::NotLive]);
}

/// The small verdict of `evermesh_event` and this one, over every history of three events, each
/// heard or not, in every order, on one stream or two.
#[test]
fn the_small_verdict_agrees() {
    let ids = ["a", "b", "c"];
    let mut both = 0;
    for code in 0..4_usize.pow(4) {
        let heard: Vec<_> = (0..4).map(|place| (code / 4_usize.pow(place)) % 4).collect();
        let mut run = Run::default();
        let (mut published, mut history) = (Published::default(), History::default());
        run.started("s1").open(1, 1, Begin::Live, 0);
        history.opened();
        for (n, id) in ids.iter().enumerate() {
            run.publish(id, n as u64 + 1, Sure::Stored);
            published.note(id, Fate::Assured);
        }
        // The fourth choice hears nothing.
        for n in heard.into_iter().filter(|n| *n < ids.len()) {
            let sequence = n as u64 + 1;
            run.hear(1, sequence, ids[n]);
            history.heard("web-1", Sequence::from_u64(sequence), ids[n]);
        }
        run.say(What::Quiet);
        let small = verdict::Verdict::of(&published, &history);
        let verdicts = run.verdicts();
        let gone = verdicts.contains(&Verdict::Lost) || verdicts.contains(&Verdict::NotLive);
        let swapped = verdicts.contains(&Verdict::Reordered);
        assert_eq!((gone, swapped), (small.lost > 0, small.reordered > 0), "{:?}", run.lines);
        both += usize::from(gone && swapped);
    }
    assert!(both > 0, "the histories are not all alike");
}
