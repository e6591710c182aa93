//! Dead letters: events that a subscription rejected until they were set aside, for people to look
//! at. Kept in memory and, with the next commit, in the state database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use evermesh_event::{NameError, Offset, Origin};
use evermesh_proto::v1;
use prost::Message as _;

use crate::journal::Journal;

/// Letters that are kept.
const LETTERS_MAX: usize = 1024;
/// And what they may take. The oldest goes first: its subscription was told that it missed it.
const LETTERS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Names it on this node.
    pub number: u64,
    /// Who rejected it.
    pub identity: String,
    /// Under which durable name; empty: none.
    pub name: String,
    /// Where it stands in this journal.
    pub offset: Offset,
    /// Who numbered it.
    pub origin: Origin,
    /// The encoded `evermesh.v1.Entry`.
    pub entry: Bytes,
    /// How often it was delivered.
    pub attempts: u32,
    /// What the last reject said.
    pub reason: String,
    /// When it was set aside, in milliseconds since 1970.
    pub set_aside_ms: u64,
}

impl Letter {
    /// To a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::DeadLetter {
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(self.set_aside_ms));
        v1::DeadLetter {
            number: self.number,
            identity: self.identity.clone(),
            durable_name: self.name.clone(),
            offset: self.offset.as_u64(),
            origin: Some(self.origin.to_proto()),
            // It was an entry of a block that had been decoded.
            entry: v1::Entry::decode(self.entry.clone()).ok(),
            attempts: self.attempts,
            reason: self.reason.clone(),
            time: time.map(Into::into),
        }
    }

    pub(crate) fn from_proto(letter: v1::DeadLetter) -> Result<Self, NameError> {
        let origin = Origin::from_proto(&letter.origin.unwrap_or_default())?;
        let time = letter.time.and_then(|time| SystemTime::try_from(time).ok());
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(Self {
            number: letter.number,
            identity: letter.identity,
            name: letter.durable_name,
            offset: Offset::from_u64(letter.offset),
            origin,
            entry: letter.entry.unwrap_or_default().encode_to_vec().into(),
            attempts: letter.attempts,
            reason: letter.reason,
            set_aside_ms: u64::try_from(since.as_millis()).unwrap_or_default(),
        })
    }
}

/// The letters, and what of them is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    kept: BTreeMap<u64, Letter>,
    bytes: usize,
    next: u64,
    changed: BTreeSet<u64>,
}

impl Letters {
    pub(crate) fn new(stored: Vec<Letter>) -> Self {
        let next = stored.iter().map(|letter| letter.number).max().unwrap_or_default();
        let bytes = stored.iter().map(|letter| letter.entry.len()).sum();
        let kept = stored.into_iter().map(|letter| (letter.number, letter)).collect();
        Self { kept, bytes, next, changed: BTreeSet::new() }
    }

    fn add(&mut self, mut letter: Letter) -> u64 {
        self.next += 1;
        letter.number = self.next;
        self.bytes += letter.entry.len();
        self.changed.insert(self.next);
        self.kept.insert(self.next, letter);
        while self.kept.len() > LETTERS_MAX || self.bytes > LETTERS_BYTES_MAX {
            let Some(oldest) = self.kept.keys().next().copied() else { break };
            tracing::warn!(
                letter = oldest,
                "more than {LETTERS_MAX} dead letters, or {LETTERS_BYTES_MAX} bytes: the oldest is \
                 dropped"
            );
            self.remove(oldest);
        }
        self.next
    }

    fn remove(&mut self, number: u64) -> bool {
        let removed = self.kept.remove(&number);
        if let Some(letter) = &removed {
            self.bytes -= letter.entry.len();
            self.changed.insert(number);
        }
        removed.is_some()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.changed.is_empty()
    }

    /// What is to be stored: each changed number with its letter, or with none if it is gone.
    pub(crate) fn take_changed(&mut self) -> Vec<(u64, Option<Letter>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|number| (number, self.kept.get(&number).cloned())).collect()
    }
}

impl Journal {
    /// Sets an event aside; returns its number. Stored before any cursor moves past it.
    pub fn set_aside(&self, letter: Letter) -> u64 {
        let number = self.shared().letters().add(letter);
        self.shared().bell.ring();
        number
    }

    /// The letters above a number, oldest first, of one durable name or of all.
    #[must_use]
    pub fn letters(&self, name: Option<&str>, above: u64, letters_max: usize) -> Vec<Letter> {
        let letters = self.shared().letters();
        let above = letters.kept.range(above.saturating_add(1)..).map(|(_, letter)| letter);
        let wanted = above.filter(|letter| name.is_none_or(|name| letter.name == name));
        wanted.take(letters_max).cloned().collect()
    }

    /// One letter.
    #[must_use]
    pub fn letter(&self, number: u64) -> Option<Letter> {
        self.shared().letters().kept.get(&number).cloned()
    }

    /// Drops a letter; false if there is none of that number.
    pub fn drop_letter(&self, number: u64) -> bool {
        let dropped = self.shared().letters().remove(number);
        self.shared().bell.ring();
        dropped
    }

    /// What is set aside of a durable name above its cursor: told as missed in its place.
    #[must_use]
    pub fn aside(&self, name: &str, above: Offset) -> BTreeSet<Offset> {
        let letters = self.shared().letters();
        let of = letters.kept.values().filter(|letter| letter.name == name);
        let wounds = self.shared().wounds();
        // Where something was damaged another event may stand there now.
        let there = |offset: &Offset| *offset > above && wounds.range_of(*offset).is_none();
        of.map(|letter| letter.offset).filter(there).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evermesh_event::{JournalId, NodeName};

    use super::*;

    fn letter(bytes: usize) -> Letter {
        Letter {
            number: 0,
            identity: "local:uid=33".into(),
            name: "varnish".into(),
            offset: Offset::from_u64(7),
            origin: Origin {
                node: NodeName::new("web-1").unwrap(),
                journal: JournalId::new([1; 16]),
            },
            entry: Bytes::from(vec![0; bytes]),
            attempts: 5,
            reason: "503".into(),
            set_aside_ms: 0,
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_too_large_ones() {
        let mut letters = Letters::default();
        for _ in 0..=LETTERS_MAX {
            letters.add(letter(1));
        }
        assert_eq!((letters.kept.len(), letters.bytes), (LETTERS_MAX, LETTERS_MAX));
        assert!(!letters.kept.contains_key(&1));
        letters.take_changed();
        letters.add(letter(LETTERS_BYTES_MAX));
        assert_eq!(letters.kept.len(), 1, "one letter that takes all of it");
        let changed = letters.take_changed();
        assert_eq!(changed.len(), LETTERS_MAX + 1);
        assert_eq!(changed.iter().filter(|(_, letter)| letter.is_some()).count(), 1);
    }

    #[test]
    fn numbers_go_on_after_those_that_were_stored() {
        let mut stored = letter(1);
        stored.number = 41;
        let mut letters = Letters::new(vec![stored]);
        assert_eq!(letters.add(letter(1)), 42);
        assert!(letters.remove(41) && !letters.remove(41));
    }
}
