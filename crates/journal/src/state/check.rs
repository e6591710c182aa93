//! Whether the database file is what was written, asked before anything in it is believed.
//!
//! The database itself compares its checksums only after a crash. Otherwise a flipped bit is read
//! as it is, and moves a place or an epoch that nothing else knows; or the database panics on it,
//! where it may have changed the file already. So a copy in memory is opened and compared first:
//! the file is small, and whatever this finds, it is as it was.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};

/// How much is copied at a time.
const COPY_BYTES: usize = 1024 * 1024;

/// Refuses a file in which something is not what was written.
pub(super) fn check(backend: &dyn StorageBackend) -> io::Result<Result<(), String>> {
    let copy = copy(backend)?;
    let whole = || {
        let mut database =
            Database::builder().create_with_backend(copy).map_err(|error| error.to_string())?;
        database.check_integrity().map_err(|error| error.to_string())
    };
    Ok(match catch_unwind(AssertUnwindSafe(whole)) {
        Ok(Ok(true)) => Ok(()),
        Ok(Err(reason)) => Err(reason),
        // It would be repaired by leaving out what was written last.
        Ok(Ok(false)) | Err(_) => Err("it is damaged: it is not what was written".to_owned()),
    })
}

fn copy(backend: &dyn StorageBackend) -> io::Result<InMemoryBackend> {
    let copy = InMemoryBackend::new();
    let length = backend.len()?;
    copy.set_len(length)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut position = 0;
    while position < length {
        let left = usize::try_from(length - position).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = buffer.get_mut(..left).unwrap_or_default();
        backend.read(position, part)?;
        copy.write(position, part)?;
        position += left as u64;
    }
    Ok(copy)
}
