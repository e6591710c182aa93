//! Other nodes: every node pulls from every other, and is pulled from.
//!
//! - `link` is the pulling half and step 5 of the way of one event; `feed` the serving half, step
//!   4.
//! - `ping` rides a stream of its own, so that liveness never waits behind blocks.
//! - `members` is who there is and who was heard; what they hold is a cursor in the journal.
//! - Deliberately absent: members learnt from others, repair by a third node, leases passed on.

mod backoff;
mod dial;
mod feed;
mod holes;
mod link;
mod members;
mod peers;
mod ping;
mod repair;
mod service;
mod starts;

pub use dial::{Dial, DialError, Dialer, Dialled, Io, TlsDialer};
pub use members::PeerStatus;
pub use peers::{Parts, Peers, Run};
