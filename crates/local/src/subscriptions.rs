//! The open subscriptions, for operators. A bounded table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evermesh_event::{Offset, Unacknowledged};

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
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, SubscriptionView>,
}

/// The table. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriptions(Arc<Mutex<Table>>);

impl Subscriptions {
    /// Takes a place; `None` if all are taken.
    pub(crate) fn open(&self, view: SubscriptionView) -> Option<Place> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        table.next += 1;
        let number = table.next;
        table.open.insert(number, view);
        Some(Place { table: self.clone(), number })
    }

    pub(crate) fn views(&self) -> Vec<SubscriptionView> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.open.values().cloned().collect()
    }
}

/// A subscription's place in the table, free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Subscriptions,
    number: u64,
}

impl Place {
    /// Shows how far the subscription is.
    pub(crate) fn show(&self, window: &Unacknowledged) {
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = table.open.get_mut(&self.number) {
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
