//! What is put where, and who resumes from where.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::UNIX_EPOCH;

use evermesh_event::{Block, BlockBuilder, Fill, JournalId, NodeName, StartId, validate};
use evermesh_proto::v1;

use super::*;

fn origin(node: &str) -> Origin {
    Origin { node: NodeName::new(node).unwrap(), journal: JournalId::new([1; 16]) }
}

fn sequence(counter: u64) -> Sequence {
    Sequence::from_u64(1 << 40 | counter)
}

fn at(counter: u64) -> Offset {
    Offset::from_u64(1 << 40 | counter)
}

fn block(node: &str, after: u64, through: u64) -> Block {
    let mut block = BlockBuilder::new(origin(node), StartId::new([2; 16]), sequence(after));
    for n in after + 1..=through {
        let (id, site, kind) = (n.to_string(), "shop".into(), "t".into());
        let event = v1::Event { id, site, r#type: kind, ..v1::Event::default() };
        let fill = Fill { id: uuid::Uuid::nil(), now: UNIX_EPOCH };
        block.push(sequence(n), &validate(event, fill).unwrap(), false);
    }
    block.finish().unwrap()
}

fn wound(after: u64, through: u64) -> Wound {
    let place = Place { segment: at(1), marker: 7, position: after * 16 };
    Wound { place, goes_on_at: through * 16, after: at(after), through: at(through) }
}

fn lack(node: &str, after: u64, through: u64, lo: u64, hi: u64) -> Lack {
    Lack::new(origin(node), sequence(after), sequence(through), at(lo), at(hi))
}

/// First and last offset of each record, whose it is, and through which sequence.
fn put(fill: &super::Fill) -> Vec<(u64, u64, String, u64)> {
    let of = |record: &Record| {
        let (whose, through) = record.moves().unwrap();
        let kind = if matches!(record.content, Content::Missed(_)) { "?" } else { "" };
        let name = format!("{}{kind}", whose.node);
        (record.offset.counter(), record.end().counter(), name, through.counter())
    };
    fill.records.iter().map(of).collect()
}

#[test]
fn p11_each_wound_gets_first_what_must_lie_before_something_else() {
    let mut wounds = Wounds::default();
    wounds.awaits();
    wounds.add(wound(10, 12));
    wounds.add(wound(20, 25));
    // Three of `a` in either, four of `b` in either; but `a` goes on between the two.
    assert!(wounds.lacks(lack("b", 0, 4, 5, 30)));
    assert!(wounds.lacks(lack("a", 0, 2, 10, 15)));
    assert_eq!(wounds.meet(&wound(10, 12)), Met::Open);
    assert!(wounds.next_fill().is_none(), "nothing came");
    assert!(wounds.offer(&block("b", 0, 4)));
    assert!(!wounds.offer(&block("b", 0, 4)), "once");
    assert!(wounds.offer(&block("a", 0, 2)));
    let first = wounds.next_fill().unwrap();
    assert!(first.complete);
    assert_eq!(put(&first), [(11, 12, "a".into(), 2)]);
    wounds.filled(&first, &[]);
    let second = wounds.next_fill().unwrap();
    assert_eq!(put(&second), [(21, 25, "b".into(), 4)], "the last stands for what is left over");
    wounds.filled(&second, &[]);
    assert!(wounds.is_empty() && wounds.lacks.is_empty());
}

#[test]
fn p1_what_finds_no_offset_and_what_nobody_holds_is_missed() {
    let mut wounds = Wounds::default();
    wounds.awaits();
    wounds.add(wound(10, 13));
    assert!(wounds.lacks(lack("a", 0, 9, 5, 30)));
    assert!(wounds.offer(&block("a", 0, 5)));
    assert!(wounds.give_up(&origin("a"), sequence(5), sequence(9)));
    let fill = wounds.next_fill().unwrap();
    assert_eq!(put(&fill), [(11, 12, "a".into(), 2), (13, 13, "a?".into(), 9)]);
    let mut given_up = Wounds::default();
    given_up.awaits();
    given_up.add(wound(10, 13));
    assert!(given_up.lacks(lack("a", 0, 9, 5, 30)));
    assert!(given_up.give_up(&origin("a"), sequence(0), sequence(9)));
    assert!(given_up.next_fill().is_none(), "the bytes stay: the next start asks again");
    let Met::Told(told) = given_up.meet(&wound(10, 13)) else { panic!("it is open") };
    assert_eq!((told.len(), told[0].offset), (1, at(13)));
}

#[test]
fn p3_who_resumes_within_what_was_damaged_begins_before_it_also_once_a_part_is_healed() {
    let (after, through, from) = (at(10), at(14), Epoch::new(3).unwrap());
    let mended = [Mended { after, through, from }];
    let mut wounds = Wounds::new(mended, BTreeMap::new());
    wounds.add(wound(14, 20));
    wounds.add(wound(30, 32));
    wounds.begins(Epoch::new(5).unwrap());
    let given = Epoch::new(4).unwrap();
    let resumed = |offset: u64| wounds.resumes(at(offset), given).counter();
    assert_eq!([9, 10, 11, 14, 19].map(resumed), [9, 10, 10, 10, 10]);
    assert_eq!([20, 25, 30, 31, 32].map(resumed), [20, 25, 30, 30, 32]);
}

#[test]
fn p3_a_place_that_was_given_out_in_the_present_order_is_exact() {
    let epoch = |number| Epoch::new(number).unwrap();
    let mended = |after, through, from| Mended { after: at(after), through: at(through), from };
    let new = || {
        let stored = [mended(10, 20, epoch(3)), mended(30, 40, epoch(3))];
        let mut wounds = Wounds::new(stored, BTreeMap::new());
        wounds.add(wound(35, 38));
        wounds.begins(epoch(5));
        wounds.awaits();
        wounds
    };
    let mut wounds = new();
    let resumed = |wounds: &Wounds, offset, given| wounds.resumes(at(offset), epoch(given));
    assert_eq!([2, 3, 5].map(|given| resumed(&wounds, 15, given)), [at(10), at(15), at(15)]);
    assert_eq!([3, 4, 5].map(|given| resumed(&wounds, 39, given)), [at(30), at(30), at(39)]);
    assert_eq!(wounds.reorder(at(35)), Some(mended(30, 40, epoch(5))));
    // What is found while it runs may have been passed in this start; and so may what was told.
    wounds.change();
    wounds.add(wound(12, 14));
    assert_eq!(resumed(&wounds, 15, 5), at(10));
    assert_eq!(wounds.range_of(at(15)).map(|range| range.since), Some(1), "its readers begin anew");
    assert_eq!(wounds.reorder(at(12)), Some(mended(10, 20, epoch(6))));
    let mut told = new();
    assert!(matches!(told.meet(&wound(35, 38)), Met::Told(_)));
    assert_eq!(told.reorder(at(35)), Some(mended(30, 40, epoch(6))));
    assert_eq!((resumed(&told, 37, 5), resumed(&told, 15, 5)), (at(30), at(15)));
    assert_eq!(told.range_of(at(37)).map(|range| range.since), Some(1));
}
