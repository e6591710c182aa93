//! How a writer ends: closed, failed, to begin again under a new journal id, or dropped.
//!
//! Always holds: once it has ended nothing more is assured (P11), and the database is closed before
//! the directory is given back.

use std::time::Duration;

use super::{News, Writer};
use crate::error::Failure;
use crate::shared::Stage;

impl Writer {
    /// Stores that the next start takes a new journal id, and ends: nothing more is assured.
    pub(super) fn renew(&mut self, why: String) -> Failure {
        let stored = self.state.take().map(|state| state.store_renewal(&why));
        self.held = None;
        let failure = match stored {
            Some(Err(error)) => self.failed("store that the journal needs a new id", error),
            Some(Ok(())) | None => self.failed(Failure::RENEWAL, why),
        };
        self.fail(failure)
    }

    /// Ends it, if it is to be closed and nothing waits.
    pub(super) fn end_if_closing(&mut self) -> Result<bool, Failure> {
        if self.shared.stage() != Stage::Closing || !self.idle() {
            return Ok(false);
        }
        let seen = self.shared.starts().take_dirty();
        let news = News { seen, roster: self.shared.roster.take_dirty() };
        self.store_starts(&news.seen)?;
        self.store_members(&news)?;
        self.places_stored = Duration::ZERO;
        self.store_places()?;
        self.store_addresses(true)?;
        let durable = *self.shared.durable.borrow();
        let frontier = self.shared.numbering().durable_frontier.clone();
        if let Some(state) = self.state.take() {
            let stored = state.store_end(
                &self.shared.origin,
                self.shared.start,
                durable.offset,
                durable.own,
                &frontier,
            );
            stored.map_err(|error| self.failed("store the end of this start", error))?;
        }
        self.held = None;
        let numbering = self.shared.numbering();
        self.shared.enter(&numbering, Stage::Closed);
        Ok(true)
    }

    pub(crate) fn failed(&self, what: &'static str, reason: String) -> Failure {
        Failure { place: self.shared.storage.place(), what, reason }
    }

    pub(super) fn fail(&mut self, failure: Failure) -> Failure {
        tracing::error!(%failure, "the journal failed");
        self.failure = Some(failure.clone());
        let numbering = self.shared.numbering();
        self.shared.enter(&numbering, Stage::Failed);
        failure
    }
}

impl Drop for Writer {
    /// A writer that ends before its journal was closed assures nothing more.
    fn drop(&mut self) {
        let numbering = self.shared.numbering();
        if matches!(self.shared.stage(), Stage::Running | Stage::Closing) {
            self.shared.enter(&numbering, Stage::Failed);
        }
        drop(numbering);
        // The database goes before the lock does.
        self.state = None;
        self.held = None;
    }
}
