//! Which nodes pull from this one, and who pings: also two that bear one name.
//!
//! A name belongs to one node. If two bear it, because a disk, a certificate or a configuration was
//! copied, both are served and both are waited for, each by itself, and the log says where they
//! are: no promise is broken until somebody looks.

use std::time::Duration;

use evermesh_event::assurance::Presence;
use evermesh_event::{JournalId, NodeName, Origin, Remote, StartId};
use tokio_util::sync::CancellationToken;

use super::{MEMBERS_MAX, Members};

/// A feed, as its member began it.
#[derive(Clone, Debug)]
pub(crate) struct Feeding {
    /// Under what name its receiver is counted.
    pub(crate) label: String,
    pub(crate) journal: JournalId,
    pub(crate) start: StartId,
    pub(crate) from: Remote,
    /// When it began. From there its node is there, as from a ping.
    began: Duration,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// The other one of two that bear one name. There is place for one.
#[derive(Debug)]
pub(super) struct Twin {
    pub(super) feeding: Feeding,
    last_ping: Duration,
}

impl Members {
    /// A member's feed begins; an older one of the same member is told to end. `None`: no more
    /// members are taken.
    pub(crate) fn begin_feed(
        &self,
        name: &NodeName,
        (journal, start): (JournalId, StartId),
        from: Remote,
        now: Duration,
    ) -> Option<Feeding> {
        // Should nobody ever be linked with it, its events are lost with it, and that is told.
        self.journal.journal_pulls(&Origin { node: name.clone(), journal });
        let mut table = self.table();
        if table.heard.len() >= MEMBERS_MAX && !table.heard.contains_key(name) {
            return None;
        }
        let heard = table.heard.entry(name.clone()).or_default();
        let stop = CancellationToken::new();
        let mut feeding =
            Feeding { label: name.to_string(), journal, start, from, began: now, stop };
        let pings = heard.last_ping.is_some_and(|at| !self.is_silent(now, at));
        let other = heard.feed.as_ref().filter(|other| other.journal != journal && pings);
        if let Some(other) = other {
            tracing::error!(
                member = %name, one = %other.from, another = %feeding.from,
                "two nodes bear this name: both are served; give one of them another name and \
                certificate, or stop it"
            );
            feeding.label = format!("{name}, journal {journal}");
            let twin = heard.twin.take().filter(|twin| !self.is_silent(now, twin.last_ping));
            if let Some(twin) = twin {
                if twin.feeding.journal != journal {
                    heard.twin = Some(twin);
                    return None;
                }
                twin.feeding.stop.cancel();
            }
            heard.twin = Some(Twin { feeding: feeding.clone(), last_ping: now });
            return Some(feeding);
        }
        if let Some(older) = heard.feed.replace(feeding.clone()) {
            older.stop.cancel();
        }
        // The other one is gone, and this one is what remains: it counts on as it did.
        let alone = heard.twin.take_if(|twin| twin.feeding.journal == journal);
        if let Some(twin) = alone {
            heard.last_ping = heard.last_ping.max(Some(twin.last_ping));
            drop(table);
            twin.feeding.stop.cancel();
            self.journal.cursors().succeed(name.as_str(), &twin.feeding.label);
        }
        Some(feeding)
    }

    /// A feed ended by itself.
    pub(crate) fn end_feed(&self, name: &NodeName, feed: &Feeding) {
        if feed.stop.is_cancelled() {
            return;
        }
        feed.stop.cancel();
        let mut table = self.table();
        let Some(heard) = table.heard.get_mut(name) else { return };
        if heard.feed.take_if(|present| present.stop.is_cancelled()).is_some()
            && let Some(twin) = &heard.twin
        {
            // It comes back at once, under the name alone.
            twin.feeding.stop.cancel();
        }
    }

    /// A member pinged. `start`: of which of its starts.
    pub(crate) fn pinged(&self, name: &NodeName, start: Option<StartId>, now: Duration) {
        let mut table = self.table();
        if table.left.contains_key(name) {
            return;
        }
        let heard = table.heard.entry(name.clone()).or_default();
        let twin = heard.twin.as_mut().filter(|twin| Some(twin.feeding.start) == start);
        let label = if let Some(twin) = twin {
            twin.last_ping = now;
            twin.feeding.label.clone()
        } else {
            heard.last_ping = Some(now);
            name.to_string()
        };
        drop(table);
        self.journal.cursors().presence(&label, Presence::Expected);
    }

    /// Under which journals nodes of this name are there: they pull from this one, and ping, or
    /// have just begun. Of two that were there when this start began, the other may need a lease to
    /// come back.
    pub(crate) fn there(&self, name: &NodeName, now: Duration) -> Vec<JournalId> {
        let table = self.table();
        let heard = table.heard.get(name);
        let pings = |at: Option<Duration>| at.is_some_and(|at| !self.is_silent(now, at));
        let feed = heard.and_then(|heard| {
            let feed = heard.feed.as_ref()?;
            pings(heard.last_ping.max(Some(feed.began))).then_some(feed)
        });
        let twin = heard.and_then(|heard| heard.twin.as_ref());
        let twin = twin.filter(|twin| pings(Some(twin.last_ping))).map(|twin| &twin.feeding);
        let mut there: Vec<_> = feed.into_iter().chain(twin).map(|feed| feed.journal).collect();
        drop(table);
        let present = self.journal.present_of(name);
        if present.len() > 1 && pings(Some(self.began.0)) {
            there.extend(present);
        }
        there
    }

    /// The names that two nodes bear which pull from this one.
    pub(crate) fn doubled(&self) -> Vec<NodeName> {
        let table = self.table();
        let doubled = table.heard.iter().filter(|(_, heard)| heard.twin.is_some());
        doubled.map(|(name, _)| name.clone()).collect()
    }

    /// Somebody who pings says that a node is there under this journal, beside another of its name.
    pub(crate) fn is_beside(&self, origin: &Origin, now: Duration) -> bool {
        self.table().heard.values().any(|heard| {
            let pings = heard.last_ping.is_some_and(|at| !self.is_silent(now, at));
            let beside = heard.doubled.get(&origin.node);
            pings && beside.is_some_and(|beside| beside.contains(&origin.journal))
        })
    }

    /// One that bears the name of another counts for as long as a member does, and is no member:
    /// nobody waits for it to come back.
    pub(super) fn suspend_twins(&self, now: Duration) {
        let mut table = self.table();
        let mut gone = Vec::new();
        for heard in table.heard.values_mut() {
            let silent = |twin: &mut Twin| self.is_silent(now, twin.last_ping);
            gone.extend(heard.twin.take_if(silent));
        }
        drop(table);
        for twin in gone {
            twin.feeding.stop.cancel();
            self.journal.cursors().forget(&twin.feeding.label);
        }
    }
}
