//! What becomes of a disk between two starts of its node: it is copied, restored, emptied, or a bit
//! of it flips.

use std::sync::{Arc, Mutex};

use evermesh_event::world::Random;

use super::{Contents, Disk, MemoryDisk, Name, SECTOR, SECTOR_BYTES, draw};

/// Where a bit flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flipped {
    /// In the state database.
    State,
    /// In a segment.
    Segment,
}

/// What keeps nothing that was not synced, and every name.
#[derive(Debug)]
struct Least;

impl Random for Least {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl MemoryDisk {
    /// Another disk with the same contents, owned by nobody.
    #[must_use]
    pub fn copy(&self) -> Self {
        let files = self.disk().files.clone();
        Self(Arc::new(Mutex::new(Disk { files, ..Disk::default() })))
    }

    /// Another disk with what of this one is durable for certain.
    #[must_use]
    pub fn durable_copy(&self) -> Self {
        let copy = self.copy();
        copy.crash(&Least);
        copy
    }

    /// Another disk takes the place of this one: what was here is gone, and what is there now is
    /// durable. Open handles are dead afterwards.
    pub fn exchange(&self, other: &Self) {
        let mut files = other.copy().disk().files.clone();
        files.retain(|_, file| !file.unlinked);
        files.values_mut().for_each(Contents::settle);
        let mut disk = self.disk();
        disk.begin_life();
        disk.files = files;
    }

    /// Flips one bit of something that was written; `None`: there is nothing.
    pub fn flip(&self, random: &dyn Random) -> Option<Flipped> {
        let mut disk = self.disk();
        // There is one state database, and it is mostly larger than all segments.
        let of_state = draw(random).is_multiple_of(4);
        let mut places = Vec::new();
        for (name, file) in disk.files.iter().filter(|(_, file)| !file.unlinked) {
            if (*name == Name::State) == of_state {
                let written =
                    file.sectors.iter().filter(|(_, sector)| sector.seen.iter().any(|b| *b != 0));
                places.extend(written.map(|(at, _)| (*name, *at)));
            }
        }
        let (name, at) = *places.get(draw(random) as usize % places.len().max(1))?;
        let file = disk.files.get_mut(&name)?;
        let length = file.length.saturating_sub(at * SECTOR).min(SECTOR);
        let sector = file.sectors.get_mut(&at)?;
        let within = draw(random) as usize % usize::try_from(length).ok()?.clamp(1, SECTOR_BYTES);
        let bit = 1 << (draw(random) % 8);
        *sector.seen.get_mut(within)? ^= bit;
        *sector.durable.get_mut(within)? ^= bit;
        Some(if of_state { Flipped::State } else { Flipped::Segment })
    }
}

impl Contents {
    /// All of it is durable.
    fn settle(&mut self) {
        self.sync();
        for sector in self.sectors.values_mut() {
            sector.durable = sector.seen;
        }
        self.linked = true;
    }
}
