//! Blocks there and back, damaged at every byte, and against a shadow model of the receiver's rule.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::frontier::{Frontier, Verdict};
use crate::names::{JournalId, NodeName};
use crate::validate::{Fill, ValidEvent, validate};

fn origin() -> Origin {
    Origin { node: NodeName::new("web-1").unwrap(), journal: JournalId::new([7; 16]) }
}

fn event(site: &str, data: usize) -> ValidEvent {
    let event = v1::Event {
        site: site.into(),
        r#type: "t".into(),
        key: "k".into(),
        data: vec![7; data].into(),
        ..Default::default()
    };
    let fill = Fill { id: uuid::Uuid::nil(), now: SystemTime::UNIX_EPOCH };
    validate(event, fill).unwrap()
}

fn block(previous: u64, sequences: &[u64]) -> Block {
    let mut builder =
        BlockBuilder::new(origin(), StartId::new([1; 16]), Sequence::from_u64(previous));
    for sequence in sequences {
        builder.push(Sequence::from_u64(*sequence), &event("shop", 10), false);
    }
    builder.finish().unwrap()
}

#[test]
fn there_and_back() {
    let built = block(3, &[4, 6, 9]);
    let read = Block::decode(built.encoded().clone()).unwrap();
    assert_eq!(read, built);
    assert_eq!(Block::measure(built.encoded()).unwrap(), built.encoded().len());
    let entries: Vec<_> = read.entries().collect();
    assert_eq!(entries.iter().map(|e| e.sequence.as_u64()).collect::<Vec<_>>(), [4, 6, 9]);
    assert_eq!(entries[1].decode().unwrap(), *event("shop", 10).event());
    assert_eq!(entries[1].glance().site, "shop");
    assert_eq!(read.count_through(Sequence::from_u64(7)), 2);
}

#[test]
fn a_body_is_a_deliverys_entries() {
    let built = block(3, &[4, 6]);
    let mut delivery = evermesh_proto::Delivery::default();
    delivery.attempt = 1;
    delivery.splice(built.body().clone());
    let read = evermesh_proto::Delivery::decode(delivery.encode_to_vec().as_slice()).unwrap();
    let sequences: Vec<_> = read.entries().map(|entry| entry.unwrap().sequence).collect();
    assert_eq!((sequences, read.attempt), (vec![4, 6], 1));
}

#[test]
fn damage_at_every_bit_and_every_length_is_noticed() {
    let whole = block(3, &[4, 6]).encoded().to_vec();
    for cut in 0..whole.len() {
        assert!(Block::decode(Bytes::copy_from_slice(&whole[..cut])).is_err(), "cut at {cut}");
    }
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Block::decode(damaged.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn what_the_header_says_must_be_so() {
    let good = block(3, &[4, 6]);
    let forged = |change: fn(&mut v1::BlockHeader)| {
        let mut header = v1::BlockHeader {
            origin: Some(origin().to_proto()),
            start: vec![1; 16].into(),
            previous: 3,
            last: 6,
            count: 2,
            kinds: vec![],
            sampled: false,
            coalesced: false,
        };
        change(&mut header);
        Block::assemble(good.encoded().clone(), good.body().clone(), header)
    };
    assert!(forged(|_| ()).is_ok());
    assert!(forged(|h| h.count = 3).is_err());
    assert!(forged(|h| h.last = 5).is_err());
    assert!(forged(|h| h.previous = 4).is_err());
    assert!(forged(|h| h.origin = None).is_err());
    assert!(forged(|h| h.start.clear()).is_err());
    assert!(forged(|h| h.last = 1 << 41).is_err(), "two starts in one block");
}

#[test]
fn a_block_is_bounded_and_takes_every_valid_event() {
    let start = StartId::new([1; 16]);
    let large = event("shop", 256 * 1024 - 100);
    let mut builder = BlockBuilder::new(origin(), start, Sequence::ZERO);
    let mut sequence = 0;
    while builder.fits(&large) {
        sequence += 1;
        builder.push(Sequence::from_u64(sequence), &large, false);
    }
    assert_eq!(sequence, 1);
    assert!(builder.finish().unwrap().encoded().len() <= BLOCK_BYTES_MAX);
    let mut builder = BlockBuilder::new(origin(), start, Sequence::ZERO);
    for n in 1..=17 {
        builder.push(Sequence::from_u64(n), &event(&format!("site{n}"), 0), n == 3);
        let expected = if n <= 16 { usize::try_from(n).unwrap() } else { 0 };
        assert_eq!(builder.count(), u32::try_from(n).unwrap());
        if n >= 16 {
            let copy =
                std::mem::replace(&mut builder, BlockBuilder::new(origin(), start, Sequence::ZERO));
            let built = copy.finish().unwrap();
            assert!(built.sampled());
            assert_eq!(built.kinds().len(), expected);
            for again in 1..=n {
                builder.push(Sequence::from_u64(again), &event(&format!("site{again}"), 0), true);
            }
        }
    }
}

#[test]
fn a_block_shows_whether_newer_events_replace_something_of_it() {
    let whole = block(2, &[3, 4, 5]);
    let all = whole.coalesce(Sequence::from_u64(2), |_| true);
    assert!(!whole.replaced() && !all.replaced(), "all of it stayed");
    assert!(all.coalesce(Sequence::from_u64(2), |e| e.sequence.as_u64() != 4).replaced());
    assert!(all.coalesce(Sequence::from_u64(1), |_| true).replaced(), "nor what came before it");
    assert!(!whole.within(Sequence::from_u64(3), Sequence::from_u64(4)).replaced(), "a part");
    assert!(whole.watermark(Sequence::from_u64(4)).replaced());
    let first = (1 << 40) + 1;
    let begins = block(5, &[first, first + 1]).coalesce(Sequence::from_u64(5), |_| true);
    assert!(!begins.replaced(), "a start begins with its first number");
}

#[test]
fn a_coalesced_block_keeps_its_watermark_and_the_bytes_of_what_stays() {
    let whole = block(4, &[5, 6, 7, 9]);
    let left = whole.coalesce(Sequence::from_u64(2), |entry| entry.sequence.as_u64() == 7);
    let read = Block::decode(left.encoded().clone()).unwrap();
    assert_eq!(read, left);
    assert!(read.coalesced() && !whole.coalesced());
    assert_eq!((read.previous().as_u64(), read.last(), read.count()), (2, whole.last(), 1));
    let seventh = whole.entries().nth(2).unwrap();
    assert_eq!(read.body(), &whole.body().slice(seventh.range));
    let none = whole.coalesce(whole.previous(), |_| false);
    let none = Block::decode(none.encoded().clone()).unwrap();
    assert_eq!((none.count(), none.last(), none.count_through(whole.last())), (0, whole.last(), 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The receiver's rule against a shadow: a set of sequences that is here, contiguous in what
    /// the origin numbered.
    #[test]
    fn the_frontier_agrees_with_a_shadow(
        cuts in proptest::collection::vec(1_usize..6, 1..8),
        order in proptest::collection::vec((0_usize..8, 0_usize..8), 1..40),
    ) {
        // The origin numbered 1..=n, and cut them into blocks in several ways.
        let n: usize = cuts.iter().sum();
        let (mut frontier, mut shadow) = (Frontier::default(), std::collections::BTreeSet::new());
        for (from, length) in order {
            let from = from % n;
            let until = (from + 1 + length).min(n);
            let sequences: Vec<u64> = (from as u64 + 1..=until as u64).collect();
            let block = block(from as u64, &sequences);
            let verdict = frontier.judge(&block);
            let here = (1..=n as u64).take_while(|s| shadow.contains(s)).count() as u64;
            let taken = match verdict {
                Verdict::Duplicate => {
                    prop_assert!(sequences.iter().all(|s| shadow.contains(s)));
                    continue
                }
                Verdict::Hole { at, needed } => {
                    prop_assert_eq!((at.as_u64(), needed.as_u64()), (here, from as u64));
                    prop_assert!(here < from as u64);
                    continue
                }
                Verdict::Next => 0,
                Verdict::Straddling { skip } => { prop_assert!(skip > 0); skip as usize }
            };
            for sequence in &sequences[taken..] {
                prop_assert!(shadow.insert(*sequence), "{} was taken twice", sequence);
            }
            frontier.advance(block.origin(), block.last());
            let holes = (1..=frontier.get(block.origin()).as_u64()).any(|s| !shadow.contains(&s));
            prop_assert!(!holes, "a hole below the frontier");
        }
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Block::decode(bytes.into()).is_err());
    }
}
