//! A disk in memory that does what disks do when the power goes: it keeps what was synced, and of
//! the rest whatever it likes.
//!
//! It works in sectors of 512 bytes. A write changes what reads see; `sync_data` makes that
//! durable; [`MemoryDisk::crash`] keeps a random part of the other sectors, so writes are lost,
//! reordered and torn. A refused sync leaves its sectors clean and not durable, as Linux does: the
//! next sync, successful, does not help them. Handles of a former life are dead.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evermesh_event::Offset;
use evermesh_event::world::Random;

use crate::storage::{Held, LockError, SegmentFile, Storage};

mod fate;

pub use self::fate::Flipped;

/// Torn writes are torn at multiples of this.
const SECTOR_BYTES: usize = 512;
const SECTOR: u64 = SECTOR_BYTES as u64;
/// What the disk offers unless it was told otherwise.
const FREE_BYTES: u64 = 1 << 40;

/// The disk. Cheap to clone: all clones are one disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

/// What a disk may answer instead of doing what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EIO.
    Failed,
    /// ENOSPC.
    NoSpace,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<Name, Contents>,
    locked: bool,
    /// Counts crashes.
    life: u64,
    refuse_writes: Option<Refusal>,
    refuse_syncs: Option<Refusal>,
    /// How many more operations change anything.
    operations_left: Option<u64>,
    free_bytes: Option<u64>,
    syncs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    State,
    Segment(Offset),
    Replacement(Offset),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    sectors: BTreeMap<u64, Sector>,
    length: u64,
    durable_length: u64,
    /// Its name survives a crash.
    linked: bool,
    /// Its name may come back in a crash.
    unlinked: bool,
}

#[derive(Clone, Debug)]
struct Sector {
    seen: [u8; SECTOR_BYTES],
    durable: [u8; SECTOR_BYTES],
    dirty: bool,
}

impl Default for Sector {
    fn default() -> Self {
        Self { seen: [0; SECTOR_BYTES], durable: [0; SECTOR_BYTES], dirty: false }
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The power goes and comes back: of what was not synced, a random part is kept. Open handles
    /// are dead afterwards.
    pub fn crash(&self, random: &dyn Random) {
        let mut disk = self.disk();
        disk.begin_life();
        disk.files.retain(|_, file| match (file.linked, file.unlinked) {
            (true, false) => true,
            (false, _) if file.unlinked => false,
            _ => draw(random).is_multiple_of(2),
        });
        for file in disk.files.values_mut() {
            file.linked = true;
            file.unlinked = false;
            file.crash(random);
        }
    }

    /// The process ends and the system lives on: everything written is still seen, and still not
    /// durable.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.begin_life();
    }

    /// From now on writes are refused, or no longer.
    pub fn refuse_writes(&self, refusal: Option<Refusal>) {
        self.disk().refuse_writes = refusal;
    }

    /// From now on syncs are refused, or no longer.
    pub fn refuse_syncs(&self, refusal: Option<Refusal>) {
        self.disk().refuse_syncs = refusal;
    }

    /// The power goes after so many more operations: all later ones are refused until
    /// [`MemoryDisk::crash`].
    pub fn stop_after(&self, operations: u64) {
        self.disk().operations_left = Some(operations);
    }

    /// What the file system says it has left.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.disk().free_bytes = Some(bytes);
    }

    /// How many syncs succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// What reads of a segment see.
    #[must_use]
    pub fn segment_bytes(&self, first: Offset) -> Option<Vec<u8>> {
        let disk = self.disk();
        let file = disk.files.get(&Name::Segment(first))?;
        let mut bytes = vec![0; usize::try_from(file.length).ok()?];
        file.read(0, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Puts other bytes in the place of a segment's, durably: damage from outside.
    pub fn set_segment_bytes(&self, first: Offset, bytes: &[u8]) {
        let mut disk = self.disk();
        let mut file = Contents { linked: true, ..Contents::default() };
        file.write(0, bytes);
        file.sync();
        disk.files.insert(Name::Segment(first), file);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, name: Name) -> File {
        let life = self.disk().life;
        File { disk: self.clone(), name, life }
    }
}

impl Contents {
    fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut at = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = usize::try_from(at % SECTOR).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(SECTOR_BYTES - within));
            let sector = self.sectors.entry(at / SECTOR).or_default();
            if let Some(place) = sector.seen.get_mut(within..within + now.len()) {
                place.copy_from_slice(now);
            }
            sector.dirty = true;
            at += now.len() as u64;
            rest = later;
        }
        self.length = self.length.max(at);
    }

    fn read(&self, position: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        if position + bytes.len() as u64 > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = position;
        while !bytes.is_empty() {
            let within = usize::try_from(at % SECTOR).unwrap_or_default();
            let count = bytes.len().min(SECTOR_BYTES - within);
            let (now, later) = bytes.split_at_mut(count);
            let sector = self.sectors.get(&(at / SECTOR));
            match sector.and_then(|sector| sector.seen.get(within..within + count)) {
                Some(seen) => now.copy_from_slice(seen),
                None => now.fill(0),
            }
            at += count as u64;
            bytes = later;
        }
        Ok(())
    }

    fn set_length(&mut self, length: u64) {
        let whole = length.div_ceil(SECTOR);
        for (_, sector) in self.sectors.range_mut(whole..) {
            sector.seen = [0; SECTOR_BYTES];
            sector.dirty = true;
        }
        let within = usize::try_from(length % SECTOR).unwrap_or_default();
        if within > 0
            && let Some(sector) = self.sectors.get_mut(&(length / SECTOR))
        {
            sector.seen.iter_mut().skip(within).for_each(|byte| *byte = 0);
            sector.dirty = true;
        }
        self.length = length;
    }

    fn sync(&mut self) {
        for sector in self.sectors.values_mut().filter(|sector| sector.dirty) {
            sector.durable = sector.seen;
            sector.dirty = false;
        }
        self.durable_length = self.length;
    }

    fn crash(&mut self, random: &dyn Random) {
        let mode = draw(random) % 4;
        let mut kept_first = draw(random) % 64;
        for sector in self.sectors.values_mut().filter(|sector| sector.seen != sector.durable) {
            let keep = match mode {
                0 => false,
                1 => true,
                2 => {
                    let among_first = kept_first > 0;
                    kept_first = kept_first.saturating_sub(1);
                    among_first
                }
                _ => draw(random).is_multiple_of(2),
            };
            if keep {
                sector.durable = sector.seen;
            } else {
                sector.seen = sector.durable;
            }
            sector.dirty = false;
        }
        let keep_length = mode == 1 || draw(random).is_multiple_of(2);
        if !keep_length {
            self.length = self.durable_length;
        }
        self.durable_length = self.length;
    }
}

fn draw(random: &dyn Random) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

impl Storage for MemoryDisk {
    fn place(&self) -> String {
        "memory".into()
    }

    fn segment_name(&self, first: Offset) -> String {
        format!("memory/{:016x}.seg", first.as_u64())
    }

    fn lock(&self) -> Result<Box<dyn Held>, LockError> {
        let mut disk = self.disk();
        if std::mem::replace(&mut disk.locked, true) {
            return Err(LockError::Taken("another journal of this simulation".into()));
        }
        Ok(Box::new(Lock { life: disk.life, disk: self.clone() }))
    }

    fn segments(&self) -> io::Result<Vec<Offset>> {
        let disk = self.disk();
        let segments = disk.files.iter().filter(|(_, file)| !file.unlinked);
        let firsts = segments.filter_map(|(name, _)| match name {
            Name::Segment(first) => Some(*first),
            Name::State | Name::Replacement(_) => None,
        });
        Ok(firsts.collect())
    }

    fn create_segment(&self, first: Offset, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk();
        disk.may_write()?;
        let name = Name::Segment(first);
        if disk.files.get(&name).is_some_and(|file| !file.unlinked) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.insert(name, Contents { length: bytes, ..Contents::default() });
        drop(disk);
        Ok(Arc::new(self.open(name)))
    }

    fn open_segment(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let name = Name::Segment(first);
        if self.disk().files.get(&name).is_none_or(|file| file.unlinked) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(self.open(name)))
    }

    fn create_replacement(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk();
        disk.may_write()?;
        let name = Name::Replacement(first);
        disk.files.insert(name, Contents::default());
        drop(disk);
        Ok(Arc::new(self.open(name)))
    }

    fn replace_segment(&self, first: Offset) -> io::Result<()> {
        let mut disk = self.disk();
        disk.may_write()?;
        disk.may_sync()?;
        let file = disk.files.remove(&Name::Replacement(first)).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(Name::Segment(first), Contents { linked: true, ..file });
        Ok(())
    }

    fn set_segment_aside(&self, first: Offset) -> io::Result<()> {
        self.disk().files.remove(&Name::Segment(first));
        Ok(())
    }

    fn set_state_aside(&self) -> io::Result<()> {
        self.disk().files.remove(&Name::State);
        Ok(())
    }

    fn remove_segment(&self, first: Offset) -> io::Result<()> {
        let mut disk = self.disk();
        disk.may_write()?;
        let file = disk.files.get_mut(&Name::Segment(first));
        file.ok_or(io::ErrorKind::NotFound)?.unlinked = true;
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.may_sync()?;
        disk.files.retain(|_, file| !file.unlinked);
        disk.files.values_mut().for_each(|file| file.linked = true);
        Ok(())
    }

    fn state(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        self.disk().files.entry(Name::State).or_default();
        Ok(Box::new(self.open(Name::State)))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.disk().free_bytes.unwrap_or(FREE_BYTES))
    }

    fn immediate(&self) -> bool {
        true
    }
}

impl Disk {
    const fn begin_life(&mut self) {
        self.life += 1;
        self.locked = false;
        self.operations_left = None;
    }

    fn may_write(&mut self) -> io::Result<()> {
        self.count_operation()?;
        self.refuse_writes.map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    fn may_sync(&mut self) -> io::Result<()> {
        self.count_operation()?;
        self.refuse_syncs.map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    fn count_operation(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.operations_left {
            *left = left.checked_sub(1).ok_or_else(|| Refusal::Failed.error())?;
        }
        Ok(())
    }
}

impl Refusal {
    fn error(self) -> io::Error {
        let errno = match self {
            Self::Failed => rustix::io::Errno::IO,
            Self::NoSpace => rustix::io::Errno::NOSPC,
        };
        errno.into()
    }
}

#[derive(Debug)]
struct Lock {
    disk: MemoryDisk,
    life: u64,
}

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        if disk.life == self.life {
            disk.locked = false;
        }
    }
}

/// An open file.
#[derive(Debug)]
struct File {
    disk: MemoryDisk,
    name: Name,
    life: u64,
}

impl File {
    fn with<T>(&self, act: impl FnOnce(&mut Disk, Name) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.disk();
        if disk.life != self.life {
            return Err(io::Error::other("this handle is of a former life"));
        }
        act(&mut disk, self.name)
    }

    fn contents<T>(&self, act: impl FnOnce(&mut Contents) -> io::Result<T>) -> io::Result<T> {
        self.with(|disk, name| act(disk.files.get_mut(&name).ok_or(io::ErrorKind::NotFound)?))
    }

    fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, _| disk.may_write())?;
        self.contents(|file| {
            file.write(position, bytes);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|disk, name| {
            let refused = disk.may_sync();
            let file = disk.files.get_mut(&name).ok_or(io::ErrorKind::NotFound)?;
            if refused.is_err() {
                // Clean, and not durable: what a later sync says nothing of.
                file.sectors.values_mut().for_each(|sector| sector.dirty = false);
                return refused;
            }
            file.sync();
            disk.syncs += 1;
            Ok(())
        })
    }
}

impl SegmentFile for File {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write(position, bytes)
    }

    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        self.contents(|file| file.read(position, bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn length(&self) -> io::Result<u64> {
        self.contents(|file| Ok(file.length))
    }
}

impl redb::StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        self.contents(|file| Ok(file.length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.contents(|file| file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk, _| disk.may_write())?;
        self.contents(|file| {
            file.set_length(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::write(self, offset, data)
    }

    fn try_lock_range(
        &self,
        _start: Bound<u64>,
        _end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        Err(redb::BackendError::Unsupported)
    }
}
