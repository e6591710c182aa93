//! What the handle, the writer and the readers share, and in which order locks are taken:
//! numbering, then cuts, then tail or catalog, then wounds. What is replaced comes last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evermesh_event::world::Clock;
use evermesh_event::{Offset, Origin, Planted, Sequence, Start};
use tokio::sync::{Notify, Semaphore, watch};

use crate::applied::Applied;
use crate::cursors::Cursors;
use crate::cuts::Cuts;
use crate::intake::numbering::Numbering;
use crate::leases::Leases;
use crate::letters::Letters;
use crate::limits::Limits;
use crate::members::Members;
use crate::names::Names;
use crate::needs::Needs;
use crate::record::Content;
use crate::roster::Roster;
use crate::segment::Catalog;
use crate::starts::Starts;
use crate::state::FormerStart;
use crate::storage::Storage;
use crate::tail::Tail;
use crate::wounds::Wounds;

/// Through where everything is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Of this journal.
    pub offset: Offset,
    /// Of the events numbered here.
    pub own: Sequence,
    /// A write or fsync failed: both stay where they are until restart.
    pub failed: bool,
}

/// Whether the journal takes and shows. Changes only under the lock of numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// Nothing more is taken; the writer ends once all is durable.
    Closing,
    Closed,
    Failed,
}

/// What is damaged.
#[derive(Debug)]
pub(crate) struct Damaged {
    wounds: Mutex<Wounds>,
    /// Their version. Readers that wait before a wound and who asks other members hold the other
    /// end.
    pub(crate) version: watch::Sender<u64>,
    /// Held while a damaged segment is looked through.
    pub(crate) survey: Mutex<()>,
}

impl Damaged {
    pub(crate) fn new(wounds: Wounds) -> Self {
        let (version, _) = watch::channel(wounds.version());
        Self { wounds: Mutex::new(wounds), version, survey: Mutex::default() }
    }
}

/// One journal.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) start: Start,
    /// What a test planted.
    pub(crate) planted: Planted,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) storage: Arc<dyn Storage>,
    /// Own starts that ended, rising: what resume tokens of former starts mean.
    pub(crate) former: Vec<FormerStart>,
    pub(crate) numbering: Mutex<Numbering>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) catalog: RwLock<Catalog>,
    /// What is no more. Changed by the writer, before the catalog.
    pub(crate) cuts: RwLock<Cuts>,
    pub(crate) needs: Mutex<Needs>,
    pub(crate) damaged: Damaged,
    /// The wall clock's time when this start began, and the other clock's.
    pub(crate) began: (SystemTime, Duration),
    pub(crate) starts: Mutex<Starts>,
    /// Readers hold the other end.
    pub(crate) head: watch::Sender<Offset>,
    /// Publishers that wait for assurance, links and feeds hold the other end.
    pub(crate) durable: watch::Sender<Durable>,
    pub(crate) stage: watch::Sender<Stage>,
    /// What may still be unwritten, in units; appends hold permits until the writer's commit gives
    /// them back.
    pub(crate) room: Semaphore,
    pub(crate) bell: Bell,
    pub(crate) cursors: Cursors,
    pub(crate) applied: Applied,
    pub(crate) leases: Leases,
    /// When something came last, of each origin, that leaves out what newer events replace. Bounded
    /// by the origins that are known.
    pub(crate) replaced: Mutex<BTreeMap<Origin, Duration>>,
    pub(crate) names: Mutex<Names>,
    pub(crate) letters: Mutex<Letters>,
    pub(crate) members: Mutex<Members>,
    pub(crate) roster: Roster,
    pub(crate) syncs: AtomicU64,
    /// Why this journal must go on under another id.
    pub(crate) renewal: OnceLock<String>,
}

impl Shared {
    pub(crate) fn numbering(&self) -> MutexGuard<'_, Numbering> {
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cuts(&self) -> RwLockReadGuard<'_, Cuts> {
        self.cuts.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cuts_mut(&self) -> RwLockWriteGuard<'_, Cuts> {
        self.cuts.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wounds(&self) -> MutexGuard<'_, Wounds> {
        self.damaged.wounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something else is damaged than before, or less: wakes who waits for that.
    pub(crate) fn wounds_changed(&self, wounds: MutexGuard<'_, Wounds>) {
        let version = wounds.version();
        drop(wounds);
        self.damaged.version.send_modify(|shown| *shown = version.max(*shown));
    }

    pub(crate) fn needs(&self) -> MutexGuard<'_, Needs> {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal's own time, by which records age: the wall clock's when this start began, and
    /// from then on the other clock's, so that a wall clock that jumps ages nothing.
    pub(crate) fn now(&self) -> Duration {
        let (wall, boot) = self.began;
        let began = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        began + self.clock.boot().saturating_sub(boot)
    }

    pub(crate) fn replaced(&self) -> MutexGuard<'_, BTreeMap<Origin, Duration>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came from another node.
    pub(crate) fn came(&self, content: &Content) {
        if let Some((origin, _)) = content.replaced() {
            self.replaced().insert(origin.clone(), self.clock.boot());
        }
    }

    pub(crate) fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Moves on to a stage and wakes everyone who waits for anything. Under the lock of numbering.
    pub(crate) fn enter(&self, _locked: &MutexGuard<'_, Numbering>, stage: Stage) {
        self.stage.send_replace(stage);
        if stage == Stage::Failed {
            self.durable.send_modify(|durable| durable.failed = true);
        }
        if matches!(stage, Stage::Closed | Stage::Failed) {
            self.head.send_modify(|_| {});
            self.damaged.version.send_modify(|_| {});
        }
        self.room.close();
    }

    /// Where there is no disk, none returned.
    pub(crate) fn count_sync(&self) {
        if self.storage.outlives() {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Wakes the writer, be it a thread or a task.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    thread: Condvar,
    task: Notify,
}

impl Bell {
    /// There is work.
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *rung, true) {
            drop(rung);
            self.thread.notify_one();
            self.task.notify_one();
        }
    }

    /// Blocks this thread until there is work.
    pub(crate) fn wait_blocking(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            rung = self.thread.wait(rung).unwrap_or_else(PoisonError::into_inner);
        }
        *rung = false;
    }

    /// Waits until there is work.
    pub(crate) async fn wait(&self) {
        loop {
            let was_rung = {
                let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *rung)
            };
            if was_rung {
                return;
            }
            self.task.notified().await;
        }
    }
}
