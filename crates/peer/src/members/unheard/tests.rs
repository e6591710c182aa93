//! Nobody is forgotten whom somebody hears, and whom nobody hears is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

const FORGET_AFTER: Duration = Duration::from_secs(10);

fn name(n: usize) -> NodeName {
    NodeName::new(&format!("web-{n}")).unwrap()
}

fn seen(n: usize, silent: u64, away: &[usize]) -> Seen {
    let away = away.iter().map(|n| name(*n)).collect();
    Seen { name: name(n), silent: Duration::from_secs(silent), away }
}

fn forgotten(there: &[Seen]) -> Vec<NodeName> {
    unheard(there, FORGET_AFTER)
}

#[test]
fn who_is_unheard_for_long_is_forgotten_when_all_who_are_there_agree() {
    assert_eq!(forgotten(&[seen(2, 0, &[3]), seen(3, 10, &[])]), [name(3)]);
    assert!(forgotten(&[seen(2, 0, &[3]), seen(3, 9, &[])]).is_empty(), "not yet for long");
    assert!(forgotten(&[seen(2, 0, &[]), seen(3, 10, &[])]).is_empty(), "web-2 hears it");
    let one_does = [seen(2, 0, &[3]), seen(3, 10, &[]), seen(4, 0, &[])];
    assert!(forgotten(&one_does).is_empty(), "one of two hears it");
}

#[test]
fn what_somebody_said_before_it_fell_silent_does_not_count() {
    assert!(forgotten(&[seen(2, 5, &[3]), seen(3, 10, &[])]).is_empty());
    let both = forgotten(&[seen(2, 10, &[]), seen(3, 12, &[])]);
    assert_eq!(both, [name(2), name(3)], "cut off from all for long: documented");
}

#[test]
fn alone_with_one_other_it_is_forgotten_by_time_alone() {
    assert_eq!(forgotten(&[seen(2, 10, &[])]), [name(2)]);
    assert!(forgotten(&[seen(2, 9, &[])]).is_empty());
    assert!(forgotten(&[]).is_empty());
}

/// Nodes that hear each other or not, second by second: one way, both ways.
struct Mesh {
    nodes: usize,
    /// When each was heard last by each.
    heard: Vec<Vec<u64>>,
    /// Whom each said to be away, as each other knows.
    told: Vec<Vec<BTreeSet<NodeName>>>,
}

impl Mesh {
    fn new(nodes: usize) -> Self {
        let told = vec![vec![BTreeSet::new(); nodes]; nodes];
        Self { nodes, heard: vec![vec![0; nodes]; nodes], told }
    }

    fn silent(&self, at: u64, of: usize, by: usize) -> u64 {
        at - self.heard[by][of]
    }

    /// A second passes; `hears(by, of)` in it.
    fn pass(&mut self, at: u64, hears: impl Fn(usize, usize) -> bool) {
        let away: Vec<BTreeSet<NodeName>> = (0..self.nodes)
            .map(|by| {
                let others = (0..self.nodes).filter(|of| *of != by);
                others.filter(|of| self.silent(at - 1, *of, by) >= 10).map(name).collect()
            })
            .collect();
        for by in 0..self.nodes {
            for of in (0..self.nodes).filter(|of| hears(by, *of)) {
                self.heard[by][of] = at;
                self.told[by][of].clone_from(&away[of]);
            }
        }
    }

    fn forgotten(&self, at: u64, by: usize) -> Vec<NodeName> {
        let others = (0..self.nodes).filter(|of| *of != by);
        let there: Vec<_> = others
            .map(|of| Seen {
                name: name(of),
                silent: Duration::from_secs(self.silent(at, of, by)),
                away: self.told[by][of].clone(),
            })
            .collect();
        forgotten(&there)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Parts come and go. Whoever is forgotten was heard for so long by nobody whom the one that
    /// forgets it hears; and whom it does not hear, it did not for as long.
    #[test]
    fn nobody_is_forgotten_whom_somebody_hears(
        nodes in 2usize..5,
        hears in prop::collection::vec(prop::collection::vec(any::<bool>(), 25), 1..8),
        lengths in prop::collection::vec(1u64..16, 8),
    ) {
        let (mut mesh, mut at) = (Mesh::new(nodes), 0);
        for (hears, length) in hears.iter().zip(lengths) {
            for _ in 0..length {
                at += 1;
                mesh.pass(at, |by, of| by != of && hears[by * 5 + of]);
                for by in 0..nodes {
                    for gone in mesh.forgotten(at, by) {
                        let is = |n: &usize| name(*n) != gone;
                        let of = (0..nodes).find(|n| !is(n)).unwrap();
                        prop_assert!(mesh.silent(at, of, by) >= 10);
                        for other in (0..nodes).filter(|n| is(n) && *n != by) {
                            let here = mesh.silent(at, other, by);
                            // What is heard of others is a second old.
                            prop_assert!(
                                here >= 10 || here == 0 && mesh.silent(at, of, other) >= 10
                                    || here == 0 && mesh.heard[other][of] == at,
                                "{by} forgets {of}, which {other} heard at {}, at {at}",
                                mesh.heard[other][of]
                            );
                        }
                    }
                }
            }
        }
    }

    /// One is heard by nobody, and all others hear each other: all of them forget it, it alone.
    #[test]
    fn whom_nobody_hears_is_forgotten_by_all(
        nodes in 2usize..6, gone in 0usize..6, since in 0u64..30,
    ) {
        let gone = gone % nodes;
        let mut mesh = Mesh::new(nodes);
        for at in 1..=since + 12 {
            mesh.pass(at, |by, of| by != of && (at <= since || by != gone && of != gone));
            for by in (0..nodes).filter(|by| *by != gone) {
                let forgotten = mesh.forgotten(at, by);
                prop_assert!(forgotten.iter().all(|name_of| *name_of == name(gone)));
                prop_assert!(at >= since + 10 || forgotten.is_empty());
                prop_assert!(at < since + 12 || forgotten == [name(gone)]);
            }
        }
    }
}
