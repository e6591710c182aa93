//! The thread `journal`: the only one that waits for the disk.

use std::thread::JoinHandle;

use crate::error::Failure;
use crate::writer::Writer;

/// The thread that turns a writer.
#[derive(Debug)]
pub struct WriterThread(JoinHandle<Result<(), Failure>>);

impl Writer {
    /// Turns on a thread of its own until the journal is closed or fails.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(self) -> std::io::Result<WriterThread> {
        let thread = std::thread::Builder::new().name("journal".into());
        thread.spawn(move || self.run_blocking()).map(WriterThread)
    }
}

impl WriterThread {
    /// Waits until it ended. Blocks.
    ///
    /// # Errors
    /// If the journal failed.
    pub fn join(self) -> Result<(), Failure> {
        match self.0.join() {
            Ok(ended) => ended,
            Err(_) => Err(Failure {
                place: "the journal's thread".into(),
                what: "go on",
                reason: "it panicked; see the log".into(),
            }),
        }
    }

    /// It ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}
