//! Drafts: files that appear under their names whole, or not at all.
//!
//! Written beside their place, synced, and renamed. A draft that is dropped leaves nothing behind.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::taken;
use crate::Error;
use crate::error::cannot;

/// A file that is written and not yet in its place.
pub(super) struct Draft {
    draft: NamedTempFile,
    place: PathBuf,
}

impl Draft {
    /// For a file that everyone may read.
    pub(super) fn public(place: &Path, content: &[u8]) -> Result<Self, Error> {
        Self::write(place, content, 0o644)
    }

    /// For a file that only its owner may use, from its first moment on.
    pub(super) fn secret(place: &Path, content: &[u8]) -> Result<Self, Error> {
        Self::write(place, content, 0o600)
    }

    fn write(place: &Path, content: &[u8], mode: u32) -> Result<Self, Error> {
        let dir = place.parent().unwrap_or(place);
        let mut draft = Builder::new()
            .prefix(".evermesh-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(or_here(dir))
            .map_err(cannot("write", place))?;
        draft.write_all(content).map_err(cannot("write", place))?;
        draft.as_file().sync_all().map_err(cannot("sync", place))?;
        Ok(Self { draft, place: place.to_owned() })
    }

    /// Puts it in its place, which must be free.
    pub(super) fn create(self) -> Result<(), Error> {
        let place = &self.place;
        self.draft.persist_noclobber(place).map(drop).map_err(|refused| {
            if refused.error.kind() == std::io::ErrorKind::AlreadyExists {
                return taken(place, "was made just now by somebody else");
            }
            cannot("write", place)(refused.error)
        })
    }

    /// Puts it in its place, instead of what is there.
    pub(super) fn replace(self) -> Result<(), Error> {
        let place = &self.place;
        self.draft.persist(place).map(drop).map_err(|refused| cannot("write", place)(refused.error))
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    File::open(or_here(dir)).and_then(|dir| dir.sync_all()).map_err(cannot("sync", dir))
}

/// The parent of a plain file name is empty, and means the current directory.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}
