//! What the demonstration found: the table, and the same as one JSON object.

use serde_json::json;

use evermesh_event::verdict::Verdict;

use super::publisher::number;
use super::record::Record;
use crate::mesh::{NODES, name};

/// Everything that the last table says.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) published: usize,
    pub(super) killed_behind: u64,
    pub(super) paused_first: bool,
    pub(super) delivered: Vec<usize>,
    pub(super) verdict: Verdict,
    /// From publish to the last acknowledgement, in microseconds, of events published while all
    /// nodes were up; sorted.
    pub(super) calm: Vec<i64>,
    /// Of all events; sorted.
    pub(super) all: Vec<i64>,
    pub(super) seconds: f64,
}

impl Report {
    /// From publish to the last acknowledgement of each event: those of calm times, and all; both
    /// sorted.
    pub(super) fn latencies(
        times: &[i64],
        records: &[Record],
        outage: std::ops::Range<usize>,
    ) -> (Vec<i64>, Vec<i64>) {
        let mut last = vec![i64::MIN; times.len()];
        for (id, at) in records.iter().flat_map(|record| &record.acknowledged) {
            if let Some(last) = number(id).and_then(|number| last.get_mut(number)) {
                *last = (*last).max(*at);
            }
        }
        let took = |(number, (from, until)): (usize, (&i64, &i64))| (number, until - from);
        let both = times.iter().zip(&last).enumerate();
        let heard = both.filter(|(_, (_, until))| **until != i64::MIN).map(took);
        let (mut calm, mut all) = (vec![], vec![]);
        for (number, took) in heard {
            all.push(took);
            if !outage.contains(&number) {
                calm.push(took);
            }
        }
        calm.sort_unstable();
        all.sort_unstable();
        (calm, all)
    }

    /// The table, 80 columns at most.
    pub(super) fn table(&self) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!("  {:<34}{:>12}", "published and assured STORED", self.published),
        ];
        for (node, delivered) in self.delivered.iter().enumerate() {
            let label = format!("delivered on {}", name(node));
            lines.push(format!("  {label:<34}{delivered:>12}"));
        }
        let verdict = &self.verdict;
        for (label, count) in [
            ("redelivered after the kill", verdict.duplicated),
            ("lost", verdict.lost),
            ("reordered", verdict.reordered),
            ("phantom", verdict.phantom),
            ("missed", verdict.missed),
        ] {
            lines.push(format!("  {label:<34}{count:>12}"));
        }
        for (label, sorted, share) in [
            ("publish to last acknowledgement p50", &self.calm, 50),
            ("  p99, while all nodes were up", &self.calm, 99),
            ("  p99, the outage included", &self.all, 99),
        ] {
            let milliseconds = milliseconds(percentile(sorted, share));
            lines.push(format!("  {label:<36}{milliseconds:>10.1} ms"));
        }
        lines.push(String::new());
        lines.push(self.sentence());
        lines
    }

    fn sentence(&self) -> String {
        if self.verdict.is_clean() {
            return format!(
                "Nothing was lost and nothing came out of order, in {:.1} s.",
                self.seconds
            );
        }
        let examples: Vec<_> = self.verdict.examples.iter().map(String::as_str).collect();
        let named = if examples.is_empty() {
            String::new()
        } else {
            format!(" Lost, for example: {}.", examples.join(", "))
        };
        format!("This must not be: see the table.{named}")
    }

    /// The same as one object.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "nodes": NODES,
            "published": self.published,
            "kills": 1,
            "killed_behind": self.killed_behind,
            "paused_before_kill": self.paused_first,
            "delivered": self.delivered,
            "lost": self.verdict.lost,
            "reordered": self.verdict.reordered,
            "phantom": self.verdict.phantom,
            "duplicated": self.verdict.duplicated,
            "missed": self.verdict.missed,
            "p50_ms": milliseconds(percentile(&self.calm, 50)),
            "p99_ms": milliseconds(percentile(&self.calm, 99)),
            "p99_with_outage_ms": milliseconds(percentile(&self.all, 99)),
            "seconds": self.seconds,
        })
    }
}

fn percentile(sorted: &[i64], share: usize) -> i64 {
    sorted.get(sorted.len().saturating_sub(1) * share / 100).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a few minutes of microseconds are exact in f64")]
fn milliseconds(microseconds: i64) -> f64 {
    (microseconds as f64 / 100.0).round() / 10.0
}
