//! Applications on this node: what `evermesh.v1.EventReplication` serves.
//!
//! - [`Local`] is the service; `publish` is step 1 of the way of one event, `deliver` is step 6.
//! - It knows the journal and nothing else: what members hold of an event is a cursor there.
//! - Who calls comes from the request's extensions, where the gate put the verified identity.
//! - `publish_stream` is the same pipelined; `assure` is what publishing and `fence` wait for.
//! - Deliberately absent: HTTP and JSON, and keeping places: names, letters and counters are the
//!   journal's.

mod assure;
mod batch;
mod deliver;
mod errors;
mod fence;
mod opening;
mod planted;
mod publish;
mod publish_stream;
mod service;
mod subscribe;
mod subscriptions;
mod traced;

pub use service::{Local, Parts};
pub use subscriptions::SubscriptionView;
