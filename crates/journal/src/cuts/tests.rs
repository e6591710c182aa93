//! What is told of what was cut, and to whom.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use evermesh_event::{BlockBuilder, Fill, JournalId, NodeName, StartId, validate};
use evermesh_proto::v1;

use super::reach::SITES_MAX;
use super::*;

fn origin(node: &str) -> Origin {
    Origin { node: NodeName::new(node).unwrap(), journal: JournalId::new([1; 16]) }
}

fn at(offset: u64) -> Offset {
    Offset::from_u64(offset)
}

fn seq(sequence: u64) -> Sequence {
    Sequence::from_u64(sequence)
}

/// A record with a block of these events, sequence and site, that goes on from a sequence.
fn record(offset: u64, node: &str, previous: u64, events: &[(u64, &str)]) -> Record {
    let mut block = BlockBuilder::new(origin(node), StartId::new([1; 16]), seq(previous));
    for (sequence, site) in events {
        let event = v1::Event { site: (*site).into(), r#type: "t".into(), ..v1::Event::default() };
        let fill = Fill { id: uuid::Uuid::nil(), now: std::time::UNIX_EPOCH };
        block.push(seq(*sequence), &validate(event, fill).unwrap(), false);
    }
    let block = block.finish().unwrap();
    Record::new(at(offset), Content::Block { block, skip: 0 })
}

/// The same without events that newer ones replace.
fn without(mut record: Record, replaced: &[u64]) -> Record {
    let Content::Block { block, .. } = &mut record.content else { unreachable!() };
    let stays = |sequence: Sequence| !replaced.contains(&sequence.as_u64());
    let kept = crate::record::Kept {
        end: at(record.offset.as_u64() + u64::from(block.count()) - 1),
        places: (0..)
            .zip(block.entries())
            .filter(|(_, e)| stays(e.sequence))
            .map(|p| p.0)
            .collect(),
    };
    *block = block.coalesce(block.previous(), |entry| stays(entry.sequence));
    Record { kept: Some(Arc::new(kept)), ..record }
}

fn missed(offset: u64, node: Option<&str>, through: u64, sites: &[&str]) -> Record {
    let missed = Missed {
        origin: node.map(origin),
        from: Sequence::ZERO,
        through: seq(through),
        sites: sites.iter().map(ToString::to_string).collect(),
        cause: MissedCause::Hole,
    };
    Record::new(at(offset), Content::Missed(missed))
}

fn reaches(of: &[Record]) -> Reaches {
    let mut reaches = Reaches::default();
    of.iter().for_each(|record| reaches.note(record));
    reaches
}

fn cut(segments: &[&[Record]]) -> Cuts {
    let mut cuts = Cuts::default();
    for records in segments {
        cuts.add(records.last().unwrap().end(), &reaches(records));
    }
    cuts
}

/// What a reader meets.
#[derive(Debug, PartialEq)]
enum Met {
    /// Offset, of whom, through where, sites.
    Missed(u64, Option<String>, u64, Vec<String>),
    /// Offset, of whom, from where, through where.
    Mark(u64, String, u64, u64),
}

fn lost(offset: u64, node: &str, through: u64, sites: &[&str]) -> Met {
    let sites = sites.iter().map(ToString::to_string).collect();
    Met::Missed(offset, Some(node.to_owned()), through, sites)
}

fn mark(offset: u64, node: &str, from: u64, through: u64) -> Met {
    Met::Mark(offset, node.to_owned(), from, through)
}

fn met(cuts: &Cuts, after: u64) -> Vec<Met> {
    let all = cuts.met_after(at(after)).into_iter().map(|record| match &record.content {
        Content::Missed(missed) => Met::Missed(
            record.offset.as_u64(),
            missed.origin.as_ref().map(|origin| origin.node.to_string()),
            missed.through.as_u64(),
            missed.sites.clone(),
        ),
        Content::Block { block, .. } => {
            assert_eq!((block.count(), record.end()), (0, record.offset));
            Met::Mark(
                record.end().as_u64(),
                block.origin().node.to_string(),
                block.previous().as_u64(),
                block.last().as_u64(),
            )
        }
    });
    all.collect()
}

#[test]
fn p7_who_passed_what_was_cut_misses_nothing_and_others_the_sites_that_were_hit() {
    let a = [record(4, "a", 0, &[(3, "shop")]), record(9, "a", 3, &[(5, "blog")])];
    let cuts = cut(&[&a, &[record(10, "b", 0, &[(2, "x")])]]);
    let x = || lost(10, "b", 2, &["x"]);
    assert_eq!(met(&cuts, 0), [lost(9, "a", 5, &["blog", "shop"]), x()]);
    assert_eq!(met(&cuts, 4), [lost(9, "a", 5, &["blog"]), x()], "shop was passed");
    assert_eq!(met(&cuts, 9), [x()]);
    assert_eq!(met(&cuts, 10), []);
    let place = cuts.place_of(&origin("a"), seq(1));
    assert_eq!(place, Some(Offset::ZERO), "shop lay above 1, too");
    assert_eq!(cuts.place_of(&origin("a"), seq(5)), None);
}

#[test]
fn p1_what_was_replaced_is_not_lost_and_what_replaced_it_is_once_it_is_cut() {
    let two = || record(1, "a", 0, &[(1, "shop"), (2, "blog")]);
    let all = [without(two(), &[1, 2])];
    let cuts = cut(&[&all]);
    assert_eq!(met(&cuts, 0), [mark(2, "a", 0, 2)], "nothing was lost");
    assert_eq!(cuts.bases().get(&origin("a")), seq(0), "it serves who has nothing of it");
    assert_eq!(cuts.frontier().get(&origin("a")), seq(2));

    // One of them stays, and is cut; then what replaced the other one.
    let first = [without(two(), &[2])];
    let cuts = cut(&[&first]);
    assert_eq!(met(&cuts, 0), [lost(1, "a", 1, &["shop"]), mark(2, "a", 1, 2)]);
    assert_eq!(met(&cuts, 1), [mark(2, "a", 1, 2)]);
    assert_eq!(cuts.bases().get(&origin("a")), seq(1));
    let newer = [record(3, "a", 2, &[(3, "blog")])];
    let cuts = cut(&[&first, &newer]);
    assert_eq!(met(&cuts, 0), [lost(3, "a", 3, &["blog", "shop"])]);
    assert_eq!(met(&cuts, 2), [lost(3, "a", 3, &["blog"])], "whoever was before it hears it");
    assert_eq!(met(&cuts, 3), []);
}

#[test]
fn p1_what_was_replaced_behind_what_was_lost_is_led_over() {
    let lost_first = [record(1, "a", 0, &[(1, "shop")])];
    let replaced = [without(record(2, "a", 1, &[(2, "blog")]), &[2])];
    let more = [without(record(3, "a", 2, &[(3, "blog"), (9, "x")]), &[3, 9])];
    let cuts = cut(&[&lost_first, &replaced, &more]);
    assert_eq!(met(&cuts, 0), [lost(1, "a", 1, &["shop"]), mark(4, "a", 1, 9)]);
    assert_eq!(met(&cuts, 1), [mark(4, "a", 1, 9)], "one mark over all of it");
    assert_eq!(cuts.place_of(&origin("a"), seq(8)), Some(Offset::ZERO), "and it must be met");
}

#[test]
fn p1_what_lacks_between_two_records_is_lost_and_of_every_site() {
    let gap = [record(1, "a", 0, &[(1, "shop")]), without(record(5, "a", 3, &[(4, "x")]), &[4])];
    assert_eq!(met(&cut(&[&gap]), 0), [lost(5, "a", 3, &[]), mark(5, "a", 3, 4)]);
    let [before, after] = gap;
    assert_eq!(met(&cut(&[&[before], &[after]]), 1), [lost(5, "a", 3, &[]), mark(5, "a", 3, 4)]);
}

#[test]
fn p1_a_missed_that_is_cut_is_told_and_so_is_that_of_nobody_in_particular() {
    let replaced = without(record(1, "a", 0, &[(1, "shop")]), &[1]);
    let cuts = cut(&[&[replaced, missed(2, Some("a"), 4, &["blog"]), missed(3, None, 0, &[])]]);
    let nobody = || Met::Missed(3, None, 0, Vec::new());
    assert_eq!(met(&cuts, 0), [lost(2, "a", 4, &["blog"]), nobody()]);
    assert_eq!(met(&cuts, 2), [nobody()]);
}

#[test]
fn p1_what_was_damaged_and_cut_is_lost_whatever_was_replaced_around_it() {
    let replaced = [without(record(1, "a", 0, &[(1, "shop")]), &[1])];
    let mut cuts = cut(&[&replaced]);
    cuts.note(&origin("a"), seq(3), at(4));
    assert_eq!(met(&Cuts { end: at(4), ..cuts }, 0), [lost(4, "a", 3, &[])]);
    let mut cuts = cut(&[&replaced]);
    cuts.note_all(at(4));
    let nobody = Met::Missed(4, None, 0, Vec::new());
    assert_eq!(met(&Cuts { end: at(4), ..cuts }, 0), [nobody, lost(4, "a", 1, &[])]);
}

#[test]
fn p1_what_was_cut_of_an_origin_that_is_forgotten_is_told_all_the_same() {
    let a = record(4, "a", 0, &[(3, "shop")]);
    let mut cuts = cut(&[&[a, record(10, "b", 0, &[(2, "blog")])]]);
    cuts.forget(&origin("a"));
    let nobody = Met::Missed(4, None, 0, vec!["shop".to_owned()]);
    assert_eq!(met(&cuts, 0), [nobody, lost(10, "b", 2, &["blog"])]);
    assert_eq!(met(&cuts, 4), [lost(10, "b", 2, &["blog"])]);
    assert!(!cuts.frontier().contains(&origin("a")));
}

#[test]
fn p7_many_sites_become_all_of_them() {
    let mut reach = Reach::default();
    for n in 0..=SITES_MAX as u64 {
        reach.note_site(&n.to_string(), at(n));
    }
    assert_eq!(reach.sites_after(Offset::ZERO), Vec::<String>::new());
    assert_eq!(reach.sites.len(), 1);
}
