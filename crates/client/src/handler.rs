//! Handler: an application that is called for each event, and acknowledged for.
//!
//! Always: an event is acknowledged after its handler returned, and rejected when it said that it
//! could not, or panicked; a missed is acknowledged after it was handled. One call at a time, in
//! order.
//! Deliberately absent: parallel handling, with which acknowledging through a place means nothing.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use evermesh_event::ResumeToken;
use evermesh_proto::v1;
use futures_util::FutureExt as _;

use crate::{Client, Error, Freshness, Item, Options, Subscriber, entries};

/// What an application does with what it hears.
pub trait Handler: Send {
    /// Applies one event. With `Err` it comes again later, and is set aside after five times; a
    /// panic is such an `Err`.
    fn event(&mut self, entry: v1::Entry) -> impl Future<Output = Result<(), String>> + Send;

    /// Events of this scope may be lost: whoever keeps a cache drops what it holds of these sites;
    /// of all if none is named.
    fn missed(&mut self, missed: v1::Missed) -> impl Future<Output = ()> + Send;

    /// Everything that was there when the subscription opened has been handled: a worker may start
    /// to serve.
    fn caught_up(&mut self, _caught_up: v1::CaughtUp) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The subscription is open; this says how long what it keeps current can be trusted.
    fn opened(&mut self, _freshness: &Freshness) {}
}

/// Subscribes and calls the handler until `stop` is done, or for ever. Reconnects by itself. On
/// stop, a call under way is finished, and what was handled is acknowledged.
///
/// # Errors
/// If the node refuses, a newer stream took the durable name, or the handler panicked where it
/// cannot reject: then whatever it keeps is not kept true any more.
pub async fn listen(
    client: Client,
    options: Options,
    handler: &mut impl Handler,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let mut stop = std::pin::pin!(stop);
    let mut subscriber = Subscriber::open(client, options).await?;
    handler.opened(subscriber.freshness());
    loop {
        let item = tokio::select! {
            biased;
            () = &mut stop => break,
            item = subscriber.next() => item?,
        };
        match item {
            Item::Delivery { delivery, through } => {
                if let Some(through) = handle(&mut subscriber, handler, &delivery, through).await {
                    subscriber.acknowledge(through);
                }
            }
            Item::Missed { missed, through } => {
                caught("missed", handler.missed(missed)).await?;
                subscriber.acknowledge(through);
            }
            Item::CaughtUp { caught_up, through } => {
                caught("caught_up", handler.caught_up(caught_up)).await?;
                subscriber.acknowledge(through);
            }
            // The next call says so as an error.
            Item::TakenOver(_) => {}
            Item::Opened { .. } | Item::Interrupted(_) | Item::Freshness(_) => {}
        }
    }
    subscriber.close().await;
    Ok(())
}

/// Handles one delivery; what is to be acknowledged.
async fn handle(
    subscriber: &mut Subscriber,
    handler: &mut impl Handler,
    delivery: &v1::Delivery,
    through: ResumeToken,
) -> Option<ResumeToken> {
    let mut handled = None;
    for (place, entry) in entries(delivery, through) {
        let applied = caught("event", handler.event(entry)).await;
        if let Err(reason) = applied.unwrap_or_else(|panicked| Err(panicked.to_string())) {
            if let Some(handled) = handled {
                subscriber.acknowledge(handled);
            }
            subscriber.reject(place, &reason);
            return None;
        }
        handled = Some(place);
    }
    handled
}

/// A panic of the handler, as an error: one bad event does not end the process.
async fn caught<T>(during: &'static str, call: impl Future<Output = T> + Send) -> Result<T, Error> {
    let done = AssertUnwindSafe(call).catch_unwind().await;
    done.map_err(|panic| Error::Panicked { during, said: said(&*panic) })
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
