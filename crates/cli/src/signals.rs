//! The signals that end a command, and the exit code that says so.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// What a process that a signal ended says: 128 and the signal's number.
const BY_SIGNAL: u8 = 128;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// Waits for Ctrl-C or SIGTERM, and gives the end that a command then has.
///
/// # Errors
/// If signals cannot be waited for.
pub(crate) async fn any() -> Result<Failure, Failure> {
    let wait = |kind| signal(kind).map_err(|error| Failure::io("wait for signals", &error));
    let (mut interrupt, mut terminate) =
        (wait(SignalKind::interrupt())?, wait(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => Failure::silent(BY_SIGNAL + SIGINT),
        _ = terminate.recv() => Failure::silent(BY_SIGNAL + SIGTERM),
    })
}
