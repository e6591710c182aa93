//! How sure events are: on this node's disk, on the other members', acknowledged by their
//! applications (P4). Publishing waits here, and so does a fence.
//!
//! A look is made anew with each change of a cursor; nothing is kept between two looks. What is
//! known of the others was carried here by their links.

use std::collections::BTreeMap;

use evermesh_event::assurance::{self, Judgement, Presence, Replica};
use evermesh_event::{Planted, Sequence};
use evermesh_journal::Durable;
use evermesh_proto::v1::{Assurance, MemberStanding, MemberState};
use evermesh_telemetry::Refusal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::errors::outcome_unknown;
use crate::service::Local;

/// What is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) until: Assurance,
    /// The newest of the events.
    pub(crate) through: Sequence,
    /// For `APPLIED`: the newest of each site.
    pub(crate) sites: BTreeMap<String, Sequence>,
    /// For `REPLICATED`: how many members suffice; 0: all that count.
    pub(crate) replicas: u32,
}

/// What is assured at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) assured: Assurance,
    /// For `REPLICATED` and `APPLIED`: each member.
    pub(crate) members: Vec<(String, MemberStanding)>,
}

impl Goal {
    /// What is assured now, as far as it was asked for.
    ///
    /// # Errors
    /// If the disk failed before the events were on it.
    pub(crate) fn look(&self, local: &Local) -> Result<Look, Refusal> {
        let journal = &local.parts.journal;
        let Durable { own, failed, .. } = *journal.durable().borrow();
        let durable = own >= self.through;
        if failed && !durable && self.until > Assurance::Accepted {
            return Err(outcome_unknown());
        }
        let mut look = Look { assured: Assurance::Accepted, members: Vec::new() };
        // In memory nothing between ACCEPTED and APPLIED is ever said (P4).
        let stores = !journal.is_memory();
        if self.until >= Assurance::Stored && durable && stores {
            look.assured = Assurance::Stored;
        }
        if self.until <= Assurance::Stored {
            return Ok(look);
        }
        let members = journal.cursors().snapshot();
        let replicated = assurance::replicated(self.through, &members, self.replicas);
        let replicated_done = durable && replicated.done;
        if replicated_done && stores {
            look.assured = Assurance::Replicated;
        }
        if self.until == Assurance::Replicated {
            look.members = replicated.members;
            return Ok(look);
        }
        let applied = self.applied(local, members, own);
        if replicated_done && applied.done {
            look.assured = Assurance::Applied;
        }
        look.members = applied.members;
        Ok(look)
    }

    /// This node's own subscriptions are counted as those of every other member.
    fn applied(&self, local: &Local, mut members: Vec<Replica>, stored: Sequence) -> Judgement {
        let journal = &local.parts.journal;
        members.push(Replica {
            label: local.parts.node.to_string(),
            in_memory: journal.is_memory(),
            stored: if journal.planted().is(Planted::FenceNeverDone) {
                Sequence::ZERO
            } else {
                stored
            },
            lagging: journal.applied().lagging(journal.origin(), self.through),
            presence: Presence::Expected,
        });
        let needed: Vec<_> = self.sites.iter().map(|(site, at)| (site.as_str(), *at)).collect();
        let mut judgement = assurance::applied(&needed, &members);
        // Whoever heard this node's goodbye may trust its cache without asking it.
        judgement.done &= !local.drain.is_cancelled();
        judgement
    }

    /// Waits until the goal is reached, or until the deadline: what is assured then, with how long
    /// it took for each member.
    ///
    /// # Errors
    /// If the disk failed before the events were on it.
    pub(crate) async fn reach(
        &self,
        local: &Local,
        deadline: Instant,
    ) -> Result<(Assurance, Vec<MemberState>), Refusal> {
        let begin = Instant::now();
        let mut changes = Changes::new(local);
        let mut took = Took::default();
        loop {
            changes.seen();
            let look = self.look(local)?;
            took.note(&look.members, begin);
            if look.assured >= self.until {
                return Ok((look.assured, took.states(look.members)));
            }
            let changed = async {
                tokio::select! {
                    () = changes.next(local, self.until) => false,
                    // It is about to end, and will never be done here.
                    () = local.drain.cancelled(), if self.until == Assurance::Applied => true,
                }
            };
            if tokio::time::timeout_at(deadline, changed).await.unwrap_or(true) {
                return Ok((look.assured, took.states(look.members)));
            }
        }
    }
}

/// When each member was counted first.
#[derive(Debug, Default)]
pub(crate) struct Took(BTreeMap<String, std::time::Duration>);

impl Took {
    pub(crate) fn note(&mut self, members: &[(String, MemberStanding)], begin: Instant) {
        for (node, standing) in members {
            if *standing != MemberStanding::Pending && !self.0.contains_key(node) {
                self.0.insert(node.clone(), begin.elapsed());
            }
        }
    }

    pub(crate) fn states(&self, members: Vec<(String, MemberStanding)>) -> Vec<MemberState> {
        let state = |(node, standing): (String, MemberStanding)| {
            let counted = standing != MemberStanding::Pending;
            let took = self.0.get(&node).filter(|_| counted);
            let took = took.and_then(|took| (*took).try_into().ok());
            MemberState { node, standing: standing.into(), took }
        };
        members.into_iter().map(state).collect()
    }
}

/// Everything that a look depends on, as it moves.
#[derive(Debug)]
pub(crate) struct Changes {
    durable: watch::Receiver<Durable>,
    cursors: watch::Receiver<u64>,
    applied: watch::Receiver<u64>,
}

impl Changes {
    pub(crate) fn new(local: &Local) -> Self {
        let journal = &local.parts.journal;
        Self {
            durable: journal.durable(),
            cursors: journal.cursors().watch(),
            applied: journal.applied().watch(),
        }
    }

    /// What changes from here on matters.
    pub(crate) fn seen(&mut self) {
        self.durable.mark_unchanged();
        self.cursors.mark_unchanged();
        self.applied.mark_unchanged();
    }

    /// Something changed that may matter for this assurance.
    pub(crate) async fn next(&mut self, local: &Local, until: Assurance) {
        let applied = local.parts.journal.applied();
        tokio::select! {
            changed = self.durable.changed() => drop(changed),
            changed = self.cursors.changed(), if until >= Assurance::Replicated => drop(changed),
            () = applied.wait(&mut self.applied), if until >= Assurance::Applied => {}
        }
    }
}
