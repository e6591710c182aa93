//! Who there is, who was heard, and how the link to each one is. A bounded table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{JournalId, NodeName, Planted, Sequence};
use evermesh_journal::{Journal, margin};

mod feeds;
mod former;
mod listed;
mod unheard;

pub(crate) use self::feeds::Feeding;
use self::feeds::Twin;

/// In one mesh. Every node has a link with every other; far more than a site has web nodes.
pub(crate) const MEMBERS_MAX: usize = 4096;

/// How one member is, seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name, once it was heard.
    pub node: Option<String>,
    /// Where it is dialled; empty if it only dials.
    pub address: String,
    /// This node pulls from it.
    pub pulling: bool,
    /// It pulls from this node.
    pub feeding: bool,
    /// It did not ping for longer than its lease.
    pub suspended: bool,
    /// It left, or was forgotten.
    pub left: bool,
    /// Since its last ping; `None`: none in this start.
    pub last_ping: Option<Duration>,
    /// Through which of this node's sequences it holds everything on its disk; in its memory, if it
    /// keeps none.
    pub stored: Sequence,
    /// It keeps no disk.
    pub in_memory: bool,
    /// Why there is no link.
    pub trouble: Option<String>,
}

/// An address that is dialled.
#[derive(Debug, Default)]
struct Address {
    name: Option<NodeName>,
    /// Told by other members, and not configured.
    learnt: bool,
    /// The member whose link is this one's, or is being made.
    held: Option<NodeName>,
    pulling: bool,
    trouble: Option<String>,
    /// When the newest attempt to link began that is over.
    tried: Option<Duration>,
}

/// A member that was heard in this start.
#[derive(Debug, Default)]
struct Heard {
    last_ping: Option<Duration>,
    /// The present feed; a newer one takes over.
    feed: Option<Feeding>,
    /// Another node that bears the same name.
    twin: Option<Twin>,
    /// Whom it has not heard for so long that it would forget them.
    away: BTreeSet<NodeName>,
    /// Names that two nodes bear at the same time where it is, and under which journals.
    doubled: BTreeMap<NodeName, Vec<JournalId>>,
}

#[derive(Debug, Default)]
struct Table {
    addresses: BTreeMap<String, Address>,
    heard: BTreeMap<NodeName, Heard>,
    /// When it was heard in this start that a member left.
    left: BTreeMap<NodeName, Duration>,
}

/// The table. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    table: Arc<Mutex<Table>>,
    journal: Journal,
    lease: Duration,
    /// When this start began, and for how long each member had not been heard then.
    began: (Duration, Arc<BTreeMap<NodeName, Duration>>),
}

impl Members {
    /// Knows the configured addresses; each counts as a member from the beginning.
    pub(crate) fn new(
        journal: Journal,
        lease: Duration,
        addresses: &[String],
        now: Duration,
    ) -> Self {
        let mut addresses: BTreeMap<_, _> =
            addresses.iter().map(|address| (address.clone(), Address::default())).collect();
        for (address, entry) in &mut addresses {
            let known = journal.member_at(address);
            let label = known.as_ref().map_or(address.as_str(), |known| known.name.as_str());
            let planted = journal.planted().is(Planted::SuspendAtStart);
            let presence = if planted { Presence::Suspended } else { Presence::Expected };
            journal.cursors().presence(label, presence);
            if let Some(known) = known {
                // What was acknowledged there is not kept: until it tells, nothing was (P9).
                let nothing = vec![(String::new(), Sequence::ZERO)];
                journal.cursors().applied(known.name.as_str(), known.stored, nothing);
                entry.name = Some(known.name);
            }
        }
        let away = journal.members().into_iter().map(|(name, _)| {
            let away = journal.away_for(&name);
            (name, away)
        });
        let began = (now, Arc::new(away.collect()));
        let table = Arc::new(Mutex::new(Table { addresses, ..Table::default() }));
        let members = Self { table, journal, lease, began };
        members.reconcile(now);
        members
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member is found at an address, and the link to it is made from there.
    ///
    /// # Errors
    /// If it is linked by another address.
    pub(crate) fn hold(&self, address: &str, name: &NodeName) -> Result<(), String> {
        let mut table = self.table();
        let other = table
            .addresses
            .iter()
            .find(|(at, entry)| at.as_str() != address && entry.held.as_ref() == Some(name));
        let other = other.map(|(at, _)| format!("{name} is linked already, by {at}"));
        let Some(entry) = table.addresses.get_mut(address) else {
            return Err(format!("{address} is not dialled any more"));
        };
        if other.is_some() {
            entry.name = Some(name.clone());
        } else {
            entry.held = Some(name.clone());
        }
        drop(table);
        let Some(other) = other else { return Ok(()) };
        self.journal.cursors().rename(address, name.as_str());
        Err(other)
    }

    /// A link to an address works, and this is who is there. Kept for the next start.
    pub(crate) fn linked(&self, address: &str, name: &NodeName) {
        let mut table = self.table();
        let Some(entry) = table.addresses.get_mut(address) else { return };
        let before = entry.name.replace(name.clone());
        (entry.pulling, entry.trouble) = (true, None);
        let moved = before.filter(|before| {
            before != name
                && !table.addresses.values().any(|other| other.name.as_ref() == Some(before))
        });
        drop(table);
        if let Some(before) = moved {
            // Another node answers there now, and nobody is where the former one was.
            self.journal.cursors().forget(before.as_str());
            self.journal.cursors().presence(name.as_str(), Presence::Expected);
        }
        self.journal.cursors().rename(address, name.as_str());
        self.journal.note_member(address, name);
        self.journal.note_address(name, address);
    }

    /// This start has lasted for less than a lease and its margin: who is there may not have come.
    pub(crate) fn is_young(&self, now: Duration) -> bool {
        now < self.began.0 + self.lease + margin(self.lease)
    }

    /// A link to an address ended, or never began; `began`: when it was tried. True if the trouble
    /// is another than before. An address that is not dialled any more stays forgotten: it may be
    /// learnt again.
    pub(crate) fn unlinked(&self, address: &str, trouble: String, began: Duration) -> bool {
        let mut table = self.table();
        let Some(entry) = table.addresses.get_mut(address) else { return false };
        entry.tried = Some(began);
        (entry.held, entry.pulling) = (None, false);
        let news = entry.trouble.as_ref() != Some(&trouble);
        entry.trouble = Some(trouble);
        news
    }

    /// Suspends every member that was heard in this start and has been silent for its lease and a
    /// margin.
    pub(crate) fn suspend_silent(&self, now: Duration) {
        let table = self.table();
        let silent = table.heard.iter().filter(|(name, heard)| {
            let silent = heard.last_ping.is_some_and(|at| self.is_silent(now, at));
            silent && !table.left.contains_key(*name)
        });
        let names: Vec<_> = silent.map(|(name, _)| name.clone()).collect();
        drop(table);
        for name in names {
            self.journal.cursors().presence(name.as_str(), Presence::Suspended);
        }
        self.suspend_twins(now);
    }

    fn is_silent(&self, now: Duration, last_ping: Duration) -> bool {
        evermesh_journal::is_silent(last_ping, self.lease, now)
    }

    /// Everybody who can be dialled, but this one, echoed what was sent since, or could not be
    /// linked in an attempt that began since: what they know of it is known here.
    pub(crate) fn all_asked(&self, but: &NodeName, since: Duration) -> bool {
        let (listed, heard) = (self.journal.members(), self.journal.leases().snapshot());
        let table = self.table();
        let tried = |entry: &Address| entry.tried.is_some_and(|began| began >= since);
        let asked = |name: &NodeName| {
            let echo = heard.get(name.as_str()).map(|heard| heard.echo.pinged);
            let dialled = || table.addresses.values().filter(|at| at.name.as_ref() == Some(name));
            // By another address it cannot be linked while it is.
            let linked = || dialled().any(|entry| entry.pulling);
            echo.is_some_and(|pinged| pinged >= since) || dialled().any(tried) && !linked()
        };
        let own = &self.journal.origin().node;
        // Who was just learnt is not dialled yet.
        let mut listed = listed.iter().filter(|(name, listed)| {
            let reachable = !listed.left && !listed.address.is_empty();
            reachable && name != but && name != own
        });
        let mut unnamed = table.addresses.values().filter(|entry| entry.name.is_none());
        listed.all(|(name, _)| asked(name)) && unnamed.all(tried)
    }

    /// Every member that is dialled is linked.
    pub(crate) fn all_linked(&self) -> bool {
        let table = self.table();
        let linked = |name: &NodeName| {
            let mut all = table.addresses.values();
            all.any(|entry| entry.pulling && entry.name.as_ref() == Some(name))
        };
        table.addresses.values().all(|entry| {
            let name = entry.name.as_ref();
            let elsewhere = name.is_some_and(|name| linked(name) || table.left.contains_key(name));
            entry.pulling || elsewhere
        })
    }

    /// Every member, configured or heard.
    pub(crate) fn status(&self, now: Duration) -> Vec<PeerStatus> {
        let cursors = self.journal.cursors().snapshot();
        let cursor = |label: &str| cursors.iter().find(|replica| replica.label == label);
        let table = self.table();
        let of = |name: Option<&NodeName>, address: &str, entry: Option<&Address>| {
            let heard = name.and_then(|name| table.heard.get(name));
            let last_ping = heard.and_then(|heard| heard.last_ping);
            let cursor = cursor(name.map_or(address, NodeName::as_str));
            PeerStatus {
                node: name.map(ToString::to_string),
                address: address.to_owned(),
                pulling: entry.is_some_and(|entry| entry.pulling),
                feeding: heard.is_some_and(|heard| heard.feed.is_some()),
                suspended: last_ping.is_some_and(|at| self.is_silent(now, at)),
                left: name.is_some_and(|name| table.left.contains_key(name)),
                last_ping: last_ping.map(|at| now.saturating_sub(at)),
                stored: cursor.map_or(Sequence::ZERO, |replica| replica.stored),
                in_memory: cursor.is_some_and(|replica| replica.in_memory),
                trouble: entry.and_then(|entry| entry.trouble.clone()),
            }
        };
        let configured = table.addresses.iter();
        let configured = configured.map(|(at, entry)| of(entry.name.as_ref(), at, Some(entry)));
        let others: BTreeSet<_> = table.heard.keys().chain(table.left.keys()).collect();
        let others = others.into_iter().filter(|name| {
            !table.addresses.values().any(|entry| entry.name.as_ref() == Some(*name))
        });
        configured.chain(others.map(|name| of(Some(name), "", None))).collect()
    }
}
