//! Durable names: where this node keeps the place of a subscriber that keeps none itself.
//!
//! A place moves with each acknowledgement and is stored by the writer, never ahead of what is on
//! the disk. A name that nobody knows begins at the durable end, and is told so (`untold`) until it
//! acknowledged that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evermesh_event::{Epoch, Frontier, Offset, Planted};

use crate::applied::{Applied, Mark};
use crate::journal::Journal;

/// Durable names on one node. Each takes a row in the state database.
pub const NAMES_MAX: usize = 1024;

/// A durable name and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Who opened it first. Nobody else may.
    pub identity: Arc<str>,
    /// What it hears; empty: every site.
    pub sites: Vec<String>,
    /// Everything through here was acknowledged.
    pub acknowledged: Offset,
    /// In which start that was.
    pub given: Epoch,
    /// Through where, of each origin.
    pub through: Frontier,
    /// It was unknown when it was opened, and has not acknowledged yet that it may have missed
    /// everything before.
    pub untold: bool,
}

/// Why a durable name cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Somebody else opened it first.
    #[error("it belongs to {0}")]
    Held(Arc<str>),
    /// There are as many as there may be.
    #[error("this node keeps {NAMES_MAX} durable names at most; forget one that is not used")]
    TooMany,
}

#[derive(Debug)]
struct Known {
    name: Name,
    /// Counts for `APPLIED` whether a stream is open or not.
    mark: Mark,
}

/// The names, and which of them are to be stored.
#[derive(Debug)]
pub(crate) struct Names {
    applied: Applied,
    known: BTreeMap<String, Known>,
    changed: BTreeSet<String>,
}

impl Names {
    pub(crate) fn new(applied: Applied, stored: BTreeMap<String, Name>) -> Self {
        let mut names = Self { applied, known: BTreeMap::new(), changed: BTreeSet::new() };
        for (key, name) in stored {
            names.insert(key, name);
        }
        names
    }

    fn insert(&mut self, key: String, name: Name) {
        let mark = self.applied.mark(&name.sites, name.through.clone());
        self.known.insert(key, Known { name, mark });
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.changed.is_empty()
    }

    /// What is to be stored: each changed name with its place, or with none if it was forgotten. A
    /// place beyond what is durable is stored as far as that, and again later.
    pub(crate) fn take_changed(&mut self, durable: Offset) -> Vec<(String, Option<Name>)> {
        let changed = std::mem::take(&mut self.changed);
        let mut rows = Vec::with_capacity(changed.len());
        for key in changed {
            let mut row = self.known.get(&key).map(|known| known.name.clone());
            if let Some(name) = row.as_mut().filter(|name| name.acknowledged > durable) {
                name.acknowledged = durable;
                self.changed.insert(key.clone());
            }
            rows.push((key, row));
        }
        rows
    }
}

impl Journal {
    /// Opens a durable name, or begins one at the durable end.
    ///
    /// # Errors
    /// If somebody else owns it, or there are too many.
    pub fn open_name(
        &self,
        key: &str,
        identity: &Arc<str>,
        sites: &[String],
    ) -> Result<Name, NameError> {
        let end = self.durable().borrow().offset;
        let mut names = self.shared().names();
        let name = match names.known.get(key) {
            Some(known) if known.name.identity != *identity => {
                return Err(NameError::Held(Arc::clone(&known.name.identity)));
            }
            Some(known) if known.name.sites == sites => return Ok(self.resumed(&known.name)),
            // It hears other sites from now on.
            Some(known) => Name { sites: sites.to_vec(), ..known.name.clone() },
            None if names.known.len() >= NAMES_MAX => return Err(NameError::TooMany),
            None => Name {
                identity: Arc::clone(identity),
                sites: sites.to_vec(),
                acknowledged: end,
                given: self.start().epoch,
                through: Frontier::default(),
                untold: true,
            },
        };
        names.changed.insert(key.to_owned());
        names.insert(key.to_owned(), name.clone());
        drop(names);
        self.shared().bell.ring();
        Ok(self.resumed(&name))
    }

    /// From where a stream of a name begins: before all that is, or was, damaged around its place.
    fn resumed(&self, name: &Name) -> Name {
        let acknowledged = self.shared().wounds().resumes(name.acknowledged, name.given);
        Name { acknowledged, ..name.clone() }
    }

    /// Everything through here, which is `through` of each origin, was acknowledged under a durable
    /// name, or was not for it. Stored soon with `store`, else with the next that is.
    pub fn advance_name(&self, key: &str, through_offset: Offset, through: &Frontier, store: bool) {
        let store = store && !self.planted().is(Planted::ForgetCursor);
        let given = self.start().epoch;
        let mut names = self.shared().names();
        let Some(known) = names.known.get_mut(key) else { return };
        known.mark.advance(through.iter().map(|(origin, at)| (origin.clone(), at)));
        // Whoever began again before what was damaged is where it is by now, not where it was.
        let began = || self.resumed(&known.name).acknowledged;
        if through_offset >= known.name.acknowledged || through_offset >= began() {
            known.name.acknowledged = through_offset;
            known.name.given = given;
        }
        known.name.through = known.mark.through();
        known.name.untold = false;
        if store {
            names.changed.insert(key.to_owned());
            drop(names);
            self.shared().bell.ring();
        }
    }

    /// Forgets a durable name; false if nobody knows it.
    pub fn forget_name(&self, key: &str) -> bool {
        let mut names = self.shared().names();
        let forgotten = names.known.remove(key).is_some();
        if forgotten {
            names.changed.insert(key.to_owned());
        }
        drop(names);
        self.shared().bell.ring();
        forgotten
    }

    /// Every durable name.
    #[must_use]
    pub fn names(&self) -> Vec<(String, Name)> {
        let names = self.shared().names();
        names.known.iter().map(|(key, known)| (key.clone(), known.name.clone())).collect()
    }
}
