//! Idempotent publishing: which ids were taken, and under which sequence.
//!
//! 24 bytes an id and a table of u32 beside them, so that a million ids take 35 MiB. Ids are kept
//! as a keyed 128-bit hash of identity, site and id: the key is random, so nobody can make two ids
//! meet.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::time::Duration;

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::position::Sequence;

/// One identity's id at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeKey(u128);

/// The ids taken last. Bounded in number and age.
#[derive(Debug)]
pub struct DedupeWindow {
    secret: [u8; 16],
    ids_max: usize,
    age_max: Duration,
    /// Oldest first.
    ring: VecDeque<(u128, Sequence)>,
    /// How many were dropped from the front of the ring so far, wrapping: places in `table` count
    /// from there.
    dropped: u32,
    table: HashTable<u32>,
    /// For each second in which ids came: that second, and how many ids had come before it,
    /// wrapping.
    seconds: VecDeque<(u64, u32)>,
}

impl DedupeWindow {
    /// An empty window. `secret` is random bytes.
    #[must_use]
    pub fn new(ids_max: usize, age_max: Duration, secret: [u8; 16]) -> Self {
        Self {
            secret,
            ids_max,
            age_max,
            ring: VecDeque::new(),
            dropped: 0,
            table: HashTable::new(),
            seconds: VecDeque::new(),
        }
    }

    /// The key of an id.
    #[must_use]
    pub fn key(&self, identity: &str, site: &str, id: &str) -> DedupeKey {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        for part in [identity, site, id] {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        DedupeKey(hasher.finish128().as_u128())
    }

    /// The sequence under which an id was taken, if it still is in the window.
    #[must_use]
    pub fn get(&self, key: DedupeKey) -> Option<Sequence> {
        let place = self.table.find(fold(key.0), |place| self.at(*place) == Some(key.0))?;
        self.ring.get(self.index(*place)).map(|(_, sequence)| *sequence)
    }

    /// Remembers an id. `now` never runs backwards.
    pub fn insert(&mut self, key: DedupeKey, sequence: Sequence, now: Duration) {
        if self.ring.len() >= self.ids_max {
            self.drop_oldest();
        }
        let place = self.end();
        let second = now.as_secs();
        if self.seconds.back().is_none_or(|(last, _)| *last < second) {
            self.seconds.push_back((second, place));
        }
        self.ring.push_back((key.0, sequence));
        let (ring, dropped) = (&self.ring, self.dropped);
        self.table.insert_unique(fold(key.0), place, |place| {
            ring.get(place.wrapping_sub(dropped) as usize).map_or(0, |(key, _)| fold(*key))
        });
    }

    /// Forgets what is older than the window.
    pub fn expire(&mut self, now: Duration) {
        let oldest = now.saturating_sub(self.age_max).as_secs();
        while self.seconds.front().is_some_and(|(second, _)| *second < oldest) {
            self.seconds.pop_front();
            let until = self.seconds.front().map_or_else(|| self.end(), |(_, place)| *place);
            // Places that number already dropped lie behind, and count as none.
            let older = self.index(until);
            for _ in 0..(if older <= self.ring.len() { older } else { 0 }) {
                self.drop_oldest();
            }
        }
    }

    /// How many ids it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// It holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn drop_oldest(&mut self) {
        let Some((key, _)) = self.ring.front().copied() else {
            return;
        };
        let oldest = self.dropped;
        if let Ok(found) = self.table.find_entry(fold(key), |place| *place == oldest) {
            found.remove();
        }
        self.ring.pop_front();
        self.dropped = self.dropped.wrapping_add(1);
    }

    fn at(&self, place: u32) -> Option<u128> {
        self.ring.get(self.index(place)).map(|(key, _)| *key)
    }

    const fn index(&self, place: u32) -> usize {
        place.wrapping_sub(self.dropped) as usize
    }

    /// The place that the next id gets.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "places wrap; the ring is far shorter than 2^32"
    )]
    fn end(&self) -> u32 {
        self.dropped.wrapping_add(self.ring.len() as u32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "any 64 bits of a keyed hash will do")]
const fn fold(key: u128) -> u64 {
    key as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn window(ids_max: usize) -> DedupeWindow {
        DedupeWindow::new(ids_max, Duration::from_secs(10), [9; 16])
    }

    #[test]
    fn identity_site_and_id_all_count() {
        let mut window = window(10);
        let key = window.key("a", "shop", "1");
        window.insert(key, Sequence::from_u64(5), Duration::ZERO);
        assert_eq!(window.get(key), Some(Sequence::from_u64(5)));
        for (identity, site, id) in
            [("b", "shop", "1"), ("a", "x", "1"), ("a", "shop", "2"), ("as", "hop", "1")]
        {
            assert_eq!(window.get(window.key(identity, site, id)), None);
        }
    }

    #[test]
    fn number_and_age_are_bounded() {
        let mut window = window(100);
        for n in 0..1000_u64 {
            let key = window.key("a", "s", &n.to_string());
            window.insert(key, Sequence::from_u64(n), Duration::from_secs(n / 50));
            window.expire(Duration::from_secs(n / 50));
            assert!(window.len() <= 100 && window.table.len() == window.len());
            assert_eq!(window.get(key), Some(Sequence::from_u64(n)));
        }
        assert_eq!(window.get(window.key("a", "s", "899")), None);
        assert_eq!(window.get(window.key("a", "s", "900")), Some(Sequence::from_u64(900)));
        window.expire(Duration::from_secs(30));
        assert_eq!((window.len(), window.table.len()), (0, 0));
    }

    #[test]
    fn places_wrap() {
        let mut window = window(3);
        window.dropped = u32::MAX - 1;
        for n in 0..10_u64 {
            let key = window.key("a", "s", &n.to_string());
            window.insert(key, Sequence::from_u64(n), Duration::ZERO);
            assert_eq!(window.get(key), Some(Sequence::from_u64(n)));
        }
        assert_eq!(window.len(), 3);
    }
}
