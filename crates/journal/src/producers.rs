//! The highest counter of each producer: what makes a publishing stream idempotent across restarts
//! of anyone (P5).
//!
//! It is written beside the entries that it counts, in the same record: so a crash keeps either
//! both or neither, and it costs no transaction of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use evermesh_event::Sequence;

/// Producers that are known: the newest. A producer beyond them begins anew, as after the window.
const PRODUCERS_MAX: usize = 4096;

/// How far one producer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Highest {
    /// Everything at or below was taken, or refused.
    pub counter: u64,
    /// The newest event of the producer.
    pub sequence: Sequence,
}

/// Every producer that is known.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<Arc<str>, (Highest, u64)>,
    /// Counts uses: who was used longest ago is forgotten first.
    uses: u64,
}

/// Who counts: a producer's name belongs to the identity that uses it.
pub(crate) fn key(identity: &str, producer: &str) -> Arc<str> {
    format!("{identity}\0{producer}").into()
}

/// A counter as it stands in a record's local part, where a publisher of no entries stands.
pub(crate) fn encode(key: &str, counter: u64) -> Arc<str> {
    format!("{counter}\0{key}").into()
}

/// The counter in a record's local part.
pub(crate) fn decode(text: &str) -> Option<(&str, u64)> {
    let (counter, key) = text.split_once('\0')?;
    Some((key, counter.parse().ok()?))
}

impl Producers {
    pub(crate) fn get(&self, key: &str) -> Highest {
        self.known.get(key).map(|(highest, _)| *highest).unwrap_or_default()
    }

    pub(crate) fn note(&mut self, key: &str, counter: u64, sequence: Sequence) {
        self.uses += 1;
        let uses = self.uses;
        if let Some((highest, used)) = self.known.get_mut(key) {
            highest.counter = highest.counter.max(counter);
            highest.sequence = highest.sequence.max(sequence);
            *used = uses;
            return;
        }
        if self.known.len() >= PRODUCERS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| Arc::clone(key)) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(key.into(), (Highest { counter, sequence }, uses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_there_and_back() {
        let key = key("local:uid=33", "import");
        assert_eq!(decode(&encode(&key, 17)), Some((&*key, 17)));
        assert_eq!(decode("local:uid=33"), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_used_longest_ago() {
        let mut producers = Producers::default();
        for n in 0..PRODUCERS_MAX {
            producers.note(&n.to_string(), 1, Sequence::ZERO);
        }
        producers.note("0", 2, Sequence::ZERO);
        producers.note("new", 1, Sequence::ZERO);
        assert_eq!(producers.known.len(), PRODUCERS_MAX);
        let counters = ["0", "1", "new"].map(|key| producers.get(key).counter);
        assert_eq!(counters, [2, 0, 1]);
    }
}
