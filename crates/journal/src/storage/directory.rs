//! The real disk: `lock`, `state.redb` and `segments/` in one directory that belongs to the node's
//! user alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermesh_event::Offset;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{Held, LockError, SegmentFile, Storage};

/// Only the node's user may look into its events.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const SUFFIX: &str = ".seg";

/// A directory on a file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens a directory, and creates it if it is absent.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder.create(path.join("segments"))?;
        // Its own entry must survive too, or a power cut takes all of it.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn segment_path(&self, first: Offset) -> PathBuf {
        self.path.join("segments").join(format!("{:016x}{SUFFIX}", first.as_u64()))
    }
}

/// The extension of what is to take the place of a segment.
const REPLACEMENT: &str = "new";
/// The extension of what is not what was written: kept for who wants to look at it.
const DAMAGED: &str = "damaged";

impl Storage for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn segment_name(&self, first: Offset) -> String {
        self.segment_path(first).display().to_string()
    }

    fn lock(&self) -> Result<Box<dyn Held>, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(self.path.join("lock"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Taken(holder(&mut file))),
            Err(error) => return Err(LockError::Storage(error.into())),
        }
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Box::new(LockFile { _file: file }))
    }

    fn segments(&self) -> io::Result<Vec<Offset>> {
        let mut firsts = Vec::new();
        for entry in std::fs::read_dir(self.path.join("segments"))? {
            let name = entry?.file_name();
            if Path::new(&name).extension().is_some_and(|kind| kind == REPLACEMENT) {
                // It never came into its place.
                std::fs::remove_file(self.path.join("segments").join(&name))?;
                continue;
            }
            if Path::new(&name).extension().is_some_and(|kind| kind == DAMAGED) {
                continue;
            }
            let hex = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let first = hex.filter(|hex| hex.len() == 16);
            match first.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
                Some(first) => firsts.push(Offset::from_u64(first)),
                None => tracing::warn!(file = ?name, "not a segment: left alone"),
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    fn create_segment(&self, first: Offset, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let file = options.open(self.segment_path(first))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // The file system cannot reserve: the file grows as it is written, and running short is
            // noticed then.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes)?,
            Err(error) => return Err(error.into()),
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open_segment(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.segment_path(first))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_replacement(&self, first: Offset) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        let path = self.segment_path(first).with_extension(REPLACEMENT);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn replace_segment(&self, first: Offset) -> io::Result<()> {
        let path = self.segment_path(first);
        std::fs::rename(path.with_extension(REPLACEMENT), path)?;
        self.sync_directory()
    }

    fn set_segment_aside(&self, first: Offset) -> io::Result<()> {
        let path = self.segment_path(first);
        std::fs::rename(&path, path.with_extension(DAMAGED))?;
        self.sync_directory()
    }

    fn set_state_aside(&self) -> io::Result<()> {
        let path = self.path.join("state.redb");
        std::fs::rename(&path, path.with_extension(DAMAGED))?;
        self.sync_directory()
    }

    fn remove_segment(&self, first: Offset) -> io::Result<()> {
        std::fs::remove_file(self.segment_path(first))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.path.join("segments"))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    fn state(&self) -> io::Result<Box<dyn redb::StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(self.path.join("state.redb"))?;
        let backend = redb::backends::FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The lock ends with the descriptor, so it cannot outlive the process.
#[derive(Debug)]
struct LockFile {
    _file: File,
}

impl Held for LockFile {}

/// Who holds the lock, as the lock file and /proc tell.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    if file.read_to_string(&mut text).is_err() {
        return "another process".into();
    }
    let Ok(process) = text.trim().parse::<u32>() else {
        return "another process".into();
    };
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim()),
        Err(_) => format!("process {process}"),
    }
}

#[derive(Debug)]
struct RealFile(File);

impl SegmentFile for RealFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
