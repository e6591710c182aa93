//! The handle that every station holds: where things are, who waits for what, and how it ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evermesh_event::limits::DEDUPE_SECONDS_MAX;
use evermesh_event::{
    Epoch, Frontier, NodeName, Offset, Origin, Planted, ResumeToken, Run, Sequence, Start, StartId,
};
use tokio::sync::watch;

use crate::applied::Applied;
use crate::cursors::Cursors;
use crate::error::{Error, Failure};
use crate::leases::Leases;
use crate::members::KnownMember;
use crate::producers::{self, Highest};
use crate::reader::Reader;
use crate::roster::Leaving;
use crate::shared::{Durable, Shared, Stage};
use crate::starts::{SeenStart, SeenStarts};
use crate::status::Status;

/// The journal of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Shared>);

/// What a node holds of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Whoever is at this sequence or beyond can be served.
    pub base: Sequence,
    /// Everything at or below is held, or was missed.
    pub through: Sequence,
}

/// Where a resume token leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Go on after this offset.
    After(Offset),
    /// The token names a journal or a start that this journal does not know, or a place that it
    /// never gave out.
    Unknown,
}

impl Journal {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Who numbers here.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// This start.
    #[must_use]
    pub fn start(&self) -> Start {
        self.0.start
    }

    /// It keeps no disk: what is called durable here is in memory, and ends with this start. Its id
    /// is never heard of again.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        !self.0.storage.outlives()
    }

    /// What a test planted in this node; every station asks here.
    #[must_use]
    pub fn planted(&self) -> Planted {
        self.0.planted
    }

    /// What the offsets of this start's resume tokens belong to.
    #[must_use]
    pub fn run(&self) -> Run {
        Run { journal: self.0.origin.journal, start: self.0.start.id }
    }

    /// Through where nothing is lacking here.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.0.numbering().frontier.clone()
    }

    /// Through where nothing is lacking on the disk.
    #[must_use]
    pub fn durable_frontier(&self) -> Frontier {
        self.0.numbering().durable_frontier.clone()
    }

    /// The same for one origin.
    #[must_use]
    pub fn durable_through(&self, origin: &Origin) -> Sequence {
        self.0.numbering().durable_frontier.get(origin)
    }

    /// What this node could serve of each origin.
    #[must_use]
    pub fn holdings(&self) -> BTreeMap<Origin, Holding> {
        let numbering = self.0.numbering();
        let of = |(origin, through): (&Origin, Sequence)| {
            let base = numbering.bases.get(origin);
            (origin.clone(), Holding { base, through })
        };
        numbering.frontier.iter().map(of).collect()
    }

    /// The newest offset that readers can see.
    #[must_use]
    pub fn head(&self) -> Offset {
        *self.0.head.borrow()
    }

    /// The newest offset that readers can see, and through where nothing is lacking at it.
    #[must_use]
    pub fn here(&self) -> (Offset, Frontier) {
        let numbering = self.0.numbering();
        (numbering.head, numbering.frontier.clone())
    }

    /// The newest own sequence.
    #[must_use]
    pub fn own_head(&self) -> Sequence {
        self.0.numbering().own_head
    }

    /// The newest offset that readers can see, as it moves.
    #[must_use]
    pub fn arrivals(&self) -> watch::Receiver<Offset> {
        self.0.head.subscribe()
    }

    /// What is on the disk, as it moves.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.0.durable.subscribe()
    }

    /// Everything after an offset, and on as it comes.
    #[must_use]
    pub fn reader(&self, after: Offset) -> Reader {
        Reader::new(Arc::clone(&self.0), after)
    }

    /// Where a reader must begin so that it meets every block of an origin above a sequence. It may
    /// meet others too.
    #[must_use]
    pub fn place_of(&self, origin: &Origin, sequence: Sequence) -> Offset {
        let cut = self.0.cuts().place_of(origin, sequence);
        if let Some(place) = cut {
            return place;
        }
        let in_tail = self.0.tail().place_of(origin, sequence);
        if let Some(place) = in_tail {
            return place;
        }
        let catalog = self.0.catalog.read().unwrap_or_else(PoisonError::into_inner);
        catalog.place_of(origin, sequence).unwrap_or(Offset::ZERO)
    }

    /// Everything after this offset is held.
    #[must_use]
    pub fn oldest(&self) -> Offset {
        self.0.cuts().end
    }

    /// A member said through where it lacks nothing: what it is past need not be kept for it.
    pub fn note_holds(&self, member: &str, here: &Frontier) {
        self.0.needs().note(member, here);
    }

    /// Where a resume token leads. One of a former start past its durable end leads to that end:
    /// what came after it there was never on the disk.
    #[must_use]
    pub fn resume(&self, token: &ResumeToken) -> Resume {
        if token.run.journal != self.0.origin.journal {
            return Resume::Unknown;
        }
        if token.run.start == self.0.start.id {
            let given = token.offset <= self.head();
            let resumes =
                || Resume::After(self.0.wounds().resumes(token.offset, self.0.start.epoch));
            return if given { resumes() } else { Resume::Unknown };
        }
        match self.0.former.iter().find(|former| former.start.id == token.run.start) {
            Some(former)
                if self.planted().is(Planted::ResumePastEnd) && token.offset > former.end =>
            {
                Resume::After(self.head())
            }
            Some(former) => {
                let offset = token.offset.min(former.end);
                Resume::After(self.0.wounds().resumes(offset, former.start.epoch))
            }
            None => Resume::Unknown,
        }
    }

    /// What members hold of this node's events.
    #[must_use]
    pub fn cursors(&self) -> &Cursors {
        &self.0.cursors
    }

    /// What the applications of this node acknowledged.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.0.applied
    }

    /// When each member was last heard.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.0.leases
    }

    /// When something of each origin came last, in this start, that leaves out what newer events
    /// replace: those may not be here yet.
    #[must_use]
    pub fn replaced(&self) -> BTreeMap<Origin, Duration> {
        self.0.replaced().clone()
    }

    /// How far a producer of an identity is.
    #[must_use]
    pub fn highest(&self, identity: &str, producer: &str) -> Highest {
        self.0.numbering().producers.get(&producers::key(identity, producer))
    }

    /// The member that was last found at an address, in this start or before.
    #[must_use]
    pub fn member_at(&self, address: &str) -> Option<KnownMember> {
        self.0.members().at(address)
    }

    /// A member was found at an address. Stored before the next commit.
    pub fn note_member(&self, address: &str, name: &NodeName) {
        self.0.members().note(address, name);
    }

    /// For each origin the newest 16 starts that this node saw, its own included.
    #[must_use]
    pub fn seen_starts(&self) -> SeenStarts {
        let mut seen = self.0.starts().snapshot();
        let durable = self.0.durable.borrow().own;
        for own in seen.entry(self.0.origin.clone()).or_default() {
            if own.epoch == self.0.start.epoch && durable.epoch() == own.epoch {
                own.durable_head = durable;
            }
        }
        seen
    }

    /// A start of an origin was heard. Stored before the next commit.
    pub fn note_start(&self, origin: &Origin, epoch: Epoch, start: StartId) {
        self.0.starts().note_start(origin, epoch, start);
    }

    /// An origin said that this is on its disk. Stored before the next commit.
    pub fn note_head(&self, origin: &Origin, head: Sequence) {
        self.0.starts().note_head(origin, head);
    }

    /// Why another node's knowledge of this node's starts shows that this journal is a restored
    /// copy, or that it runs twice; `None`: it fits. A start that ended with a tail which was never
    /// durable is nothing unusual.
    #[must_use]
    pub fn disowned(&self, heard: &[SeenStart]) -> Option<String> {
        if self.planted().is(Planted::TrustCopy) {
            return None;
        }
        let own = self.0.durable.borrow().own;
        let this = self.0.start;
        heard.iter().find_map(|heard| {
            let SeenStart { epoch, start, durable_head } = *heard;
            let former = self.0.former.iter().find(|former| former.start.epoch == epoch);
            let (known, end) = match former {
                _ if epoch == this.epoch => (this.id, own),
                Some(former) => (former.start.id, former.own_end),
                None if epoch > this.epoch => {
                    return Some(format!("start {} is not in this journal", epoch.get()));
                }
                // So old that it is not kept any more.
                None => return None,
            };
            if known != start {
                return Some(format!("start {} was another one than here", epoch.get()));
            }
            let beyond = durable_head.epoch() == epoch && durable_head > end;
            beyond.then(|| {
                format!("{durable_head} was stored, but here start {} ends at {end}", epoch.get())
            })
        })
    }

    /// Ends this start at once, for good: nothing more is assured, and the next start takes a new
    /// journal id.
    pub fn renew(&self, why: String) {
        tracing::error!(
            why,
            "this journal was restored from an older copy, or runs twice: it ends, and goes on \
            under a new journal id; what it had under the former one may be missed by all"
        );
        if self.0.renewal.set(why).is_ok() {
            let numbering = self.0.numbering();
            if matches!(self.0.stage(), Stage::Running | Stage::Closing) {
                self.0.enter(&numbering, Stage::Failed);
            }
            drop(numbering);
            self.0.bell.ring();
        }
    }

    /// It ended because the next start must take a new journal id.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        self.0.renewal.get().is_some()
    }

    /// Stores that this node leaves the mesh for good: under this journal id nothing is numbered
    /// after this start. Returns once that is on the disk, and everybody may be told.
    ///
    /// # Errors
    /// If the journal had failed or fails now.
    pub async fn leave(&self) -> Result<(), Error> {
        let ended = || {
            Error::Failed(Failure {
                place: self.0.storage.place(),
                what: "store that this node leaves",
                reason: "the journal had ended".into(),
            })
        };
        let (mut leaving, mut stage) =
            (self.0.roster.leaving.subscribe(), self.0.stage.subscribe());
        self.0.roster.leave();
        self.0.bell.ring();
        tokio::select! {
            stored = leaving.wait_for(|leaving| *leaving == Leaving::Stored) => {
                stored.map(drop).map_err(|_| ended())
            }
            _ = stage.wait_for(|stage| matches!(stage, Stage::Closed | Stage::Failed)) => {
                Err(ended())
            }
        }
    }

    /// This node leaves the mesh for good, and that is stored.
    #[must_use]
    pub fn is_left(&self) -> bool {
        *self.0.roster.leaving.borrow() == Leaving::Stored
    }

    /// How the journal is.
    #[must_use]
    pub fn status(&self) -> Status {
        let durable = *self.0.durable.borrow();
        let mut numbering = self.0.numbering();
        let now = self.0.clock.boot() + numbering.window_lead;
        numbering.window.expire(now);
        Status {
            origin: self.0.origin.clone(),
            epoch: self.0.start.epoch,
            head: numbering.head,
            durable: durable.offset,
            own_head: numbering.own_head,
            own_durable: durable.own,
            failed: durable.failed,
            disk_bytes: numbering.space.used_bytes(),
            max_bytes: self.0.limits.max_bytes,
            syncs: self.0.syncs.load(Ordering::Relaxed),
            events_published: numbering.published,
            events_received: numbering.received,
            window_ids: u64::try_from(numbering.window.len()).unwrap_or(u64::MAX),
            window_age_max: Duration::from_secs(DEDUPE_SECONDS_MAX),
            frontier: numbering.frontier.clone(),
        }
    }

    /// Takes nothing more, makes everything durable, and ends the writer's loop; the directory is
    /// free afterwards. Needs a writer that runs.
    ///
    /// # Errors
    /// If the journal had failed or fails now.
    pub async fn close(&self) -> Result<(), Error> {
        {
            let numbering = self.0.numbering();
            if self.0.stage() == Stage::Running {
                self.0.enter(&numbering, Stage::Closing);
            }
        }
        self.0.bell.ring();
        let mut stage = self.0.stage.subscribe();
        let ended = stage.wait_for(|stage| matches!(stage, Stage::Closed | Stage::Failed)).await;
        match ended.as_deref() {
            Ok(Stage::Failed) | Err(_) => Err(Error::Failed(Failure {
                place: self.0.storage.place(),
                what: "close the journal",
                reason: "a write or fsync had failed".into(),
            })),
            Ok(_) => Ok(()),
        }
    }
}
