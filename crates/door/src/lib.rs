//! The HTTP door: publish by POST, subscribe by server-sent events, ask by GET; for those without
//! gRPC.
//!
//! - [`Door`] is a service of plain HTTP at `/v1/…`; `publish`, `subscribe` and `applied` are its
//!   rooms.
//! - It calls the node's own `EventReplication` in process, with the caller's verified identity: so
//!   rules, limits and errors are the same by construction.
//! - [`Push`] is the other way round: a subscription that makes a request of each event.
//! - Deliberately absent: everything about who may do what, and about events; here is only form.

mod answer;
mod applied;
pub mod cloudevent;
mod door;
pub mod object;
mod publish;
mod push;
mod query;
mod subscribe;
mod template;

pub use door::{Door, Events};
pub use push::{Push, Target};
pub use template::Template;
