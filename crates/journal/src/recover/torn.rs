//! A torn end is cut, and what is before it made sure of.

use std::io;

use crate::segment::scan::Scan;
use crate::storage::SegmentFile;

/// How much is written at a time where zeros or the same bytes are written again.
const REWRITE_BYTES: usize = 1024 * 1024;

/// Makes a last segment what the next record can follow: zeros behind its end, and what is not
/// proven to have been durable written again before it is synced.
pub(super) fn complete(
    file: &dyn SegmentFile,
    position: u64,
    unproven: u64,
    scan: &mut Scan,
    length: u64,
    full: u64,
) -> io::Result<()> {
    write_zeros(file, position, scan, length, full)?;
    rewrite(file, unproven, position)?;
    file.sync_data()
}

/// Zeros from a place to the last byte that is none, and where the file is shorter than it says.
fn write_zeros(
    file: &dyn SegmentFile,
    position: u64,
    scan: &mut Scan,
    length: u64,
    full: u64,
) -> io::Result<()> {
    let mut at = position;
    while let Some(not_zero) = scan.not_zero_from(at)? {
        let count = (length - not_zero).min(REWRITE_BYTES as u64);
        zero(file, not_zero, count)?;
        at = not_zero + count;
    }
    let mut at = length;
    while at < full {
        let count = (full - at).min(REWRITE_BYTES as u64);
        zero(file, at, count)?;
        at += count;
    }
    Ok(())
}

fn zero(file: &dyn SegmentFile, position: u64, count: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    file.write_all_at(&zeros, position)
}

/// Writes the same bytes again. After a failed fsync the system may take pages for written that are
/// not: only a new write makes the next fsync mean what it says.
fn rewrite(file: &dyn SegmentFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let count =
            usize::try_from((to - at).min(REWRITE_BYTES as u64)).map_err(io::Error::other)?;
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, at)?;
        file.write_all_at(&bytes, at)?;
        at += count as u64;
    }
    Ok(())
}
