//! The thread that writes lines, so that a reader which stopped reading keeps no signal waiting.
//!
//! One batch is under way at a time.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::failure::Failure;

/// Batches that wait to be written: who hands one over waits until it is written.
const BATCHES_MAX: usize = 1;

type Written = oneshot::Sender<io::Result<()>>;

/// Writes to standard output.
#[derive(Debug)]
pub(super) struct Writer {
    /// The thread that writes is at the other end. It is not waited for at the end.
    batches: mpsc::SyncSender<(Vec<u8>, Written)>,
}

impl Writer {
    pub(super) fn start() -> Result<Self, Failure> {
        let (batches, to_write) = mpsc::sync_channel::<(Vec<u8>, Written)>(BATCHES_MAX);
        let write = move || {
            for (batch, written) in to_write {
                let mut out = io::stdout().lock();
                let done = out.write_all(&batch).and_then(|()| out.flush());
                // A signal may have ended the waiting.
                let _ = written.send(done);
            }
        };
        let thread = thread::Builder::new().name("output".to_owned());
        thread.spawn(write).map_err(|error| Failure::io("start a thread", &error))?;
        Ok(Self { batches })
    }

    /// Returns when the batch is written and flushed. A reader that went away ends it quietly.
    pub(super) async fn write(&self, batch: Vec<u8>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let (written, done) = oneshot::channel();
        let gone = || Failure::io("write the answer", &io::ErrorKind::BrokenPipe.into());
        self.batches.send((batch, written)).map_err(|_| gone())?;
        match done.await.map_err(|_| gone())? {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::silent(0)),
            Err(error) => Err(Failure::io("write the answer", &error)),
            Ok(()) => Ok(()),
        }
    }
}
