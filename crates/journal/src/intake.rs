//! Step 2 and step 4: what comes in is numbered, encoded and shown, in the caller's task.
//!
//! Each call first waits until its bytes fit what may be unwritten, then holds the lock of
//! numbering for as long as it takes to encode. Nothing is durable on return. Deliberately absent:
//! who may publish, and what an event must be.

pub(crate) mod numbering;

use std::sync::{Arc, MutexGuard};

use evermesh_event::{Block, JournalId, NodeName, Offset, Origin, Sequence, ValidEvent};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::AppendError;
use crate::journal::Journal;
use crate::record::Missed;
use crate::shared::{Shared, Stage};

/// What one permit of `Shared::room` stands for: fine enough for small events, and 16 MiB stay
/// countable.
pub(crate) const ROOM_UNIT_BYTES: usize = 1024;
/// What an entry takes beside its event: tags, lengths, sequence.
const ENTRY_BYTES: usize = 32;
/// What a record takes beside its entries: preamble, publisher, the block's header with its kinds.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 16 * 1024;

/// An event to append.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The event.
    pub event: ValidEvent,
    /// Its trace is sampled.
    pub sampled: bool,
}

/// Counters of events that a producer hands in.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Names the producer, within the identity.
    pub producer: Arc<str>,
    /// One for each event, rising.
    pub counters: Vec<u64>,
}

/// What became of a call of [`Journal::append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Each event, in order.
    pub taken: Vec<Numbered>,
    /// The newest offset after it.
    pub through: Offset,
    /// All of them are on the disk once [`Journal::durable`] says `own` at or beyond this.
    pub own_through: Sequence,
}

/// One event's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its sequence; of a duplicate, that of the first.
    pub sequence: Sequence,
    /// This identity published this id at this site before, within the window.
    pub duplicate: bool,
}

/// What became of a block that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the journal.
    Appended {
        /// Of its first new entry.
        offset: Offset,
        /// How many entries at its front were here before.
        skip: u32,
    },
    /// Everything in it was here before.
    Duplicate,
    /// Something before it is lacking.
    Hole {
        /// This node is here…
        at: Sequence,
        /// …and would have to be here.
        needed: Sequence,
    },
}

/// A former journal of a name, as a link under another one finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Which.
    pub origin: Origin,
    /// Everything of it through this is here.
    pub at: Sequence,
    /// Its last word is known: what is lacking of it may be had from others, and then nothing is
    /// missed.
    pub ended: bool,
}

impl Journal {
    /// Numbers events, encodes them into blocks and shows those to readers. Waits while too much is
    /// unwritten. Not durable on return: see [`Appended::own_through`]. If the call is dropped
    /// while it waits, nothing was numbered.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers; then none of the events was taken.
    pub async fn append(
        &self,
        identity: &Arc<str>,
        events: impl AsRef<[Intake]>,
    ) -> Result<Appended, AppendError> {
        self.append_counted(identity, events, None).await
    }

    /// The same for events that a producer counts. What is at or below its highest counter is a
    /// duplicate, and named by the producer's newest sequence.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn append_counted(
        &self,
        identity: &Arc<str>,
        events: impl AsRef<[Intake]>,
        counted: Option<&Counted>,
    ) -> Result<Appended, AppendError> {
        let events = events.as_ref();
        let shared = self.shared();
        let bytes: usize = events.iter().map(|intake| intake.event.length() + ENTRY_BYTES).sum();
        number(shared, bytes, |numbering| {
            let now = shared.clock.boot();
            numbering.append(shared, identity, events, counted, bytes, now)
        })
        .await
    }

    /// This node ends: from here on it numbers nothing more of its own, and whoever hands something
    /// in hears that. Else the last word that others hear would not be the last, and what came
    /// after it would be lost without a sign where the journal does not come back. What others
    /// numbered is still taken.
    pub fn seal(&self) {
        self.shared().numbering().sealed = true;
    }

    /// Applies the receiver's rule to a block that came from another node, and appends what is new
    /// in it. A block of this node's own origin is a duplicate: what this journal does not hold of
    /// it was never assured.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn take(&self, block: Block) -> Result<Taken, AppendError> {
        let shared = self.shared();
        let bytes = block.encoded().len();
        number(shared, bytes, |numbering| numbering.take(shared, block)).await
    }

    /// A member is met under this journal id. If its name was known under another one, what nobody
    /// had of that is missed from here on.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn meet(&self, origin: &Origin) -> Result<(), AppendError> {
        let shared = self.shared();
        tell(shared, |numbering| Ok(numbering.meet(shared, origin))).await.map(drop)
    }

    /// Somebody else holds events of this origin, whose name another node is `there` with under
    /// other journals: so this is a former one, and of it only what does not come is missed
    /// ([`Journal::former_gone`]). Nothing changes if it is known, or nobody is there.
    pub fn meet_former(&self, origin: &Origin, there: &[JournalId]) {
        if !there.is_empty() && !there.contains(&origin.journal) {
            self.shared().numbering().meet_former(self.shared(), origin);
        }
    }

    /// What a link under this journal would make former ones of its name, and of which something
    /// may be missed that was not told. Nodes are `there` under the others.
    #[must_use]
    pub fn formers(&self, origin: &Origin, there: &[JournalId]) -> Vec<Former> {
        let shared = self.shared();
        let numbering = shared.numbering();
        let mut formers = numbering.formers(shared, origin, there);
        // What is told of this node's own name needs no link.
        let own = &self.origin().node;
        formers.retain(|of| of.node != *own && !there.contains(&of.journal));
        let former = |of: Origin| Former {
            at: numbering.frontier.get(&of),
            ended: shared.roster.has_ended(&of),
            origin: of,
        };
        formers.into_iter().map(former).collect()
    }

    /// The journals of other nodes that are former ones if nobody is there under them, and of which
    /// something may be missed that was not told.
    #[must_use]
    pub fn open_formers(&self) -> Vec<Origin> {
        self.shared().numbering().open_formers(self.shared())
    }

    /// These former journals of a name come from the member itself, which is about to be linked
    /// under another: they are not missed by that, but once they do not come
    /// ([`Journal::former_gone`]).
    pub fn await_formers(&self, node: &NodeName, formers: Vec<Origin>) {
        let mut numbering = self.shared().numbering();
        numbering.awaited.retain(|of| of.node != *node);
        numbering.awaited.extend(formers);
    }

    /// Of a name that was linked here first under another journal, this one was never there since:
    /// nothing of it is missed.
    pub fn former_older(&self, origin: &Origin) {
        self.shared().roster.close(origin);
        self.shared().bell.ring();
    }

    /// Nobody is there under this former journal, and nobody sends what is lacking of it: that is
    /// missed from here on.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn former_gone(&self, origin: &Origin) -> Result<(), AppendError> {
        let shared = self.shared();
        tell(shared, |numbering| {
            numbering.end_former(shared, origin);
            Ok(())
        })
        .await
    }

    /// Whether an origin was met.
    #[must_use]
    pub fn knows(&self, origin: &Origin) -> bool {
        self.shared().numbering().knows(self.shared(), origin)
    }

    /// Whether something of a member that left may be missed that nobody here was told of.
    #[must_use]
    pub fn may_lack_of(&self, node: &NodeName) -> bool {
        !self.shared().numbering().untold_of_departed(self.shared(), node).is_empty()
    }

    /// What nobody has of a member that left is missed from here on; and with that it is settled.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn depart(&self, node: &NodeName) -> Result<(), AppendError> {
        let shared = self.shared();
        let told = tell(shared, |numbering| {
            numbering.depart(shared, node);
            Ok(numbering.head())
        });
        self.settled(node, told.await?);
        Ok(())
    }

    /// A member is linked under this journal. If it was under another one last, what nobody had of
    /// that is missed from here on; but not while a node is `there` under it at the same time.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn linked(&self, origin: &Origin, there: &[JournalId]) -> Result<(), AppendError> {
        let present = self.present_of(&origin.node);
        if present.first() == Some(&origin.journal) && are_there(&present, there) {
            return Ok(());
        }
        self.present(&origin.node, Some(origin.journal), there).await
    }

    /// A member was linked while others that bear its name were there. What nobody had of those
    /// that are there no more is missed from here on.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn beside(&self, node: &NodeName, there: &[JournalId]) -> Result<(), AppendError> {
        let present = self.present_of(node);
        if are_there(&present, there) && there.iter().all(|of| present.contains(of)) {
            return Ok(());
        }
        self.present(node, None, there).await
    }

    /// `linked`: under which journal; `None`: under that under which it was last.
    async fn present(
        &self,
        node: &NodeName,
        linked: Option<JournalId>,
        there: &[JournalId],
    ) -> Result<(), AppendError> {
        let shared = self.shared();
        tell(shared, |numbering| {
            let journal = linked.or_else(|| self.present_of(node).first().copied());
            if let Some(journal) = journal {
                let origin = Origin { node: node.clone(), journal };
                numbering.present(shared, &origin, there, linked.is_some());
            }
            Ok(())
        })
        .await?;
        shared.bell.ring();
        Ok(())
    }

    /// Stores that a scope may be lost, and steps over it where it names a range of another origin.
    /// `None`: this journal is past that range already, so nothing is lost.
    ///
    /// # Errors
    /// If the journal is full, failed, closed or out of numbers.
    pub async fn miss(&self, missed: Missed) -> Result<Option<Offset>, AppendError> {
        let shared = self.shared();
        tell(shared, |numbering| numbering.miss(shared, missed)).await
    }
}

/// Nodes are there under all journals but the first, under which the member was linked last.
fn are_there(present: &[JournalId], there: &[JournalId]) -> bool {
    present.iter().skip(1).all(|other| there.contains(other))
}

/// Numbers what takes so many bytes: waits for its room, asks whether the journal runs, and settles
/// whatever was queued.
async fn number<T>(
    shared: &Shared,
    bytes: usize,
    act: impl FnOnce(&mut numbering::Numbering) -> Result<T, AppendError>,
) -> Result<T, AppendError> {
    let permit = enter(shared, bytes).await?;
    let mut numbering = shared.numbering();
    running(shared)?;
    let result = act(&mut numbering);
    settle(shared, numbering, permit, &result);
    result
}

/// The same for what is at most a missed.
async fn tell<T>(
    shared: &Shared,
    act: impl FnOnce(&mut numbering::Numbering) -> Result<T, AppendError>,
) -> Result<T, AppendError> {
    number(shared, ROOM_UNIT_BYTES, act).await
}

/// Waits until so many bytes may be unwritten. First come, first served.
async fn enter(shared: &Shared, bytes: usize) -> Result<SemaphorePermit<'_>, AppendError> {
    let units = bytes.div_ceil(ROOM_UNIT_BYTES).min(room_units(shared.limits.unwritten_bytes_max));
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    match shared.room.acquire_many(units).await {
        Ok(permit) => Ok(permit),
        Err(_) => Err(running(shared).err().unwrap_or(AppendError::Closed)),
    }
}

/// How many units may be unwritten.
pub(crate) fn room_units(unwritten_bytes_max: usize) -> usize {
    (unwritten_bytes_max / ROOM_UNIT_BYTES).min(Semaphore::MAX_PERMITS)
}

fn running(shared: &Shared) -> Result<(), AppendError> {
    match shared.stage() {
        Stage::Running => Ok(()),
        Stage::Closing | Stage::Closed => Err(AppendError::Closed),
        Stage::Failed => Err(AppendError::Failed),
    }
}

/// Hands the permits to what was queued, shows the new head, and wakes the writer.
fn settle<T>(
    shared: &Shared,
    mut numbering: MutexGuard<'_, numbering::Numbering>,
    permit: SemaphorePermit<'_>,
    result: &Result<T, AppendError>,
) {
    let units = permit.num_permits();
    let queued = numbering.charge(units);
    if queued {
        permit.forget();
        shared.head.send_replace(numbering.head());
    }
    drop(numbering);
    // A full disk is looked at again by the writer, so that somebody notices when there is space.
    if queued || matches!(result, Err(AppendError::Full { .. })) {
        shared.bell.ring();
    }
}
