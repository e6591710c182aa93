//! The end of serving: asked to finish, then told to stop.
//!
//! Finishing: no more connections are accepted, each open one is told to go away and its calls
//! may end by themselves. Stopping: what is left is dropped. The order cannot be turned round,
//! because stopping implies finishing. Deliberately absent: what the services do meanwhile
//! (saying goodbye, closing the journal); the server decides that between the two.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The listening half: cheap to clone, one for each listener. The server holds the [`DrainHandle`].
#[derive(Clone, Debug)]
pub struct Drain {
    finish: CancellationToken,
    stop: CancellationToken,
}

/// The deciding half, held by the server. Dropping it decides nothing.
#[derive(Clone, Debug)]
pub struct DrainHandle {
    finish: CancellationToken,
    stop: CancellationToken,
}

impl Drain {
    /// Both halves. [`DrainHandle`] is for the server, [`Drain`] for what it starts.
    #[must_use]
    pub fn new() -> (Self, DrainHandle) {
        let stop = CancellationToken::new();
        let finish = stop.child_token();
        (Self { finish: finish.clone(), stop: stop.clone() }, DrainHandle { finish, stop })
    }

    /// Resolves once finishing is asked for.
    pub async fn finishing(&self) {
        self.finish.cancelled().await;
    }

    /// Resolves once stopping is ordered.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl DrainHandle {
    /// Asks everything to finish.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Drops what is left, and stops what was never asked to finish.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks to finish, gives `serving` the `deadline` to end by itself, and then stops it.
    pub async fn finish_within<F: Future>(&self, deadline: Duration, serving: F) -> F::Output {
        let mut serving = pin!(serving);
        self.finish();
        if let Ok(output) = tokio::time::timeout(deadline, serving.as_mut()).await {
            return output;
        }
        self.stop();
        serving.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_implies_finishing() {
        let (drain, handle) = Drain::new();
        handle.stop();
        drain.finishing().await;
        drain.stopped().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_stops_what_does_not_finish() {
        let (drain, handle) = Drain::new();
        let stubborn = async { drain.stopped().await };
        let begun = tokio::time::Instant::now();
        handle.finish_within(Duration::from_secs(7), stubborn).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_finishes_in_time_is_not_stopped() {
        let (drain, handle) = Drain::new();
        let willing = async { drain.finishing().await };
        handle.finish_within(Duration::from_secs(7), willing).await;
        assert!(!handle.stop.is_cancelled());
    }
}
