//! Batches against a shadow: whatever the blocks, the filter and the room, what comes out is every
//! heard entry once, in order, with its own offset.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::SystemTime;

use evermesh_event::{
    BlockBuilder, Fill, JournalId, NodeName, Sequence, StartId, ValidEvent, validate,
};
use evermesh_proto::v1;
use proptest::prelude::*;

use super::*;

const SITES: [&str; 3] = ["shop", "intranet", "blog"];

fn origin(node: u8) -> Origin {
    let node = NodeName::new(&format!("web-{node}")).unwrap();
    Origin { node, journal: JournalId::new([7; 16]) }
}

fn event(site: usize, bytes: usize) -> ValidEvent {
    let event = v1::Event {
        site: SITES[site].into(),
        r#type: "t".into(),
        data: vec![7; bytes].into(),
        ..Default::default()
    };
    validate(event, Fill { id: uuid::Uuid::nil(), now: SystemTime::UNIX_EPOCH }).unwrap()
}

/// One block to be: its origin, its entries (site, bytes), how many at its front were here already,
/// and how far its offset lies after the record before.
type Plan = (u8, Vec<(usize, usize)>, usize, u64);

/// Offset, node, sequence and site of an entry.
type Shadow = (u64, String, u64, usize);

/// The records, and every taken entry.
fn records(plans: &[Plan]) -> (Vec<Arc<Record>>, Vec<Shadow>) {
    let (mut records, mut shadow) = (Vec::new(), Vec::new());
    let (mut offset, mut sequence) = (0, 0);
    for (node, entries, skip, gap) in plans {
        let origin = origin(*node);
        let previous = Sequence::from_u64(sequence);
        let mut builder = BlockBuilder::new(origin.clone(), StartId::new([1; 16]), previous);
        let skip = skip % entries.len();
        offset += 1 + gap;
        let first = offset;
        for (place, (site, bytes)) in entries.iter().enumerate() {
            sequence += 1;
            builder.push(Sequence::from_u64(sequence), &event(*site, *bytes), false);
            if place >= skip {
                shadow.push((offset, origin.node.to_string(), sequence, *site));
                offset += 1;
            }
        }
        offset -= 1;
        let block = builder.finish().unwrap();
        let content = Content::Block { block, skip: u32::try_from(skip).unwrap() };
        records.push(Arc::new(Record::new(Offset::from_u64(first), content)));
    }
    (records, shadow)
}

fn plan() -> impl Strategy<Value = Plan> {
    let entries = proptest::collection::vec((0_usize..3, 0_usize..200), 1..12);
    (1_u8..3, entries, 0_usize..12, prop_oneof![4 => Just(0_u64), 1 => 1_u64..1000])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_comes_out_is_every_heard_entry_once(
        plans in proptest::collection::vec(plan(), 1..12),
        heard in proptest::sample::subsequence(vec![0_usize, 1, 2], 1..=3),
        rooms in proptest::collection::vec(1_u32..20, 1..8),
        after in 0_u64..30,
    ) {
        let (records, shadow) = records(&plans);
        let sites = heard.iter().map(|site| SITES[*site].to_owned()).collect();
        let filter = Filter::new(Some(sites), vec![], vec![]).unwrap();
        let mut batches = Batches::new(Offset::from_u64(after));
        let beyond: Vec<_> =
            records.iter().filter(|record| record.end().as_u64() > after).cloned().collect();
        let last = records.last().unwrap().end().as_u64();
        batches.extend(beyond);
        let mut out = Vec::new();
        let mut rooms = rooms.iter().cycle();
        while !batches.is_empty() {
            let room = *rooms.next().unwrap();
            let Some(outgoing) = batches.next(&filter, &Rejects::default(), room) else { continue };
            let Outgoing::Delivery { delivery, runs } = outgoing else { panic!("no missed here") };
            let node = delivery.origin.clone().unwrap().node;
            let told = runs.iter().flat_map(|(first, count)| {
                (0..u64::from(*count)).map(|n| first.as_u64() + n)
            });
            let mut count = 0;
            for ((place, entry), told) in delivery.entries().enumerate().zip(told) {
                let entry = entry.unwrap();
                let follows = delivery.first_offset + place as u64;
                let offset = delivery.offsets.get(place).copied().unwrap_or(follows);
                prop_assert_eq!(offset, told, "the window counts what the application is told");
                let site = SITES.iter().position(|s| *s == entry.event.clone().unwrap().site);
                out.push((offset, node.clone(), entry.sequence, site.unwrap()));
                count += 1;
            }
            prop_assert!(count >= 1 && count <= room, "{} of {}", count, room);
        }
        prop_assert!(after >= last || batches.at().as_u64() == last);
        let expected: Vec<_> = shadow
            .into_iter()
            .filter(|(offset, _, _, site)| *offset > after && heard.contains(site))
            .collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn p3_what_is_set_aside_is_told_in_its_place_and_what_comes_again_says_so(
        plans in proptest::collection::vec(plan(), 1..8),
        heard in proptest::sample::subsequence(vec![0_usize, 1, 2], 1..=3),
        aside in proptest::collection::vec(0_u64..60, 0..8),
        again in proptest::option::of(0_u64..60),
        rooms in proptest::collection::vec(1_u32..20, 1..8),
    ) {
        let (records, shadow) = records(&plans);
        let sites = heard.iter().map(|site| SITES[*site].to_owned()).collect();
        let filter = Filter::new(Some(sites), vec![], vec![]).unwrap();
        let mut rejects = Rejects::new(aside.iter().copied().map(Offset::from_u64).collect());
        if let Some(through) = again {
            rejects.reject(Offset::ZERO, Offset::from_u64(through));
        }
        let attempt = |offset| if again.is_some_and(|through| offset <= through) { 2 } else { 1 };
        let mut batches = Batches::new(Offset::ZERO);
        let ends: Vec<_> = records.iter().map(|record| record.end()).collect();
        batches.extend(records);
        let mut out = Vec::new();
        let mut rooms = rooms.iter().cycle();
        while !batches.is_empty() {
            match batches.next(&filter, &rejects, *rooms.next().unwrap()) {
                Some(Outgoing::Delivery { delivery, runs }) => {
                    let told = runs.iter().flat_map(|(first, count)| {
                        (0..u64::from(*count)).map(|n| first.as_u64() + n)
                    });
                    for (offset, entry) in told.zip(delivery.entries()) {
                        out.push((offset, entry.unwrap().sequence, delivery.attempt));
                    }
                }
                Some(Outgoing::Missed { missed, offset }) => {
                    prop_assert_eq!(missed.cause, v1::MissedCause::DeadLetter);
                    prop_assert_eq!(missed.from, missed.through);
                    out.push((offset.as_u64(), missed.from.as_u64(), 0));
                }
                None => {}
            }
        }
        let passed: Vec<_> = batches.take_passed().into_iter().map(|passed| passed.end).collect();
        prop_assert_eq!(passed, ends, "every record is passed once");
        let expected: Vec<_> = shadow
            .into_iter()
            .filter(|(_, _, _, site)| heard.contains(site))
            .map(|(offset, _, sequence, _)| {
                let told = if aside.contains(&offset) { 0 } else { attempt(offset) };
                (offset, sequence, told)
            })
            .collect();
        prop_assert_eq!(out, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// An application that rejected something passes over whatever begins behind it. So the first
    /// that it is told is in that place, or the stream ends before anything is said.
    #[test]
    fn p1_what_was_rejected_comes_again_first_or_the_stream_ends(
        sites in proptest::collection::vec(0_usize..3, 1..20),
        rejected in any::<proptest::sample::Index>(),
        cut in 0_usize..20,
        replaced in proptest::collection::btree_set(0_usize..20, 0..12),
        aside in any::<bool>(),
        rooms in proptest::collection::vec(1_u32..5, 1..8),
    ) {
        let plans: Vec<_> = sites.iter().map(|site| (1, vec![(*site, 1)], 0, 0)).collect();
        let (records, shadow) = records(&plans);
        let heard: Vec<_> = shadow.iter().filter(|(_, _, _, site)| *site < 2).collect();
        prop_assume!(!heard.is_empty());
        let at = rejected.get(&heard).0;
        let newest = records.last().unwrap().end();
        let mut rejects = Rejects::default();
        rejects.reject(Offset::from_u64(at), newest);
        if aside {
            rejects.set_aside(Offset::from_u64(at));
        }

        // Meanwhile the oldest are cut, and some are replaced.
        let cut = records.len().min(cut);
        let mut left: Vec<_> = records.iter().enumerate().skip(cut).collect();
        left.retain(|(place, _)| !replaced.contains(place));
        let mut left: Vec<_> = left.into_iter().map(|(_, record)| Arc::clone(record)).collect();
        if cut > 0 {
            let missed = Missed {
                origin: Some(origin(1)),
                from: Sequence::ZERO,
                through: Sequence::from_u64(cut as u64),
                sites: Vec::new(),
                cause: v1::MissedCause::Retention,
            };
            left.insert(0, Arc::new(Record::new(records[cut - 1].end(), Content::Missed(missed))));
        }
        left.retain(|record| record.end().as_u64() >= at);
        let told = |record: &Record| match &record.content {
            Content::Missed(_) => true,
            Content::Block { .. } => {
                heard.iter().any(|(offset, ..)| record.offset.as_u64() == *offset)
            }
        };
        let expected: Vec<_> =
            left.iter().filter(|record| told(record)).map(|record| record.end().as_u64()).collect();
        let comes = expected.first() == Some(&at);

        let sites = SITES[..2].iter().map(ToString::to_string).collect();
        let filter = Filter::new(Some(sites), vec![], vec![]).unwrap();
        let mut batches = Batches::new(Offset::from_u64(at - 1));
        batches.extend(left);
        let (mut out, mut rooms) = (Vec::new(), rooms.iter().cycle());
        while !batches.is_empty() {
            let outgoing = batches.next(&filter, &rejects, *rooms.next().unwrap());
            let said = outgoing.as_ref().map(Outgoing::first);
            if !rejects.goes_on(said, batches.at()) {
                prop_assert!(!comes && out.is_empty(), "it ended though {} came: {:?}", at, out);
                return Ok(());
            }
            match outgoing {
                Some(Outgoing::Delivery { runs, .. }) => out.extend(runs.iter().flat_map(
                    |(first, count)| first.as_u64()..first.as_u64() + u64::from(*count)
                )),
                Some(Outgoing::Missed { offset, .. }) => out.push(offset.as_u64()),
                None => {}
            }
        }
        prop_assert!(comes || expected.is_empty(), "it waits for {}, and hears {:?}", at, out);
        prop_assert_eq!(out, expected);
    }
}

#[test]
fn a_delivery_is_bounded_in_bytes_and_takes_the_largest_event() {
    let large = vec![(0, 200_000), (0, 200_000)];
    let (records, _) = records(&[(1, large, 0, 0), (1, vec![(0, 10)], 0, 0)]);
    let filter = Filter::default();
    let mut batches = Batches::new(Offset::ZERO);
    batches.extend(records);
    let mut sizes = Vec::new();
    while let Some(Outgoing::Delivery { delivery, .. }) =
        batches.next(&filter, &Rejects::default(), 100)
    {
        sizes.push(delivery.entries().count());
    }
    assert!(sizes.iter().sum::<usize>() == 3 && sizes[0] <= 2, "{sizes:?}");
}

#[test]
fn a_missed_stands_between_what_is_before_and_after_it() {
    let missed = |sites: &[&str]| Missed {
        origin: None,
        from: Sequence::ZERO,
        through: Sequence::ZERO,
        sites: sites.iter().map(ToString::to_string).collect(),
        cause: v1::MissedCause::Hole,
    };
    let (mut all, _) = records(&[(1, vec![(0, 1)], 0, 0), (1, vec![(0, 1)], 0, 1)]);
    let record = |missed| Record::new(Offset::from_u64(2), Content::Missed(missed));
    all.insert(1, Arc::new(record(missed(&["shop"]))));
    let kinds = |sites: &[&str]| {
        let sites = sites.iter().map(ToString::to_string).collect();
        let filter = Filter::new(Some(sites), vec![], vec![]).unwrap();
        let mut batches = Batches::new(Offset::ZERO);
        batches.extend(all.clone());
        let mut kinds = Vec::new();
        while !batches.is_empty() {
            match batches.next(&filter, &Rejects::default(), 10) {
                Some(Outgoing::Delivery { .. }) => kinds.push("delivery"),
                Some(Outgoing::Missed { .. }) => kinds.push("missed"),
                None => {}
            }
        }
        kinds
    };
    assert_eq!(kinds(&["shop"]), ["delivery", "missed", "delivery"]);
    assert!(kinds(&["blog"]).is_empty(), "it concerns another site");
}
