//! The rule of repair, case by case, and against chance: whatever can be served is, and nothing
//! that can be is told as missed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use evermesh_event::JournalId;
use evermesh_proto::v1::MissedCause;
use proptest::prelude::*;

use super::*;

fn name(node: usize) -> NodeName {
    NodeName::new(&format!("web-{node}")).unwrap()
}

fn origin(node: usize) -> Origin {
    Origin { node: name(node), journal: JournalId::new([u8::try_from(node).unwrap(); 16]) }
}

fn at(sequence: u64) -> Sequence {
    Sequence::from_u64(sequence)
}

fn held(holdings: &[(usize, u64, u64)]) -> BTreeMap<Origin, Holding> {
    let of = |(node, base, through): &(usize, u64, u64)| {
        (origin(*node), Holding { base: at(*base), through: at(*through) })
    };
    holdings.iter().map(of).collect()
}

fn missed(node: usize, from: u64, through: u64) -> Missed {
    let origin = Some(origin(node));
    let cause = MissedCause::Retention;
    Missed { origin, from: at(from), through: at(through), sites: Vec::new(), cause }
}

fn here(positions: &[(usize, u64)]) -> Frontier {
    positions.iter().map(|(node, sequence)| (origin(*node), at(*sequence))).collect()
}

fn wanted(repair: &Repair, of: usize, here: &Frontier) -> Vec<usize> {
    let wants = repair.wants(&name(of), &origin(0), here);
    let node = |origin: &Origin| origin.node.as_str()[4..].parse().unwrap();
    wants.origins.keys().map(node).collect()
}

#[test]
fn p6_an_origin_that_is_not_linked_is_pulled_from_one_member_that_holds_more() {
    let mut repair = Repair::default();
    repair.linked(origin(1), held(&[(1, 0, 5), (3, 0, 9), (0, 0, 4)]));
    repair.linked(origin(2), held(&[(2, 0, 5), (3, 0, 9)]));
    let at_7 = here(&[(3, 7)]);
    assert_eq!(wanted(&repair, 1, &at_7), [3]);
    assert!(wanted(&repair, 2, &at_7).is_empty(), "one of them is enough");
    assert!(wanted(&repair, 1, &here(&[(3, 9)])).is_empty(), "this node holds as much");
    repair.unlinked(&name(1));
    assert_eq!(wanted(&repair, 2, &at_7), [3]);
    repair.linked(origin(3), held(&[(3, 0, 9)]));
    assert!(wanted(&repair, 2, &at_7).is_empty(), "the origin serves itself");
}

#[test]
fn p1_a_hole_is_real_once_everybody_was_asked() {
    let mut repair = Repair::default();
    repair.linked(origin(1), held(&[(1, 6, 9)]));
    repair.linked(origin(2), held(&[(1, 0, 8)]));
    repair.linked(origin(3), held(&[(1, 5, 9)]));
    let at_2 = here(&[(1, 2)]);
    repair.lacks(&name(1), missed(1, 3, 6));
    assert_eq!(wanted(&repair, 2, &at_2), [1], "who can serve it is asked first");
    assert!(repair.holes(&at_2).is_empty());
    repair.unlinked(&name(2));
    assert_eq!(wanted(&repair, 3, &at_2), [1], "then who cannot serve all of it");
    repair.lacks(&name(3), missed(1, 3, 5));
    assert_eq!(repair.holes(&at_2), [missed(1, 3, 5)], "the smaller one");
    let at_5 = here(&[(1, 5)]);
    assert_eq!(wanted(&repair, 3, &at_5), [1], "and on from there");
    assert!(repair.holes(&at_5).is_empty());
    let at_6 = here(&[(1, 6)]);
    let wants = repair.wants(&name(1), &origin(0), &at_6);
    assert_eq!(wants.again, BTreeSet::from([origin(1)]), "the origin goes on by itself");
    repair.told(&name(1), &wants.again);
    assert!(wanted(&repair, 1, &at_6).is_empty());
}

/// What a simulated member holds of the one origin: pieces of 1..=20.
type Pieces = Vec<BTreeSet<u64>>;

/// Drives the rule to its end: the sequences that were received, and those told as missed.
fn drive(members: &Pieces, direct: bool) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut repair = Repair::default();
    for (node, pieces) in members.iter().enumerate() {
        let (node, through) = (node + 1, pieces.last().copied().unwrap_or(0));
        let base = (1..=through).rev().find(|n| !pieces.contains(n)).unwrap_or(0);
        // The origin is member 1 if it is there; 9 otherwise.
        repair.linked(origin(node), held(&[(if direct { 1 } else { 9 }, base, through)]));
    }
    let of = if direct { 1 } else { 9 };
    let (mut received, mut lost, mut position) = (BTreeSet::new(), BTreeSet::new(), 0);
    for _ in 0..1000 {
        let now = here(&[(of, position)]);
        let mut moved = false;
        for node in 1..=members.len() {
            let wants = repair.wants(&name(node), &origin(0), &now);
            let direct = node == of;
            let asked = wants.origins.contains_key(&origin(of));
            let lacks = repair.links[&name(node)].lacks_at(&origin(of), position_of(&now, of));
            if lacks || !(asked || direct) {
                continue;
            }
            repair.told(&name(node), &wants.again);
            let pieces = &members[node - 1];
            match pieces.range(position + 1..).next() {
                Some(next) if *next == position + 1 => {
                    position += 1;
                    received.insert(position);
                }
                Some(next) => repair.lacks(&name(node), missed(of, position + 1, next - 1)),
                None => continue,
            }
            moved = true;
            break;
        }
        if !moved {
            let Some(hole) = repair.holes(&now).into_iter().next() else { break };
            lost.extend(position + 1..=hole.through.as_u64());
            position = hole.through.as_u64();
        }
    }
    (received, lost)
}

fn position_of(here: &Frontier, of: usize) -> Sequence {
    here.get(&origin(of))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn p1_p6_what_any_member_holds_arrives_and_nothing_else_is_missed(
        mut members in prop::collection::vec(prop::collection::btree_set(1u64..=20, 0..20), 1..4),
        direct in any::<bool>(),
    ) {
        let all: BTreeSet<u64> = members.iter().flatten().copied().collect();
        if direct {
            // What an origin lost of its end was never assured; it holds whatever is newest.
            members[0].extend(all.last());
        }
        let (received, lost) = drive(&members, direct);
        prop_assert_eq!(&received, &all);
        let newest = all.last().copied().unwrap_or(0);
        let lacking: BTreeSet<u64> = (1..=newest).filter(|n| !all.contains(n)).collect();
        prop_assert_eq!(lost, lacking);
    }
}
