//! The plan of a drill, drawn from its seed: which fault begins when, to whom, for how long. Pure.
//!
//! Faults are spread over the whole span, so that they overlap as they fall. Two kills in six come
//! as one of two nodes at once.

use std::time::Duration;

use super::draw::Draw;

/// A killed node is back soon; one in four times only after everybody's lease with it is over.
const DOWN_SHORT: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(1_500));
const DOWN_LONG: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(4));
/// Pauses and partitions are half of them shorter than the lease that nodes grant by default, which
/// is 2 s, and half of them longer.
const SHORT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1_700));
const LONG: (Duration, Duration) = (Duration::from_millis(2_200), Duration::from_millis(4_500));

/// What can be done, and to whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    /// Nodes that can be killed and started.
    pub(super) kill: Vec<usize>,
    /// Nodes that can be paused and continued.
    pub(super) pause: Vec<usize>,
    /// Pairs that can be parted; twice the same node: it alone, from all others.
    pub(super) part: Vec<(usize, usize)>,
}

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) kills: usize,
    pub(super) pauses: usize,
    pub(super) partitions: usize,
}

impl Counts {
    /// What is possible of it.
    pub(super) fn of(self, targets: &Targets) -> Self {
        let if_any = |count, none: bool| if none { 0 } else { count };
        Self {
            kills: if_any(self.kills, targets.kill.is_empty()),
            pauses: if_any(self.pauses, targets.pause.is_empty()),
            partitions: if_any(self.partitions, targets.part.is_empty()),
        }
    }

    pub(super) const fn all(self) -> usize {
        self.kills + self.pauses + self.partitions
    }
}

/// How a pair is parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Connections are reset, and no new one is taken.
    Refused,
    /// What is sent does not arrive and nobody is told, in both directions.
    Silent,
    /// The same in one direction: from the first to the second.
    SilentThere,
    /// And from the second to the first.
    SilentBack,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// SIGKILL, of one or two; started again after a while.
    Kill { nodes: Vec<usize>, down: Duration },
    /// SIGSTOP; SIGCONT after a while.
    Pause { node: usize, lasts: Duration },
    /// Nothing, or not everything, gets through between two; healed after a while.
    Part { pair: (usize, usize), how: How, lasts: Duration },
}

/// A fault and when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Duration,
    pub(super) what: What,
}

/// Draws the faults of a drill of this length, in their order.
pub(super) fn plan(
    draw: &mut Draw,
    targets: &Targets,
    counts: Counts,
    span: Duration,
) -> Vec<Fault> {
    let mut whats = Vec::new();
    let mut kills = counts.kills;
    while kills > 0 {
        let nodes = victims(draw, &targets.kill, kills);
        kills = kills.saturating_sub(nodes.len().max(1));
        let (from, until) = if draw.once_in(4) { DOWN_LONG } else { DOWN_SHORT };
        whats.push(What::Kill { nodes, down: draw.between(from, until) });
    }
    for _ in 0..counts.pauses {
        let node = draw.one(&targets.pause).unwrap_or_default();
        whats.push(What::Pause { node, lasts: lasts(draw) });
    }
    for _ in 0..counts.partitions {
        let pair = draw.one(&targets.part).unwrap_or_default();
        let hows = [How::Refused, How::Silent, How::SilentThere, How::SilentBack];
        let how = draw.one(&hows).unwrap_or(How::Silent);
        whats.push(What::Part { pair, how, lasts: lasts(draw) });
    }
    shuffle(draw, &mut whats);
    let step = span / u32::try_from(whats.len().max(1)).unwrap_or(u32::MAX);
    let begins = |(n, what)| {
        let at = step * n + draw.between(Duration::ZERO, step);
        Fault { at, what }
    };
    (0..).zip(whats).map(begins).collect()
}

/// Who is killed at once: of at least three, sometimes two.
fn victims(draw: &mut Draw, of: &[usize], kills: usize) -> Vec<usize> {
    let first = draw.below(of.len());
    let two = draw.once_in(5) && kills >= 2 && of.len() >= 3;
    let second = two.then(|| (first + 1 + draw.below(of.len().saturating_sub(1))) % of.len());
    [Some(first), second].into_iter().flatten().filter_map(|at| of.get(at).copied()).collect()
}

fn lasts(draw: &mut Draw) -> Duration {
    let (from, until) = if draw.once_in(2) { SHORT } else { LONG };
    draw.between(from, until)
}

fn shuffle<T>(draw: &mut Draw, all: &mut [T]) {
    for last in (1..all.len()).rev() {
        all.swap(last, draw.below(last + 1));
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn drawn(seed: u64) -> Vec<Fault> {
        let targets = Targets { kill: vec![0, 1, 2], pause: vec![0, 1], part: vec![(0, 1)] };
        let counts = Counts { kills: 40, pauses: 10, partitions: 10 };
        plan(&mut Draw::new(seed), &targets, counts, SPAN)
    }

    #[test]
    fn as_many_as_were_asked_for_in_order_and_within_the_span() {
        for seed in 0..100 {
            let faults = drawn(seed);
            let (mut kills, mut pauses, mut parts) = (0, 0, 0);
            for fault in &faults {
                match &fault.what {
                    What::Kill { nodes, .. } => {
                        kills += nodes.len();
                        assert!(nodes.len() == 1 || nodes[0] != nodes[1], "{fault:?}");
                    }
                    What::Pause { .. } => pauses += 1,
                    What::Part { .. } => parts += 1,
                }
            }
            assert_eq!((kills, pauses, parts), (40, 10, 10), "seed {seed}");
            assert!(faults.is_sorted_by_key(|fault| fault.at) && faults[0].at < SPAN / 20);
            assert!(faults.iter().all(|fault| fault.at < SPAN));
        }
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }

    #[test]
    fn all_kinds_come_and_both_sides_of_the_lease() {
        let faults: Vec<_> = (0..20).flat_map(drawn).collect();
        let any = |wanted: &dyn Fn(&What) -> bool| faults.iter().any(|fault| wanted(&fault.what));
        assert!(any(&|what| matches!(what, What::Kill { nodes, .. } if nodes.len() == 2)));
        for how in [How::Refused, How::Silent, How::SilentThere, How::SilentBack] {
            assert!(any(&|what| matches!(what, What::Part { how: this, .. } if *this == how)));
        }
        let lease = Duration::from_secs(2);
        assert!(any(&|what| matches!(what, What::Pause { lasts, .. } if *lasts < lease)));
        assert!(any(&|what| matches!(what, What::Pause { lasts, .. } if *lasts > lease)));
    }

    #[test]
    fn what_nobody_can_do_is_left_out() {
        let counts = Counts { kills: 3, pauses: 2, partitions: 1 };
        let possible = counts.of(&Targets { pause: vec![4], ..Targets::default() });
        assert_eq!(possible, Counts { kills: 0, pauses: 2, partitions: 0 });
        let targets = Targets { kill: vec![4], ..Targets::default() };
        let faults = plan(&mut Draw::new(1), &targets, counts.of(&targets), SPAN);
        assert_eq!(faults.len(), 3, "one node is never killed twice at once: {faults:?}");
    }
}
