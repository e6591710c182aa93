//! The front of a segment: what it must say, and what becomes of one that does not.

use std::sync::Arc;

use evermesh_event::Offset;

use super::Recovery;
use crate::error::Error;
use crate::segment::scan::Scan;
use crate::segment::{HEADER_BYTES, Header, HeaderError, VERSION};
use crate::storage::SegmentFile;
use crate::writer::Newest;

impl Recovery<'_> {
    /// The header; `None`: the segment was being created when the node stopped, and is removed.
    pub(super) fn header(
        &mut self,
        file: &Arc<dyn SegmentFile>,
        first: Offset,
        length: u64,
        last: bool,
    ) -> Result<Option<Header>, Error> {
        let mut bytes = vec![0; usize::try_from(length.min(HEADER_BYTES)).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(|error| self.refused("read a segment", error))?;
        match Header::decode(&bytes) {
            Ok(header) if header.first == first => Ok(Some(header)),
            Ok(_) => {
                let file = self.storage.segment_name(first);
                tracing::error!(file, "it is named otherwise than it says: passed over");
                self.without(first, last)
            }
            Err(HeaderError::Version(version)) => {
                let file = self.storage.segment_name(first);
                Err(Error::Version { file, version, known: VERSION })
            }
            Err(HeaderError::Damaged) => {
                let mut scan = Scan::new(Arc::clone(file), 0, length);
                let behind = scan.not_zero_from(HEADER_BYTES.min(length));
                let behind = behind.map_err(|error| self.refused("read a segment", error))?;
                if !last || behind.is_some() || self.proven >= first {
                    tracing::error!(
                        file = %self.storage.segment_name(first),
                        "its header is not what was written: the file stays as it is and is passed \
                        over; what was lost is asked of other members or told as missed"
                    );
                    return self.without(first, last);
                }
                tracing::warn!(
                    file = %self.storage.segment_name(first),
                    "the segment was being created when the node stopped: it is removed"
                );
                let removed = self.storage.remove_segment(first);
                removed
                    .and_then(|()| self.storage.sync_directory())
                    .map_err(|error| self.refused("remove a segment", error))?;
                self.reopen_newest()?;
                Ok(None)
            }
        }
    }

    /// A segment cannot be read. If it was the last, its place must be free for a new one.
    fn without(&mut self, first: Offset, last: bool) -> Result<Option<Header>, Error> {
        let aside = self.storage.set_segment_aside(first);
        aside.map_err(|error| self.refused("set a damaged segment aside", error))?;
        if last {
            self.proven = self.proven.max(first);
            self.reopen_newest()?;
        }
        Ok(None)
    }

    /// The segment before the one that was removed is the last after all.
    fn reopen_newest(&mut self) -> Result<(), Error> {
        let Some(newest) = self.recovered.catalog.newest() else {
            return Ok(());
        };
        let (first, marker, position) = (newest.first, newest.marker, newest.end);
        let file = self.storage.open_segment(first);
        let file = file.map_err(|error| self.refused("open a segment", error))?;
        file.sync_data().map_err(|error| self.refused("sync a segment", error))?;
        self.recovered.newest = Some(Newest { file, marker, position });
        Ok(())
    }
}
