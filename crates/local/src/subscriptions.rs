//! The open subscriptions, for operators. A bounded table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evermesh_event::{Arrival, Offset, Unacknowledged};
use tokio_util::sync::CancellationToken;

/// On one node. Each holds at most its unacknowledged entries and two messages.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1024;

/// One open subscription, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionView {
    /// Who subscribed.
    pub identity: Arc<str>,
    /// What it hears; empty: every site.
    pub sites: Vec<String>,
    /// Through which offset it was delivered.
    pub delivered: Offset,
    /// Through which offset it acknowledged.
    pub acknowledged: Offset,
    /// Delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Its durable name; empty: none.
    pub durable_name: String,
}

/// An open subscription, and what ends it when a newer stream takes its name.
#[derive(Debug)]
struct Open {
    view: SubscriptionView,
    /// When it was asked for, where that is known.
    arrival: Option<Arrival>,
    taken_over: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// The table. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriptions(Arc<Mutex<Table>>);

impl Subscriptions {
    /// Takes a place; `None` if all are taken. An older stream of the same durable name is told to
    /// end. That may be this one: of two that were asked for one after the other, the first can be
    /// the second to come here, above all where its caller gave it up and tried again.
    pub(crate) fn open(&self, view: SubscriptionView, arrival: Option<Arrival>) -> Option<Place> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        table.next += 1;
        let number = table.next;
        let same = |open: &&Open| {
            !view.durable_name.is_empty() && open.view.durable_name == view.durable_name
        };
        let taken_over = CancellationToken::new();
        let newer = |open: &Open| arrival.is_some() && open.arrival > arrival;
        if table.open.values().filter(same).any(newer) {
            taken_over.cancel();
        } else {
            table.open.values().filter(same).for_each(|open| open.taken_over.cancel());
        }
        table.open.insert(number, Open { view, arrival, taken_over: taken_over.clone() });
        Some(Place { table: self.clone(), number, taken_over })
    }

    pub(crate) fn views(&self) -> Vec<SubscriptionView> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.open.values().map(|open| open.view.clone()).collect()
    }
}

/// A subscription's place in the table, free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Subscriptions,
    number: u64,
    taken_over: CancellationToken,
}

impl Place {
    /// Cancelled when a newer stream takes the durable name.
    pub(crate) fn taken_over(&self) -> CancellationToken {
        self.taken_over.clone()
    }

    /// Shows how far the subscription is.
    pub(crate) fn show(&self, window: &Unacknowledged) {
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Open { view, .. }) = table.open.get_mut(&self.number) {
            view.delivered = window.delivered();
            view.acknowledged = window.acknowledged();
            view.unacknowledged = window.count();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn view(name: &str) -> SubscriptionView {
        SubscriptionView {
            identity: "local:uid=0".into(),
            sites: Vec::new(),
            delivered: Offset::ZERO,
            acknowledged: Offset::ZERO,
            unacknowledged: 0,
            durable_name: name.to_owned(),
        }
    }

    #[test]
    fn the_newer_stream_has_the_name_in_whatever_order_they_come() {
        let ended = |first: Option<u64>, second: Option<u64>| {
            let table = Subscriptions::default();
            let open = |number: Option<u64>| table.open(view("cache"), number.map(Arrival::new));
            let (first, second) = (open(first).unwrap(), open(second).unwrap());
            let other = table.open(view("another"), Some(Arrival::new(9))).unwrap();
            assert!(!other.taken_over().is_cancelled());
            [first, second].map(|place| place.taken_over().is_cancelled())
        };
        assert_eq!(ended(Some(1), Some(2)), [true, false]);
        assert_eq!(ended(Some(2), Some(1)), [false, true], "it was asked for before");
        assert_eq!(ended(None, None), [true, false]);
        assert_eq!(ended(Some(1), None), [true, false]);
    }
}
