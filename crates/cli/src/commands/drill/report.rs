//! What a drill found: the table, a plain sentence, and the same as one JSON object.

use evermesh_event::verdict::Verdict;
use serde_json::json;

use super::fences::Found;

/// Everything that is said at the end.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) nodes: usize,
    pub(super) subscriptions: usize,
    pub(super) seed: u64,
    pub(super) published: u64,
    pub(super) probes: u64,
    pub(super) kills: u64,
    pub(super) pauses: u64,
    pub(super) partitions: u64,
    pub(super) verdict: Verdict,
    /// The subscriptions that heard something wrong, and what.
    pub(super) wrong: Vec<(String, Verdict)>,
    pub(super) fences: Found,
    /// Nodes at which no fence was done within a minute after everything was healed.
    pub(super) fences_stuck: u64,
    pub(super) seconds: f64,
}

impl Report {
    /// P1, P2, P3 and P9 held, and nobody was told to drop a cache without need.
    pub(super) const fn held(&self) -> bool {
        self.verdict.is_clean() && self.fences.unsound == 0 && self.fences_stuck == 0
    }

    /// The table and the sentence, 80 columns at most.
    pub(super) fn table(&self) -> Vec<String> {
        let verdict = &self.verdict;
        let mut lines = vec![String::new()];
        for (label, count) in [
            ("published and assured", self.published),
            ("kills", self.kills),
            ("pauses", self.pauses),
            ("partitions", self.partitions),
            ("lost", verdict.lost),
            ("reordered", verdict.reordered),
            ("phantom", verdict.phantom),
            ("duplicated, though acknowledged", verdict.repeated),
            ("missed", verdict.missed),
            ("missed needlessly", verdict.missed),
            ("fences that were done", self.fences.done),
            ("  and deceived a subscription", self.fences.unsound),
            ("  and never done after healing", self.fences_stuck),
            ("delivered again, as may be", self.again()),
            ("renumbered, as may be", verdict.renumbered),
        ] {
            lines.push(format!("  {label:<34}{count:>12}"));
        }
        lines.push(String::new());
        lines.extend(self.sentences());
        lines
    }

    /// Delivered again without an acknowledgement that was kept.
    const fn again(&self) -> u64 {
        self.verdict.duplicated - self.verdict.repeated
    }

    /// What it comes to, and how to repeat it.
    pub(super) fn sentences(&self) -> Vec<String> {
        if self.held() {
            let seconds = self.seconds;
            return vec![format!(
                "Nothing was lost, reordered or missed, and no fence deceived, in {seconds:.0} s."
            )];
        }
        let mut lines = vec!["This must not be: see the table.".to_owned()];
        for (label, wrong) in &self.wrong {
            let Verdict { lost, reordered, phantom, repeated, missed, .. } = wrong;
            lines.push(format!(
                "  {label}: {lost} lost, {reordered} reordered, {phantom} phantom, \
                 {repeated} duplicated, {missed} missed"
            ));
            lines.extend(wrong.examples.iter().map(|id| format!("    lost: {id}")));
        }
        lines.extend(self.fences.examples.iter().map(|said| format!("  {said}")));
        lines.push(format!("The same faults come again with --seed {}.", self.seed));
        lines
    }

    /// The same as one object.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "published": self.published,
            "kills": self.kills,
            "pauses": self.pauses,
            "partitions": self.partitions,
            "lost": self.verdict.lost,
            "reordered": self.verdict.reordered,
            "phantom": self.verdict.phantom,
            "duplicated": self.verdict.repeated,
            "missed": self.verdict.missed,
            "missed_needlessly": self.verdict.missed,
            "redelivered": self.again(),
            "renumbered": self.verdict.renumbered,
            "probes": self.probes,
            "fences": self.fences.done,
            "fences_undone": self.fences.undone,
            "fence_seen_applied": self.fences.applied,
            "fence_seen_stale": self.fences.stale,
            "fence_unsound": self.fences.unsound,
            "fence_stuck": self.fences_stuck,
            "nodes": self.nodes,
            "subscriptions": self.subscriptions,
            "seed": self.seed,
            "seconds": self.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(change: impl FnOnce(&mut Report)) -> Report {
        let mut report = Report {
            nodes: 3,
            subscriptions: 9,
            seed: 7,
            published: 1000,
            probes: 10,
            kills: 3,
            pauses: 2,
            partitions: 2,
            verdict: Verdict { duplicated: 4, ..Verdict::default() },
            wrong: Vec::new(),
            fences: Found::default(),
            fences_stuck: 0,
            seconds: 10.0,
        };
        change(&mut report);
        report
    }

    #[test]
    fn any_broken_promise_counts() {
        assert!(report(|_| ()).held());
        let broken: [fn(&mut Report); 7] = [
            |report| report.verdict.lost = 1,
            |report| report.verdict.reordered = 1,
            |report| report.verdict.phantom = 1,
            |report| report.verdict.repeated = 1,
            |report| report.verdict.missed = 1,
            |report| report.fences.unsound = 1,
            |report| report.fences_stuck = 1,
        ];
        for broken in broken {
            let report = report(broken);
            assert!(!report.held());
            assert_eq!(report.sentences().last().map(String::as_str), Some(AGAIN));
        }
    }

    const AGAIN: &str = "The same faults come again with --seed 7.";

    #[test]
    fn the_object_says_numbers_only_and_the_table_fits() {
        let report = report(|_| ());
        let json = report.json();
        assert!(json.as_object().is_some_and(|all| all.values().all(serde_json::Value::is_number)));
        let of = |key| json.get(key).and_then(serde_json::Value::as_u64);
        assert_eq!((of("duplicated"), of("redelivered")), (Some(0), Some(4)));
        assert!(report.table().iter().all(|line| line.chars().count() <= 80));
    }
}
