//! Leaving and forgetting, as an operator asks for it.

use std::collections::BTreeSet;

use evermesh_event::NodeName;
use evermesh_event::assurance::Presence;

use crate::peers::Peers;

/// Who holds what this node published, before it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Everything.
    pub holds: Vec<String>,
    /// Not everything, and it is suspended, or was not heard in this start although a lease of it
    /// is over: it may get the rest from those who hold it.
    pub lacks: Vec<String>,
    /// Not everything yet.
    pub pending: Vec<String>,
    /// Somebody holds everything on a disk, or this node has none itself.
    pub safely: bool,
}

/// Why a member is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForgotten {
    /// Nobody knows it here.
    Unknown,
    /// It is this node.
    Itself,
    /// It is there: it would come back at once.
    There,
    /// It left already.
    Left,
}

impl Held {
    /// Nothing would be lost if this node left now: whoever is there holds all, or somebody does.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.pending.is_empty() && (self.lacks.is_empty() || self.safely)
    }
}

impl Peers {
    /// Who holds everything that this node published so far.
    #[must_use]
    pub fn held(&self) -> Held {
        let journal = &self.0.parts.journal;
        let head = journal.own_head();
        let mut held = Held::default();
        let (members, now) = (&self.0.members, self.0.parts.clock.boot());
        // Whoever is there has come by then.
        let young = members.is_young(now);
        let heard: BTreeSet<_> = {
            let heard = members.status(now).into_iter().filter(|m| m.last_ping.is_some());
            heard.filter_map(|member| member.node).collect()
        };
        // Of two that bear one name the other one has more behind the name.
        let is_heard = |label: &str| label.split(',').next().is_some_and(|n| heard.contains(n));
        for member in journal.cursors().snapshot() {
            let list = match member.presence {
                _ if member.stored >= head => {
                    held.safely |= !member.in_memory || journal.is_memory();
                    &mut held.holds
                }
                Presence::Expected if young || is_heard(&member.label) => &mut held.pending,
                Presence::Expected | Presence::Suspended => &mut held.lacks,
                Presence::Left => continue,
            };
            list.push(member.label);
        }
        held
    }

    /// Returns once this node could leave without a loss.
    pub async fn held_by_all(&self) -> Held {
        let mut cursors = self.0.parts.journal.cursors().watch();
        loop {
            cursors.mark_unchanged();
            let held = self.held();
            if held.is_enough() {
                return held;
            }
            // Somebody may also be away for long enough by now.
            let changed = tokio::time::timeout(self.0.parts.lease / 4, cursors.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return held;
            }
        }
    }

    /// A member that is gone is waited for no longer, here and, as it is told to them, by all.
    ///
    /// # Errors
    /// If it is nobody who could be forgotten.
    pub fn forget(&self, name: &NodeName) -> Result<(), NotForgotten> {
        let (shared, now) = (&self.0, self.0.parts.clock.boot());
        let journal = &shared.parts.journal;
        if *name == shared.parts.node {
            return Err(NotForgotten::Itself);
        }
        let member = journal.member(name).ok_or(NotForgotten::Unknown)?;
        if member.left {
            return Err(NotForgotten::Left);
        }
        let there: BTreeSet<_> = {
            let status = shared.members.status(now);
            let there = status.into_iter().filter(|member| {
                let pings = member.last_ping.is_some() && !member.suspended;
                member.pulling || pings
            });
            there.filter_map(|member| member.node).collect()
        };
        if there.contains(name.as_str()) {
            return Err(NotForgotten::There);
        }
        journal.forget_member(name);
        shared.members.reconcile(now);
        tracing::warn!(member = %name, "is forgotten by an operator: nobody waits for it any more");
        Ok(())
    }
}
