//! What the writer stores in the state database, beside the records.
//!
//! Always holds: whatever was encoded before is synced when anything is stored here; each call says
//! behind what it goes. A failure here is one of the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evermesh_event::Origin;

use super::{News, Writer};
use crate::cuts::Cuts;
use crate::error::Failure;
use crate::producers::Highest;
use crate::roster::Leaving;
use crate::starts::SeenStart;
use crate::state::Mended;

/// How often cursors of durable names are stored while events keep the writer busy. It is a
/// transaction of its own, which costs about as much as a group of events.
const PLACES_EVERY: Duration = Duration::from_millis(50);

impl Writer {
    /// What was told without a range, behind the record and before anything behind it: so it is
    /// known even where the record is damaged.
    pub(super) fn store_notices(&self) -> Result<(), Failure> {
        let changed = self.shared.wounds().notices.take_changed();
        let Some(state) = self.state.as_ref().filter(|_| !changed.is_empty()) else {
            return Ok(());
        };
        let stored = state.store_notices(&changed);
        stored.map_err(|error| self.failed("store what was told", error))
    }

    /// The first group of a start holds what is told of a former journal id.
    pub(super) fn store_told(&mut self) -> Result<(), Failure> {
        if let (true, Some(state)) = (std::mem::take(&mut self.untold), &self.state) {
            let stored = state.store_told();
            stored.map_err(|error| self.failed("store what was told", error))?;
        }
        Ok(())
    }

    pub(super) fn store_starts(
        &mut self,
        seen: &[(Origin, Vec<SeenStart>)],
    ) -> Result<(), Failure> {
        let Some(state) = self.state.as_ref().filter(|_| !seen.is_empty()) else { return Ok(()) };
        let stored = state.store_starts(seen);
        stored.map_err(|error| self.failed("store the starts of members", error))
    }

    /// Who is a member, and that this node is none any more.
    pub(super) fn store_members(&mut self, news: &News) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        if !news.roster.is_empty() {
            let stored = state.store_roster(&news.roster);
            stored.map_err(|error| self.failed("store who is a member", error))?;
        }
        if *self.shared.roster.leaving.borrow() == Leaving::Asked {
            let stored = state.store_left();
            stored.map_err(|error| self.failed("store that this node leaves", error))?;
            self.shared.roster.leaving.send_replace(Leaving::Stored);
        }
        Ok(())
    }

    /// With each segment: so that a later start knows what was lost, if the end of this one is.
    pub(super) fn store_frontier(&self) -> Result<(), Failure> {
        let frontier = self.shared.numbering().durable_frontier.clone();
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_frontier(&frontier);
        stored.map_err(|error| self.failed("store what is here", error))
    }

    pub(crate) fn store_mended(&self, mended: &Mended) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_mended(mended, self.shared.cuts().end);
        stored.map_err(|error| self.failed("store what is mended", error))
    }

    pub(crate) fn store_cuts(
        &self,
        cuts: &Cuts,
        producers: &BTreeMap<Arc<str>, Highest>,
    ) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        let stored = state.store_cuts(cuts, producers);
        stored.map_err(|error| self.failed("store what is cut", error))
    }

    pub(super) fn store_addresses(&mut self, end: bool) -> Result<(), Failure> {
        let members = self.shared.members().take(&self.shared.cursors, end);
        if let (Some(members), Some(state)) = (members, &self.state) {
            let stored = state.store_members(&members);
            stored.map_err(|error| self.failed("store the members", error))?;
        }
        Ok(())
    }

    /// Names and letters that changed. While there is more to write, not in every turn: cursors may
    /// wait for a moment, publishers should not.
    pub(super) fn store_places(&mut self) -> Result<(), Failure> {
        let clean = self.shared.names().is_clean() && self.shared.letters().is_clean();
        let now = self.shared.clock.boot();
        let due = now.saturating_sub(self.places_stored) >= PLACES_EVERY;
        let Some(state) = self.state.as_ref().filter(|_| !clean && (due || self.idle())) else {
            return Ok(());
        };
        let durable = self.shared.durable.borrow().offset;
        // Names first: a letter that comes in between is stored before the cursor behind it.
        let names = self.shared.names().take_changed(durable);
        let letters = self.shared.letters().take_changed();
        let stored = state.store_places(&names, &letters);
        self.places_stored = now;
        stored.map_err(|error| self.failed("store the places of durable names", error))
    }
}
