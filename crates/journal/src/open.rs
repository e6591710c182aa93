//! The beginning of a start: lock, recover, draw epoch and start id, store them, and only then show
//! anything.

use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use evermesh_event::limits::{DEDUPE_IDS_MAX, DEDUPE_SECONDS_MAX};
use evermesh_event::world::{Clock, Random, draw};
use evermesh_event::{
    DedupeWindow, Epoch, Frontier, JournalId, NodeName, Offset, Origin, Planted, Sequence, Start,
    StartId,
};
use tokio::sync::{Semaphore, watch};

use crate::applied::Applied;
use crate::cursors::Cursors;
use crate::error::Error;
use crate::intake::numbering::Numbering;
use crate::intake::room_units;
use crate::journal::Journal;
use crate::leases::Leases;
use crate::letters::Letters;
use crate::limits::Limits;
use crate::members::Members;
use crate::names::Names;
use crate::producers::Producers;
use crate::record::Missed;
use crate::recover::{Expected, Recovered, Window, recover};
use crate::roster::{Roster, Row};
use crate::segment::{HEADER_BYTES, Header};
use crate::shared::{Bell, Damaged, Durable, Shared, Stage};
use crate::space::Space;
use crate::starts::{SeenStart, SeenStarts, Starts};
use crate::state::{FormerStart, Past, State};
use crate::storage::{LockError, Storage};
use crate::tail::Tail;
use crate::writer::Writer;

/// Own starts that are told to others: as many as they keep.
const OWN_STARTS_TOLD: usize = 16;

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node. Under another name than before the journal gets a new id, and its past is served
    /// as received.
    pub node: NodeName,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub random: Arc<dyn Random>,
    /// What it may take.
    pub limits: Limits,
}

impl Journal {
    /// Opens a journal, or makes one. Blocks: it reads and checks every record. On return the new
    /// epoch and start id are on the disk.
    ///
    /// # Errors
    /// If another process owns the directory, the disk refuses, or something in it is of a version
    /// that is not known. What is damaged is passed over and told.
    pub fn open(options: Options) -> Result<(Self, Writer), Error> {
        Self::open_planted(options, Planted::Nothing)
    }

    /// The same with a fault that a test plants.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_planted(options: Options, planted: Planted) -> Result<(Self, Writer), Error> {
        options.limits.check()?;
        let storage = &options.storage;
        let held = storage.lock().map_err(|error| match error {
            LockError::Taken(holder) => Error::Locked { place: storage.place(), holder },
            LockError::Storage(source) => refused(&**storage, "lock it", source),
        })?;
        let (state, past) = open_state(&options)?;
        let origin = bind(&options, &past)?;
        let random = &*options.random;
        let mut window = Window::new(
            DedupeWindow::new(DEDUPE_IDS_MAX, window_age(), draw(random)),
            &*options.clock,
            window_age(),
        );
        let expected = Expected::new(origin.clone(), &past);
        let producers = producers(&past, &origin);
        let mended = past.mended.clone();
        let mut recovered =
            recover(&options, &expected, &mut window, &past.cuts, producers, mended)?;
        if !past.set_aside {
            check_age(&**storage, &past, &recovered)?;
        }
        let last_word = last_word(&options, &past, &mut recovered);
        let former = end_of_former(&past, &recovered);
        let start = next_start(&past, recovered.head.epoch(), random)?;
        recovered.wounds.begins(start.epoch);
        let found = recovered.wounds.notices.take_changed();
        state
            .begin(&origin, changed(&former, &past), start, past.untold.as_ref(), &found)
            .map_err(|reason| Error::State { place: storage.place(), reason })?;
        storage.sync_directory().map_err(|source| refused(&**storage, "sync it", source))?;
        let free = storage.free_bytes();
        let free = free.map_err(|source| refused(&**storage, "ask for its free space", source))?;
        let newest = recovered.newest.take();
        tracing::info!(
            node = %origin.node, epoch = start.epoch.get(), head = %recovered.head,
            bytes = recovered.catalog.bytes(), "the journal is open"
        );
        let former_id = past.untold.clone();
        let untold = former_id.is_some();
        let lost_end = recovered.lost_end.then(|| own_end(&former, &origin));
        let again = std::mem::take(&mut recovered.untold);
        let shared =
            assemble(&options, planted, start, origin, past, former, recovered, window, free);
        shared.roster.joins_anew(last_word);
        tell(&shared, former_id, lost_end, again);
        let writer = Writer::new(Arc::clone(&shared), options.random, state, held, newest, untold);
        Ok((Self::new(shared), writer))
    }
}

/// Counters of records that were cut; those of the others are found with them. Under a new journal
/// id none are known: what counted them was numbered under the former one, and nothing that is
/// assured of the new one says anything of it.
fn producers(past: &Past, origin: &Origin) -> Producers {
    let mut producers = Producers::default();
    let same = past.bound.as_ref().is_some_and(|(_, journal)| *journal == origin.journal);
    for (key, highest) in past.producers.iter().filter(|_| same) {
        producers.note(key, highest.counter, highest.sequence);
    }
    producers
}

/// Through where own events are known to have been on the disk.
fn own_end(former: &[FormerStart], origin: &Origin) -> Sequence {
    let own = former.iter().filter(|former| former.journal == origin.journal);
    own.map(|former| former.own_end).max().unwrap_or(Sequence::ZERO)
}

/// What everybody here is told before anything that is numbered in this start.
fn tell(
    shared: &Arc<Shared>,
    former_id: Option<Origin>,
    lost_end: Option<Sequence>,
    again: Vec<Missed>,
) {
    let mut numbering = shared.numbering();
    if let Some(former) = former_id {
        numbering.tell_restored(shared, former);
    }
    if let Some(own_end) = lost_end {
        numbering.tell_lost_end(shared, own_end);
    } else {
        again.into_iter().for_each(|missed| numbering.tell_again(shared, missed));
    }
    if !numbering.queue.is_empty() {
        shared.head.send_replace(numbering.head);
        shared.bell.ring();
    }
}

pub(crate) const fn window_age() -> Duration {
    Duration::from_secs(DEDUPE_SECONDS_MAX)
}

fn refused(storage: &dyn Storage, what: &'static str, source: std::io::Error) -> Error {
    Error::Storage { what, place: storage.place(), source }
}

/// The state database; one that is not what was written is set aside, and everything that it knew
/// is as if it had never been: the journal gets a new id, and its past is served as received.
fn open_state(options: &Options) -> Result<(State, Past), Error> {
    let storage = &*options.storage;
    match State::open(storage) {
        Err(Error::StateDamaged { place, reason }) => {
            tracing::error!(
                place,
                reason,
                "the state database is not what was written: it is set aside; the journal gets a \
                new id, and durable names begin anew with missed"
            );
            let aside = storage.set_state_aside();
            aside.map_err(|source| refused(storage, "set the state database aside", source))?;
            let former = former_id(storage)?;
            let untold = former.map(|journal| Origin { node: options.node.clone(), journal });
            let state = State::open(storage)?;
            Ok((state, Past { untold, set_aside: true, ..Past::default() }))
        }
        Err(error) => Err(error),
        Ok(state) => {
            let past = state.load(storage)?;
            Ok((state, past))
        }
    }
}

/// The journal id that the newest segment names.
fn former_id(storage: &dyn Storage) -> Result<Option<JournalId>, Error> {
    let refuse = |source| refused(storage, "read the segments", source);
    for first in storage.segments().map_err(refuse)?.into_iter().rev() {
        let file = storage.open_segment(first).map_err(refuse)?;
        let length = file.length().map_err(refuse)?.min(HEADER_BYTES);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(refuse)?;
        if let Ok(header) = Header::decode(&bytes) {
            return Ok(Some(header.journal));
        }
    }
    Ok(None)
}

/// Who numbers: the same as before if the name is.
fn bind(options: &Options, past: &Past) -> Result<Origin, Error> {
    let storage = &options.storage;
    if let Some((node, journal)) = &past.bound {
        if past.renewal.is_some() {
            tracing::warn!(%node, "the journal gets a new id, and its past is served as received");
        } else if past.left {
            tracing::info!(%node, "this node had left the mesh: the journal gets a new id");
        } else if *node == options.node {
            return Ok(Origin { node: node.clone(), journal: *journal });
        } else {
            tracing::warn!(
                was = %node, is = %options.node,
                "the node has another name: the journal gets a new id and its past is served as \
                received"
            );
        }
    } else if !past.set_aside {
        let segments = storage.segments();
        let segments = segments.map_err(|source| refused(&**storage, "list segments", source))?;
        if !segments.is_empty() {
            let reason = format!("it is new or empty, but there are {} segments", segments.len());
            return Err(Error::State { place: storage.place(), reason });
        }
    }
    let journal = JournalId::new(draw(&*options.random));
    Ok(Origin { node: options.node.clone(), journal })
}

/// What a node that had left numbered last under its former journal id. Whoever did not hear its
/// goodbye, because the node ended in the middle of it, is told by the list. `None` if it had not
/// left, or its disk lost what could show it.
fn last_word(
    options: &Options,
    past: &Past,
    recovered: &mut Recovered,
) -> Option<(JournalId, Sequence)> {
    let (node, journal) = past.bound.as_ref()?;
    let whole = past.renewal.is_none() && !recovered.lost_end;
    if !past.left || !whole || *node != options.node {
        return None;
    }
    let former = Origin { node: node.clone(), journal: *journal };
    let head = recovered.frontier.get(&former);
    // Also if it numbered nothing: this node does not meet its own past as somebody else's.
    recovered.frontier.advance(&former, head);
    Some((*journal, head))
}

/// All own starts, the last with the end that was recovered.
fn end_of_former(past: &Past, recovered: &Recovered) -> Vec<FormerStart> {
    let mut former = past.starts.clone();
    if let Some(last) = former.last_mut().filter(|last| !last.ended) {
        last.ended = true;
        last.end = recovered.head;
        last.own_end = recovered.own_head;
    }
    if recovered.lost_end {
        // What was there behind it is told as missed, and the next start begins behind this.
        former.iter_mut().for_each(|former| former.end = former.end.min(recovered.head));
    }
    former
}

/// The former starts of which something else is known now than is stored.
fn changed<'a>(
    former: &'a [FormerStart],
    past: &'a Past,
) -> impl Iterator<Item = FormerStart> + 'a {
    former.iter().filter(|former| !past.starts.contains(former)).copied()
}

/// A state database from before the newest record would number again what was numbered.
fn check_age(storage: &dyn Storage, past: &Past, recovered: &Recovered) -> Result<(), Error> {
    let last = past.starts.last().map_or_else(Epoch::default, |last| last.start.epoch);
    let newest = recovered.head.epoch();
    if newest <= last {
        return Ok(());
    }
    let (last, newest) = (last.get(), newest.get());
    let reason = format!("it knows of epoch {last}, but there are records of epoch {newest}");
    Err(Error::State { place: storage.place(), reason })
}

fn next_start(past: &Past, newest: Epoch, random: &dyn Random) -> Result<Start, Error> {
    let last = past.starts.last().map_or_else(Epoch::default, |last| last.start.epoch);
    let last = last.max(newest);
    let epoch = last.next().ok_or(Error::EpochsExhausted)?;
    Ok(Start { epoch, id: StartId::new(draw(random)) })
}

/// The starts of others that were seen, and this node's own.
fn seen(mut seen: SeenStarts, former: &[FormerStart], origin: &Origin, start: Start) -> Starts {
    seen.insert(origin.clone(), own_starts(former, origin, start));
    Starts::new(seen)
}

/// This node's own starts, as they are told to others.
fn own_starts(former: &[FormerStart], origin: &Origin, start: Start) -> Vec<SeenStart> {
    let own = former.iter().filter(|former| former.journal == origin.journal);
    let own = own.map(|former| SeenStart {
        epoch: former.start.epoch,
        start: former.start.id,
        durable_head: former.own_end,
    });
    let this = SeenStart { epoch: start.epoch, start: start.id, durable_head: Sequence::ZERO };
    let mut own: Vec<_> = own.chain([this]).collect();
    own.drain(..own.len().saturating_sub(OWN_STARTS_TOLD));
    own
}

/// Who is a member. A node that had left is another one for those who heard it. A name of which
/// something was found after all is dropped again once that is gone.
fn roster(own: &Origin, mut rows: Vec<(NodeName, Row)>, left: bool, held: &Frontier) -> Roster {
    for (name, row) in rows.iter_mut().filter(|(_, row)| row.dropped) {
        row.dropped = !held.iter().any(|(origin, _)| origin.node == *name);
    }
    for (_, row) in rows.iter_mut().filter(|(name, _)| left && *name == own.node) {
        row.listed.incarnation += 1;
    }
    Roster::new(own.clone(), rows)
}

#[expect(clippy::too_many_arguments, reason = "the parts of a journal, put together in one place")]
fn assemble(
    options: &Options,
    planted: Planted,
    start: Start,
    origin: Origin,
    past: Past,
    former: Vec<FormerStart>,
    recovered: Recovered,
    window: Window,
    free_bytes: u64,
) -> Arc<Shared> {
    let Recovered { catalog, head, own_head, frontier, bases, producers, wounds, .. } = recovered;
    let limits = options.limits.clone();
    let newest = catalog.newest().map(|segment| (segment.end, segment.length));
    let (window, window_lead) = window.into_parts();
    let numbering = Numbering {
        origin: origin.clone(),
        start,
        last_offset: Offset::begin(start.epoch),
        last_sequence: Sequence::begin(start.epoch),
        head,
        own_head,
        frontier: frontier.clone(),
        durable_frontier: frontier.clone(),
        bases,
        window,
        window_lead,
        producers,
        space: Space::new(&limits, catalog.bytes(), newest, free_bytes),
        queue: Vec::new(),
        uncharged: false,
        sealed: false,
        awaited: Vec::new(),
        published: 0,
        received: 0,
    };
    let applied = Applied::new(Arc::clone(&options.clock));
    Arc::new(Shared {
        starts: Mutex::new(seen(past.seen, &former, &origin, start)),
        roster: roster(&origin, past.roster, past.left, &frontier),
        origin,
        start,
        planted,
        clock: Arc::clone(&options.clock),
        storage: Arc::clone(&options.storage),
        former,
        numbering: Mutex::new(numbering),
        tail: Mutex::new(Tail::new(limits.tail_bytes, head, frontier)),
        catalog: RwLock::new(catalog),
        cuts: RwLock::new(past.cuts),
        needs: Mutex::default(),
        damaged: Damaged::new(wounds),
        began: (options.clock.wall(), options.clock.boot()),
        head: watch::Sender::new(head),
        durable: watch::Sender::new(Durable { offset: head, own: own_head, failed: false }),
        stage: watch::Sender::new(Stage::Running),
        room: Semaphore::new(room_units(limits.unwritten_bytes_max)),
        bell: Bell::default(),
        cursors: Cursors::default(),
        names: Mutex::new(Names::new(applied.clone(), past.names)),
        applied,
        leases: Leases::default(),
        replaced: Mutex::default(),
        letters: Mutex::new(Letters::new(past.letters)),
        members: Mutex::new(Members::new(past.members)),
        syncs: 0.into(),
        renewal: OnceLock::new(),
        limits,
    })
}
