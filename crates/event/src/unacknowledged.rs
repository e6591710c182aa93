//! How much may be on its way to a subscription: what was delivered and is not yet acknowledged.

use std::collections::VecDeque;

use crate::position::Offset;

/// Entries whose offsets follow by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: Offset,
    count: u64,
}

impl Span {
    /// How many of these are at or below an offset.
    fn through(self, offset: Offset) -> u64 {
        let distance = offset.as_u64().checked_sub(self.first.as_u64());
        distance.map_or(0, |distance| distance.saturating_add(1).min(self.count))
    }
}

/// Delivered and not yet acknowledged entries of one subscription, in order. At most `max`
/// entries, so at most `max` spans.
#[derive(Clone, Debug)]
pub struct Unacknowledged {
    max: u32,
    spans: VecDeque<Span>,
    count: u64,
    delivered: Offset,
    acknowledged: Offset,
}

impl Unacknowledged {
    /// Nothing is on its way; everything through `from` counts as acknowledged.
    #[must_use]
    pub const fn new(max: u32, from: Offset) -> Self {
        Self { max, spans: VecDeque::new(), count: 0, delivered: from, acknowledged: from }
    }

    /// How many more may be delivered.
    #[must_use]
    pub fn room(&self) -> u32 {
        self.max.saturating_sub(u32::try_from(self.count).unwrap_or(u32::MAX))
    }

    /// How many are on their way.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Through which offset was delivered, entries that the filter left out included.
    #[must_use]
    pub const fn delivered(&self) -> Offset {
        self.delivered
    }

    /// Through which offset was acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> Offset {
        self.acknowledged
    }

    /// Through where nothing waits for an acknowledgement, what the filter left out included.
    #[must_use]
    pub fn applied(&self) -> Offset {
        let waits = self.spans.front().map(|span| span.first);
        waits.map_or(self.delivered, |first| Offset::from_u64(first.as_u64().saturating_sub(1)))
    }

    /// The newest entry that waits for an acknowledgement.
    #[must_use]
    pub fn newest(&self) -> Option<Offset> {
        self.spans.back().map(|span| Offset::from_u64(span.first.as_u64() + (span.count - 1)))
    }

    /// An entry waits for an acknowledgement.
    #[must_use]
    pub fn holds(&self, offset: Offset) -> bool {
        let behind = self.spans.partition_point(|span| span.first <= offset);
        let span = behind.checked_sub(1).and_then(|last| self.spans.get(last));
        span.is_some_and(|span| offset.as_u64() < span.first.as_u64() + span.count)
    }

    /// Takes back everything from an offset on, as if it had never been delivered; returns the
    /// offset before it.
    pub fn rewind(&mut self, from: Offset) -> Offset {
        let before = Offset::from_u64(from.as_u64().saturating_sub(1));
        while let Some(span) = self.spans.back_mut() {
            let kept = span.through(before);
            self.count -= span.count - kept;
            span.count = kept;
            if kept > 0 {
                break;
            }
            self.spans.pop_back();
        }
        self.delivered = self.delivered.min(before).max(self.acknowledged);
        before
    }

    /// `count` entries from `first` on were delivered.
    pub fn deliver(&mut self, first: Offset, count: u32) {
        let count = u64::from(count);
        debug_assert!(count > 0 && first > self.delivered, "{first} after {}", self.delivered);
        self.count += count;
        self.delivered = Offset::from_u64(first.as_u64() + (count - 1));
        if let Some(last) = self.spans.back_mut()
            && last.first.as_u64() + last.count == first.as_u64()
        {
            last.count += count;
            return;
        }
        self.spans.push_back(Span { first, count });
    }

    /// Everything through an offset that held nothing for this subscription was passed.
    pub fn pass(&mut self, through: Offset) {
        self.delivered = self.delivered.max(through);
    }

    /// Everything through an offset was applied; returns how many that freed, or `None` if it was
    /// never delivered.
    pub fn acknowledge(&mut self, through: Offset) -> Option<u64> {
        if through > self.delivered {
            return None;
        }
        let mut freed = 0;
        while let Some(span) = self.spans.front_mut() {
            let here = span.through(through);
            freed += here;
            if here < span.count {
                span.count -= here;
                span.first = Offset::from_u64(span.first.as_u64() + here);
                break;
            }
            self.spans.pop_front();
        }
        self.count -= freed;
        self.acknowledged = self.acknowledged.max(through);
        Some(freed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(offset: u64) -> Offset {
        Offset::from_u64(offset)
    }

    #[test]
    fn acknowledging_in_the_middle_of_a_batch_frees_its_front() {
        let mut window = Unacknowledged::new(10, at(0));
        window.deliver(at(1), 6);
        window.deliver(at(9), 2);
        assert_eq!((window.room(), window.count(), window.delivered()), (2, 8, at(10)));
        assert_eq!(window.acknowledge(at(4)), Some(4));
        assert_eq!(window.acknowledge(at(2)), Some(0), "an older one changes nothing");
        assert_eq!(window.acknowledged(), at(4));
        assert_eq!(window.acknowledge(at(8)), Some(2), "between two spans");
        assert_eq!(window.acknowledge(at(11)), None, "never delivered");
        window.pass(at(20));
        assert_eq!(window.acknowledge(at(20)), Some(2));
        assert_eq!((window.room(), window.count()), (10, 0));
    }

    #[test]
    fn what_is_taken_back_may_be_delivered_again() {
        let mut window = Unacknowledged::new(10, at(0));
        window.deliver(at(1), 4);
        window.deliver(at(7), 3);
        assert!(window.holds(at(1)) && window.holds(at(9)));
        assert!(!window.holds(at(5)) && !window.holds(at(10)) && !window.holds(at(0)));
        assert_eq!((window.applied(), window.newest()), (at(0), Some(at(9))));
        assert_eq!(window.rewind(at(8)), at(7));
        assert_eq!((window.count(), window.delivered()), (5, at(7)));
        assert_eq!(window.rewind(at(3)), at(2));
        assert_eq!((window.count(), window.delivered(), window.newest()), (2, at(2), Some(at(2))));
        window.acknowledge(at(2)).unwrap();
        window.deliver(at(3), 2);
        assert_eq!((window.count(), window.applied()), (2, at(2)));
        window.acknowledge(at(4)).unwrap();
        window.pass(at(30));
        assert_eq!((window.applied(), window.newest()), (at(30), None));
    }
}
