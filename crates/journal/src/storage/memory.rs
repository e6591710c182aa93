//! No disk: segments and state in memory, for who would rather miss events than wait for a disk.
//!
//! Nothing outlives the start that locked it: whoever locks it finds it empty, so each start draws
//! a new journal id. What a segment takes grows as it is written, so a segment that is not full
//! costs no more than what is in it; all together never take more than `max_bytes`, and one segment
//! while what was replaced in it is left out.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use evermesh_event::Offset;
use redb::backends::InMemoryBackend;

use super::{Held, LockError, SegmentFile, Storage};

/// What a segment grows by: little beside a segment, and much beside what finding it costs.
const PIECE_BYTES: usize = 64 * 1024;
const PIECE: u64 = PIECE_BYTES as u64;

/// Storage that ends with its process. For one journal at a time.
#[derive(Debug, Default)]
pub struct Memory {
    files: Mutex<Files>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Files {
    segments: BTreeMap<Offset, Arc<MemoryFile>>,
    replacements: BTreeMap<Offset, Arc<MemoryFile>>,
}

impl Memory {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn segment_name(&self, first: Offset) -> String {
        format!("memory/{:016x}", first.as_u64())
    }

    fn lock(&self) -> Result<Box<dyn Held>, LockError> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(LockError::Taken("another journal of this process".into()));
        }
        *self.files() = Files::default();
        Ok(Box::new(Lock(Arc::clone(&self.locked))))
    }

    fn segments(&self) -> io::Result<Vec<Offset>> {
        Ok(self.files().segments.keys().copied().collect())
    }

    fn create_segment(&self, first: Offset, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let mut files = self.files();
        if files.segments.contains_key(&first) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::of_zeros(bytes));
        files.segments.insert(first, Arc::clone(&file));
        Ok(file)
    }

    fn open_segment(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.files().segments.get(&first).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn create_replacement(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let file = Arc::new(MemoryFile::of_zeros(0));
        self.files().replacements.insert(first, Arc::clone(&file));
        Ok(file)
    }

    fn replace_segment(&self, first: Offset) -> io::Result<()> {
        let mut files = self.files();
        let file = files.replacements.remove(&first).ok_or(io::ErrorKind::NotFound)?;
        files.segments.insert(first, file);
        Ok(())
    }

    fn set_segment_aside(&self, first: Offset) -> io::Result<()> {
        self.remove_segment(first)
    }

    fn set_state_aside(&self) -> io::Result<()> {
        Ok(())
    }

    fn remove_segment(&self, first: Offset) -> io::Result<()> {
        self.files().segments.remove(&first).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn state(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        Ok(Box::new(InMemoryBackend::new()))
    }

    /// `max_bytes` alone decides.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn outlives(&self) -> bool {
        false
    }

    fn immediate(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Lock(Arc<AtomicBool>);

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A segment, in pieces; what was never written is zeros and takes nothing.
#[derive(Debug)]
struct MemoryFile(RwLock<Contents>);

#[derive(Debug)]
struct Contents {
    length: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
}

impl MemoryFile {
    const fn of_zeros(length: u64) -> Self {
        Self(RwLock::new(Contents { length, pieces: BTreeMap::new() }))
    }
}

/// Where a byte lies in its piece, and how many follow it there.
fn within(position: u64) -> (usize, usize) {
    let within = usize::try_from(position % PIECE).unwrap_or_default();
    (within, PIECE_BYTES - within)
}

impl SegmentFile for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut contents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut rest) = (position, bytes);
        while !rest.is_empty() {
            let (within, room) = within(at);
            let (now, later) = rest.split_at(rest.len().min(room));
            let piece = contents.pieces.entry(at / PIECE);
            let piece = piece.or_insert_with(|| vec![0; PIECE_BYTES].into_boxed_slice());
            if let Some(place) = piece.get_mut(within..within + now.len()) {
                place.copy_from_slice(now);
            }
            at += now.len() as u64;
            rest = later;
        }
        contents.length = contents.length.max(at);
        Ok(())
    }

    fn read_exact_at(&self, mut bytes: &mut [u8], position: u64) -> io::Result<()> {
        let contents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if position.saturating_add(bytes.len() as u64) > contents.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = position;
        while !bytes.is_empty() {
            let (within, room) = within(at);
            let count = bytes.len().min(room);
            let (now, later) = bytes.split_at_mut(count);
            let piece = contents.pieces.get(&(at / PIECE));
            match piece.and_then(|piece| piece.get(within..within + count)) {
                Some(written) => now.copy_from_slice(written),
                None => now.fill(0),
            }
            at += count as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Nothing survives this process, synced or not; [`Storage::outlives`] says so.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_across_pieces_is_read_and_the_rest_is_zeros_that_take_nothing() {
        let file = MemoryFile::of_zeros(64 * PIECE);
        let text: Vec<u8> = (0..3 * PIECE_BYTES).map(|n| (n % 251) as u8).collect();
        file.write_all_at(&text, PIECE / 2).unwrap();
        let mut read = vec![1; text.len() + 2];
        file.read_exact_at(&mut read, PIECE / 2 - 1).unwrap();
        assert_eq!((read[0], read[text.len() + 1]), (0, 0));
        assert_eq!(read[1..=text.len()], text);
        assert_eq!(file.0.read().unwrap().pieces.len(), 4);
        assert!(file.read_exact_at(&mut [0; 2], 64 * PIECE - 1).is_err(), "beyond its end");
        assert_eq!(file.length().unwrap(), 64 * PIECE);
    }

    #[test]
    fn a_replacement_takes_the_place_and_readers_of_the_former_keep_it() {
        let (memory, first) = (Memory::new(), Offset::from_u64(7));
        let former = memory.create_segment(first, 2).unwrap();
        former.write_all_at(b"ab", 0).unwrap();
        assert!(memory.create_segment(first, 2).is_err());
        memory.create_replacement(first).unwrap().write_all_at(b"c", 0).unwrap();
        memory.replace_segment(first).unwrap();
        let mut read = [0; 2];
        former.read_exact_at(&mut read, 0).unwrap();
        assert_eq!((&read, memory.open_segment(first).unwrap().length().unwrap()), (b"ab", 1));
        memory.remove_segment(first).unwrap();
        assert!(memory.open_segment(first).is_err() && memory.segments().unwrap().is_empty());
    }
}
