//! Members that leave, are forgotten, and are gone.

use super::*;

/// A subscriber of web-1 that is told that members are gone: of web-2's journal, or of all.
fn told(before: impl Fn(&mut Run), origin: Option<&str>) -> Vec<Verdict> {
    let mut run = Run::faultless();
    before(&mut run);
    run.missed("forgotten", 0, 0, origin);
    run.verdicts()
}

fn forgotten(run: &mut Run, name: &str) {
    run.say(What::Forgotten { name: name.into() });
}

const OTHER: Option<&str> = Some("web-2/j2");

#[test]
fn p1_forgotten_is_needless_of_who_was_never_gone() {
    assert_eq!(told(|_| {}, OTHER), [Verdict::MissedNeedlessly]);
    assert_eq!(told(|run| forgotten(run, "web-2"), OTHER), clean());
    assert_eq!(told(|run| forgotten(run, "web-3"), OTHER), [Verdict::MissedNeedlessly]);
    let leaves = |run: &mut Run| {
        run.say(What::Leaves { origin: "web-2/j2".into() });
    };
    assert_eq!(told(leaves, OTHER), clean(), "it left, and its last word is not known");
    let emptied = |run: &mut Run| {
        let (node, by) = ("web-2".into(), Exchange::Emptied);
        run.say(What::Exchanged { node, by, origins: BTreeMap::new() });
    };
    assert_eq!(told(emptied, OTHER), clean(), "its disk is another");
    let mut run = Run::faultless();
    run.missed("forgotten", 0, 0, OTHER).say(What::Forgotten { name: "web-2".into() });
    assert_eq!(run.verdicts(), [Verdict::MissedNeedlessly], "it was forgotten after that");
}

#[test]
fn p1_forgotten_of_everybody_needs_somebody_who_was() {
    assert_eq!(told(|_| {}, None), [Verdict::MissedNeedlessly]);
    assert_eq!(told(|run| forgotten(run, "web-3"), None), clean(), "nobody here ever met it");
}

#[test]
fn p1_forgotten_is_needless_where_the_last_word_is() {
    let with = |through: u64| {
        let mut run = Run::faultless();
        let number = Number { origin: "web-2/j2".into(), sequence: 7 };
        run.say(What::Leaving { node: "web-2".into(), number, lack: Vec::new() });
        run.missed("forgotten", 0, 0, OTHER);
        let (node, origin) = ("web-1".into(), "web-2/j2".into());
        run.say(What::Holds { node, origin, base: 0, through, durable: through });
        run.verdicts()
    };
    assert_eq!(with(7), [Verdict::MissedNeedlessly]);
    assert_eq!(with(6), clean());
}

#[test]
fn p1_who_is_forgotten_takes_what_nobody_heard() {
    let with = |origin: Option<&str>| {
        let mut run = Run::faultless();
        run.publish("d", 4, Sure::Stored).say(What::Forgotten { name: "web-1".into() });
        run.missed("forgotten", 0, 0, origin).say(What::Quiet);
        match &mut run.lines.iter_mut().rev().nth(1).unwrap().what {
            What::Missed { scope, .. } => scope.sites.clear(),
            _ => unreachable!(),
        }
        run.verdicts()
    };
    assert_eq!(with(Some(ORIGIN)), clean());
    assert_eq!(with(Some("web-1/j9")), clean(), "of that name, under whichever journal");
    assert_eq!(with(None), clean(), "of everybody");
    let of_another = with(Some("web-2/j2"));
    assert_eq!(of_another, [Verdict::MissedNeedlessly, Verdict::NotLive]);
}

#[test]
fn who_is_gone_is_not_waited_for_before_all_was_heard() {
    let with = |after: u64, absent: &str| {
        let mut run = Run::default();
        run.started("s1").say(What::Healed).say(What::Gone { node: "web-2".into() });
        run.at += after;
        run.open(1, 1, Begin::Live, 0);
        run.say(What::CaughtUp { stream: 1, absent: vec![absent.into()] });
        run.verdicts()
    };
    assert_eq!(with(KNOWN_AFTER_MS, "web-2"), [Verdict::NotLive]);
    assert_eq!(with(KNOWN_AFTER_MS / 2, "web-2"), clean(), "that was not known yet");
    assert_eq!(with(KNOWN_AFTER_MS, "web-3"), clean(), "it is only away");
}

#[test]
fn nobody_publishes_where_a_node_is_gone() {
    let mut run = Run::faultless();
    run.hand_in("d").say(What::Gone { node: "web-1".into() }).say(What::Quiet);
    assert_eq!(run.verdicts(), clean());
    let mut run = Run::faultless();
    run.hand_in("d").say(What::Gone { node: "web-2".into() }).say(What::Quiet);
    assert_eq!(run.verdicts(), [Verdict::NotLive]);
}
