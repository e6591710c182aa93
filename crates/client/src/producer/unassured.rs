//! What a producer handed in and the node has not assured, pure and bounded.

use std::collections::VecDeque;

use evermesh_event::FenceToken;
use evermesh_event::limits::PUBLISH_EVENTS_MAX;
use evermesh_proto::v1;

use super::Flushed;
use crate::Error;

/// How many events may be unassured: enough to keep a disk and a network busy for a round trip.
pub const UNASSURED_EVENTS_MAX: usize = 8192;
/// And their bytes together: what a process can spare while its node is away.
pub const UNASSURED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One message's events: half of what it may be, so that the next is made while it is sent.
const GROUP_BYTES_MAX: usize = 512 * 1024;
/// Refused events that are kept until somebody asks for them; more are only counted.
const REFUSED_MAX: usize = 1024;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Unassured {
    /// In the order of their counters, which rise.
    events: VecDeque<Kept>,
    bytes: usize,
    last: u64,
    through: u64,
    fence_token: Option<FenceToken>,
    refused: Vec<(u64, v1::Refused)>,
    refused_more: u64,
    /// Why the stream ended for good. Taken by who hears it, and then it is tried again.
    pub(super) error: Option<Error>,
}

#[derive(Debug)]
struct Kept {
    counter: u64,
    event: v1::Event,
    bytes: usize,
}

impl Unassured {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The highest counter that was ever handed in.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Whether one more event may be kept.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.events.len() < UNASSURED_EVENTS_MAX && self.bytes + bytes <= UNASSURED_BYTES_MAX
    }

    /// Keeps one more event; its counter is above all others.
    pub(super) fn push(&mut self, counter: u64, event: v1::Event, bytes: usize) {
        self.bytes += bytes;
        self.last = counter;
        self.events.push_back(Kept { counter, event, bytes });
    }

    /// The next message: what follows a counter, as long as counters rise by one.
    pub(super) fn group(&self, after: u64) -> Option<v1::PublishStreamEvents> {
        let from = self.events.partition_point(|kept| kept.counter <= after);
        let mut group = v1::PublishStreamEvents::default();
        let (mut next, mut bytes) = (None, 0);
        for kept in self.events.range(from..).take(PUBLISH_EVENTS_MAX) {
            let first = *next.get_or_insert(kept.counter);
            if first != kept.counter || bytes > 0 && bytes + kept.bytes > GROUP_BYTES_MAX {
                break;
            }
            if group.events.is_empty() {
                group.first_counter = first;
            }
            group.events.push(kept.event.clone());
            bytes += kept.bytes;
            next = kept.counter.checked_add(1);
            if next.is_none() {
                break;
            }
        }
        Some(group).filter(|group| !group.events.is_empty())
    }

    /// Everything through a counter is assured.
    pub(super) fn assured(&mut self, through: u64, fence_token: Option<FenceToken>) {
        while let Some(kept) = self.events.pop_front_if(|kept| kept.counter <= through) {
            self.bytes -= kept.bytes;
        }
        self.through = self.through.max(through);
        self.fence_token = fence_token.or_else(|| self.fence_token.take());
    }

    /// One event was refused: it is not handed in again.
    pub(super) fn refuse(&mut self, counter: u64, why: v1::Refused) {
        let place = self.events.binary_search_by_key(&counter, |kept| kept.counter);
        let Some(kept) = place.ok().and_then(|at| self.events.remove(at)) else { return };
        self.bytes -= kept.bytes;
        if self.refused.len() < REFUSED_MAX {
            self.refused.push((counter, why));
        } else {
            self.refused_more += 1;
        }
    }

    /// What became of everything so far; refused events are told once.
    pub(super) fn take_flushed(&mut self) -> Flushed {
        Flushed {
            through_counter: self.through,
            fence_token: self.fence_token.clone(),
            refused: std::mem::take(&mut self.refused),
            refused_more: std::mem::take(&mut self.refused_more),
            unassured: self.events.iter().map(|kept| kept.counter).collect(),
        }
    }

    /// The events themselves, given up.
    pub(super) fn take_events(&mut self) -> Vec<(u64, v1::Event)> {
        self.bytes = 0;
        self.events.drain(..).map(|kept| (kept.counter, kept.event)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn kept(counters: &[u64], bytes: usize) -> Unassured {
        let mut kept = Unassured::default();
        counters.iter().for_each(|counter| kept.push(*counter, v1::Event::default(), bytes));
        kept
    }

    fn groups(kept: &Unassured) -> Vec<(u64, usize)> {
        let mut after = 0;
        std::iter::from_fn(|| {
            let group = kept.group(after)?;
            after = group.first_counter + (group.events.len() as u64 - 1);
            Some((group.first_counter, group.events.len()))
        })
        .collect()
    }

    #[test]
    fn a_group_is_what_rises_by_one_and_fits_a_message() {
        assert_eq!(groups(&kept(&[], 1)), []);
        assert_eq!(groups(&kept(&[3, 4, 5, 9, 10, 12], 1)), [(3, 3), (9, 2), (12, 1)]);
        assert_eq!(groups(&kept(&[1, 2, 3, 4, 5], 200 * 1024)), [(1, 2), (3, 2), (5, 1)]);
        assert_eq!(groups(&kept(&[1, 2], 900 * 1024)), [(1, 1), (2, 1)], "one fits always");
        let many: Vec<_> = (1..=5000).collect();
        assert_eq!(groups(&kept(&many, 1)), [(1, 4096), (4097, 904)]);
        assert_eq!(groups(&kept(&[u64::MAX - 1, u64::MAX], 1)).len(), 1);
    }

    #[test]
    fn it_is_bounded_by_number_and_by_bytes() {
        let all: Vec<_> = (1..=UNASSURED_EVENTS_MAX as u64).collect();
        let mut events = kept(&all, 1);
        assert!(!events.has_room(1));
        events.assured(1, None);
        assert!(events.has_room(1));
        let mut bytes = kept(&[1, 2], UNASSURED_BYTES_MAX / 2);
        assert!(!bytes.has_room(1));
        bytes.refuse(2, v1::Refused::default());
        assert!(bytes.has_room(UNASSURED_BYTES_MAX / 2));
    }

    #[test]
    fn what_is_refused_is_told_once_and_not_handed_in_again() {
        let mut kept = kept(&[1, 2, 3], 1);
        let why = v1::Refused { reason: "SITE_MISSING".into(), ..Default::default() };
        kept.refuse(2, why.clone());
        kept.refuse(2, why.clone());
        assert_eq!(groups(&kept), [(1, 1), (3, 1)]);
        let flushed = kept.take_flushed();
        assert_eq!((flushed.refused, flushed.unassured), (vec![(2, why)], vec![1, 3]));
        kept.assured(3, None);
        let flushed = kept.take_flushed();
        assert_eq!((flushed.through_counter, flushed.refused.len()), (3, 0));
        assert!(kept.is_empty());
        for counter in 10..10 + REFUSED_MAX as u64 + 5 {
            kept.push(counter, v1::Event::default(), 1);
            kept.refuse(counter, v1::Refused::default());
        }
        let flushed = kept.take_flushed();
        assert_eq!((flushed.refused.len(), flushed.refused_more), (REFUSED_MAX, 5));
    }
}
