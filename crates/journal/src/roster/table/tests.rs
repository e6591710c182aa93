//! The list of members: all nodes come to the same one, and nothing that left stays for ever.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn name(n: usize) -> NodeName {
    NodeName::new(&format!("web-{n}")).unwrap()
}

fn own(n: usize) -> Origin {
    Origin { node: name(n), journal: JournalId::new([u8::try_from(n).unwrap(); 16]) }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn tell(table: &mut Table, from: usize, list: &[(NodeName, Listed)]) -> Merged {
    table.merge(&name(from), list, secs(1))
}

fn listed(n: usize, incarnation: u64, left: bool) -> (NodeName, Listed) {
    (name(n), Listed { incarnation, left, ..Listed::default() })
}

#[test]
fn who_left_counts_as_left_until_it_comes_back_as_another() {
    let mut table = Table::new(own(1), Vec::new());
    assert!(tell(&mut table, 2, &[listed(2, 0, false)]).changed);
    assert!(tell(&mut table, 3, &[listed(2, 0, true)]).changed);
    assert!(!tell(&mut table, 4, &[listed(2, 0, false)]).changed, "an older word");
    assert!(table.get(&name(2)).unwrap().left);
    assert!(tell(&mut table, 2, &[listed(2, 1, false)]).changed);
    assert!(!table.get(&name(2)).unwrap().left);
}

#[test]
fn a_node_that_hears_that_it_left_comes_back_as_another() {
    let mut table = Table::new(own(1), Vec::new());
    let merged = tell(&mut table, 2, &[listed(1, 0, true)]);
    assert_eq!(merged, Merged { changed: false, returned: true });
    let own = table.get(&name(1)).unwrap();
    assert_eq!((own.incarnation, own.left), (1, false));
    assert!(!tell(&mut table, 2, &[listed(1, 0, true)]).returned, "they know it once they heard");
    // A new disk under a name that others know.
    assert!(!tell(&mut table, 2, &[listed(1, 7, false)]).returned);
    assert_eq!(table.get(&name(1)).unwrap().incarnation, 7);
    table.leaves();
    assert!(!tell(&mut table, 2, &[listed(1, 7, true)]).returned, "this time it did leave");
}

#[test]
fn who_was_linked_with_what_is_told_as_each_one_knows_it() {
    let journal = |n: u8| JournalId::new([n; 16]);
    let present = |of: &[u8]| {
        let present = of.iter().map(|n| journal(*n)).collect();
        (name(3), Listed { present, ..Listed::default() })
    };
    let mut table = Table::new(own(1), Vec::new());
    tell(&mut table, 2, &[present(&[7])]);
    assert_eq!(table.heard_of(&name(3)), [journal(7)]);
    assert!(table.get(&name(3)).unwrap().present.is_empty(), "this node never was");
    assert!(table.present(&name(3), vec![journal(8)]) && table.heard_of(&name(3)).len() == 1);
    assert!(!tell(&mut table, 2, &[present(&[8])]).changed, "nothing new");
    assert!(table.present(&name(3), vec![journal(7)]) && table.heard_of(&name(3)).is_empty());
    // Each stands for its name: the newest are enough.
    for n in 10..20 {
        tell(&mut table, 2, &[present(&[n])]);
    }
    assert_eq!(table.heard_of(&name(3)), (16..20).map(journal).collect::<Vec<_>>());
    // Of what was told nothing is heard again.
    table.close(&Origin { node: name(3), journal: journal(19) });
    tell(&mut table, 2, &[present(&[19])]);
    assert_eq!(table.heard_of(&name(3)).len(), 3);
}

#[test]
fn what_one_node_dropped_does_not_come_back_from_another() {
    let mut table = Table::new(own(1), Vec::new());
    tell(&mut table, 2, &[listed(3, 0, false)]);
    table.leave(&name(3), secs(1));
    table.drop_departed(&name(3));
    assert!(!tell(&mut table, 2, &[listed(3, 0, true)]).changed);
    assert!(table.is_dropped(&name(3)) && table.list().len() == 1, "nobody is told of it");
    assert!(table.departed(secs(9)).is_empty() && table.left().is_empty());
    assert!(!tell(&mut table, 2, &[listed(4, 0, true)]).changed, "who never was there");
    assert!(table.get(&name(4)).is_none());
    assert!(tell(&mut table, 3, &[listed(3, 1, false)]).changed, "it comes back itself");
    assert!(!table.is_dropped(&name(3)) && table.list().len() == 2);
}

#[test]
fn who_was_dropped_and_is_there_is_told_that_it_left() {
    let (mut one, mut three) = (Table::new(own(1), Vec::new()), Table::new(own(3), Vec::new()));
    tell(&mut one, 3, &three.list());
    one.leave(&name(3), secs(1));
    one.drop_departed(&name(3));
    assert!(!tell(&mut one, 2, &three.list()).changed, "another speaks of it");
    assert!(tell(&mut one, 3, &three.list()).changed, "it does itself");
    assert!(one.get(&name(3)).unwrap().left && one.list().len() == 2);
    assert!(tell(&mut three, 1, &one.list()).returned);
    assert!(tell(&mut one, 3, &three.list()).changed);
    assert!(!one.get(&name(3)).unwrap().left, "it joined anew");
}

#[test]
fn who_was_dropped_makes_room_for_who_comes() {
    let mut table = Table::new(own(0), Vec::new());
    for n in 1..MEMBERS_MAX {
        assert!(tell(&mut table, n, &[listed(n, 0, false)]).changed);
    }
    assert!(!tell(&mut table, 9999, &[listed(9999, 0, false)]).changed, "there is no room");
    for n in [7, 5] {
        table.leave(&name(n), secs(10 - n as u64));
        table.drop_departed(&name(n));
    }
    assert!(tell(&mut table, 9999, &[listed(9999, 0, false)]).changed);
    assert!(table.get(&name(7)).is_none() && table.get(&name(5)).is_some(), "the first that left");
}

#[test]
fn a_journal_that_ended_needs_nothing_once_its_last_word_is_here() {
    let mut table = Table::new(own(1), Vec::new());
    tell(&mut table, 2, &[listed(2, 0, false)]);
    let origin = Origin { node: name(2), journal: JournalId::new([2; 16]) };
    let at = Sequence::from_u64;
    let zero = Sequence::ZERO;
    assert!(!table.is_closed(&origin, at(9), zero));
    table.ended(&origin, at(5));
    assert!(table.is_closed(&origin, at(5), at(5)) && !table.is_closed(&origin, at(4), at(3)));
    assert!(!table.is_closed(&origin, at(6), zero), "more of it is here: a copy said that");
    assert!(!table.is_closed(&origin, at(5), at(6)), "more of it was stored: a copy said that");
    table.close(&origin);
    assert!(table.is_closed(&origin, at(4), zero), "it was told");
    table.ended(&origin, at(7));
    assert!(!table.is_closed(&origin, at(5), at(5)), "and there was more, of a disk or its copy");
    assert!(table.is_closed(&origin, at(7), at(7)));
    table.close(&origin);
    assert!(table.lives(&origin));
    assert!(!table.is_closed(&origin, at(9), zero), "and is there again");
}

#[test]
fn who_was_away_does_not_replace_the_newest_last_words_by_old_ones() {
    let journal = |n: u8| JournalId::new([n; 16]);
    let ended = |of: &[u8]| {
        let ended = of.iter().map(|n| (journal(*n), Sequence::from_u64(1))).collect();
        (name(3), Listed { ended, ..Listed::default() })
    };
    let known = |table: &Table| table.get(&name(3)).unwrap().ended;
    let mut table = Table::new(own(1), Vec::new());
    assert!(tell(&mut table, 2, &[ended(&[4, 6])]).changed);
    assert!(tell(&mut table, 2, &[ended(&[3, 4, 5, 6])]).changed);
    assert_eq!(known(&table), ended(&[3, 4, 5, 6]).1.ended, "each in its place");
    assert!(!tell(&mut table, 4, &[ended(&[1, 2, 3, 4])]).changed);
    assert_eq!(known(&table), ended(&[3, 4, 5, 6]).1.ended);
    // Who was away for longer tells of none that is known here still; but they are settled here.
    for n in [1, 2] {
        table.close(&Origin { node: name(3), journal: journal(n) });
    }
    assert!(!tell(&mut table, 4, &[ended(&[1, 2])]).changed);
    assert!(tell(&mut table, 2, &[ended(&[5, 6, 7, 8])]).changed);
    assert_eq!(known(&table), ended(&[5, 6, 7, 8]).1.ended);
}

#[test]
fn the_list_is_bounded() {
    let mut table = Table::new(own(0), Vec::new());
    for n in 1..=MEMBERS_MAX {
        tell(&mut table, n, &[listed(n, 0, false)]);
    }
    assert_eq!(table.list().len(), MEMBERS_MAX);
    let journal = |n: usize| {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        JournalId::new(id)
    };
    let origin = |n| Origin { node: name(1), journal: journal(n) };
    for n in 0..=CLOSED_MAX {
        table.ended(&origin(n), Sequence::from_u64(1));
        table.close(&origin(n));
    }
    let row = &table.rows[&name(1)];
    assert_eq!((row.listed.ended.len(), row.closed.len()), (ENDED_MAX, CLOSED_MAX));
    assert_eq!(row.closed[0], journal(1), "the oldest goes first");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nodes leave, come back, forget and drop each other in any order, and what they say arrives
    /// at any time, or never; whoever then tells everybody what it knows, again and again: all
    /// agree, and nobody who is there is left.
    #[test]
    fn all_come_to_the_same_list(
        acts in prop::collection::vec((0usize..4, 0usize..4, 0u8..6, any::<usize>()), 0..80),
    ) {
        let mut tables: Vec<_> = (0..4).map(|n| Table::new(own(n), Vec::new())).collect();
        let mut on_their_way = Vec::new();
        let meet = |tables: &mut Vec<Table>, from: usize, to: usize| {
            let list = tables[from].list();
            if from != to {
                tell(&mut tables[to], from, &list);
            }
        };
        for (from, to, act, which) in acts.into_iter().filter(|(from, to, ..)| from != to) {
            match act {
                0 => drop(tables[from].leave(&name(to), secs(1))),
                1 => tables[from].drop_departed(&name(to)),
                2 | 3 => on_their_way.push((from, to, tables[from].list())),
                4 if !on_their_way.is_empty() => {
                    let (from, to, list) = on_their_way.swap_remove(which % on_their_way.len());
                    tell(&mut tables[to], from, &list);
                }
                _ => meet(&mut tables, from, to),
            }
        }
        for _ in 0..4 {
            for from in 0..4 {
                (0..4).for_each(|to| meet(&mut tables, from, to));
            }
        }
        let views: Vec<Vec<_>> = tables
            .iter()
            .map(|table| table.list().into_iter())
            .map(|list| list.map(|(n, l)| (n, l.incarnation, l.left)).collect())
            .collect();
        prop_assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
        prop_assert!(views[0].iter().all(|(_, _, left)| !left), "{views:?}");
        prop_assert_eq!(views[0].len(), 4);
    }
}

#[test]
fn what_a_former_journal_of_a_node_ended_with_is_told_by_the_node_itself() {
    let mut table = Table::new(own(1), Vec::new());
    let (former, head) = (JournalId::new([9; 16]), Sequence::from_u64(7));
    let ended = vec![(former, head), (own(1).journal, head)];
    let told = [(name(1), Listed { ended, ..Listed::default() })];
    assert!(tell(&mut table, 2, &told).changed);
    assert_eq!(table.get(&name(1)).unwrap().ended, [(former, head)], "the present one runs");
    assert!(!tell(&mut table, 3, &told).changed);
}
