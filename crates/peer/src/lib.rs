//! Other nodes: every node pulls from every other, and is pulled from.
//!
//! - `link` is the pulling half and step 5 of the way of one event; `feed` the serving half, step
//!   4.
//! - `ping` rides a stream of its own, so that liveness never waits behind blocks.
//! - `members` is who there is and who was heard; what they hold is a cursor in the journal.
//!   `lists` carries that to others, and `departures` lets go of who is gone.
//! - Deliberately absent: trees of members; every node has a link with every other.

mod backoff;
mod departures;
mod dial;
mod feed;
mod formers;
mod holes;
mod leave;
mod link;
mod lists;
mod members;
mod mend;
mod peers;
mod ping;
mod repair;
mod service;
mod starts;

pub use dial::{Dial, DialError, Dialer, Dialled, Io, TlsDialer};
pub use leave::{Held, NotForgotten};
pub use members::PeerStatus;
pub use peers::{Parts, Peers, Run};
