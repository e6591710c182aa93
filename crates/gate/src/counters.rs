//! The numbers that the gate counts, for whoever shows them.
//!
//! Plain atomics without names or labels: the metrics of the server give them those. Relaxed
//! order throughout, because nothing is decided by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened at one or several listeners that share this value.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken from the kernel.
    pub accepted: AtomicU64,
    /// Connections that are admitted and live now. Goes up and down.
    pub open: AtomicU64,
    /// Connections whose caller was not admitted: no identity, no HTTP/2, or too late.
    pub refused: AtomicU64,
    /// Connections that the caller closed before it was admitted.
    pub abandoned: AtomicU64,
    /// Connections closed at once because `connections_max` was reached.
    pub over_connections: AtomicU64,
    /// Connections closed at once because `handshakes_max` was reached.
    pub over_handshakes: AtomicU64,
    /// Times that accepting failed, for instance because no file descriptor was left.
    pub accept_errors: AtomicU64,
    /// Calls that came in.
    pub calls: AtomicU64,
    /// Calls to a path that nothing serves (NO_ROUTE).
    pub no_route: AtomicU64,
    /// Calls whose path was refused before it was matched (BAD_PATH).
    pub bad_path: AtomicU64,
    /// Calls refused because `in_flight_max` was reached (OVERLOADED).
    pub overloaded: AtomicU64,
    /// Calls whose handler panicked.
    pub panics: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A live connection, for as long as this value lives.
pub(crate) struct Open(Arc<Counters>);

impl Open {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        count(&counters.open);
        Self(counters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
