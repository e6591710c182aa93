//! File systems of their own, small and soon gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// What ext4 gives at least.
const BLOCK_BYTES: u64 = 4096;

/// A command of the system that must succeed.
pub(crate) fn system(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
}

/// An ext4 file system in a file, mounted until this is dropped.
pub(crate) struct Ext4 {
    image: PathBuf,
    at: PathBuf,
}

impl Ext4 {
    /// Makes one of so many bytes. The file takes only what is written.
    pub(crate) fn make(image: PathBuf, at: PathBuf, bytes: u64) -> Self {
        File::create(&image).unwrap().set_len(bytes).unwrap();
        // No space kept for root, which the node is here.
        system("mkfs.ext4", &["-q", "-F", "-m", "0", image.to_str().unwrap()]);
        Self::mount(image, at)
    }

    /// Mounts one. What nobody syncs is not written by itself for longer than any test takes: the
    /// kernel writes dirty pages after 30 s, and the file system its journal after `commit`.
    pub(crate) fn mount(image: PathBuf, at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let options = "loop,commit=300";
        system("mount", &["-o", options, image.to_str().unwrap(), at.to_str().unwrap()]);
        Self { image, at }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Copies what reached the device, as a power cut would leave it.
    pub(crate) fn copy(&self, to: &Path) {
        let (from, to) = (self.image.to_str().unwrap(), to.to_str().unwrap());
        system("cp", &["--sparse=always", from, to]);
    }

    /// Another file takes what is free, but for so much.
    pub(crate) fn fill(&self, leave: u64) {
        let free = || {
            let stat = rustix::fs::statvfs(&self.at).unwrap();
            stat.f_bavail * stat.f_frsize
        };
        let file = File::create(self.at.join("ballast")).unwrap();
        let (mut length, mut more) = (0, free());
        loop {
            more = more.min(free().saturating_sub(leave)) / BLOCK_BYTES * BLOCK_BYTES;
            if more == 0 {
                return;
            }
            match fallocate(&file, FallocateFlags::empty(), length, more) {
                Ok(()) => length += more,
                // The file system needs some of it for itself.
                Err(Errno::NOSPC) => more /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Removes that file.
    pub(crate) fn free(&self) {
        fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Whoever still holds a file of it does not keep it mounted.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
