//! What a seed says: numbers that are the same on every machine, so that a drill can be repeated.

use std::time::Duration;

/// A stream of numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own, for whoever draws at times that nobody can foresee.
    pub(super) fn apart(&self, number: usize) -> Self {
        let mut draw = Self(self.0 ^ (number as u64).wrapping_mul(0xA24B_AED4_963E_E407));
        draw.next();
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one less than `count`; 0 if there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = count.max(1) as u64;
        // Less than `count`, which was a usize.
        usize::try_from(self.next() % count).unwrap_or_default()
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// At least the one, less than the other.
    pub(super) fn between(&mut self, from: Duration, until: Duration) -> Duration {
        let range = until.saturating_sub(from).as_micros();
        let range = usize::try_from(range).unwrap_or(usize::MAX);
        from + Duration::from_micros(self.below(range) as u64)
    }

    /// One of them.
    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_says_the_same() {
        let said = |seed| {
            let mut draw = Draw::new(seed);
            (0..100).map(|_| draw.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(said(7), said(7));
        assert_ne!(said(7), said(8));
        assert!(said(7).iter().any(|n| *n < 100) && said(7).iter().any(|n| *n > 900));
        let mut one = Draw::new(7).apart(1);
        assert_ne!(one.below(1 << 40), Draw::new(7).apart(2).below(1 << 40));
        let (from, until) = (Duration::from_millis(5), Duration::from_millis(6));
        assert!((0..100).all(|_| (from..until).contains(&one.between(from, until))));
        assert_eq!(one.one::<u8>(&[]), None);
    }
}
