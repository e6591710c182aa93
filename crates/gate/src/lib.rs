//! The shared port: accept, admission, routes, drain.
//!
//! A connection's way through the files: `accept` takes it from a [`Listener`] and never waits for
//! it; `admission` finds out who is calling; `preface` that it speaks HTTP/2; `connection` serves
//! its calls through the `layers`; `path` refuses tricks and `routes` finds the service. `drain`
//! ends it all, first politely, then for good.
//!
//! What always holds: nothing is routed before its caller has an identity; one connection or one
//! handler cannot stop another; everything that waits has a bound (`limits`).
//!
//! Deliberately absent: the services themselves, which come in as boxed values and are never named
//! here; rules about who may call what, which the services ask for themselves.

pub mod accept;
pub mod admission;
mod answer;
mod connection;
pub mod counters;
pub mod drain;
pub mod error;
mod layers;
pub mod limits;
pub mod listener;
mod path;
mod preface;
pub mod routes;
mod sparing;

pub use accept::Gate;
pub use admission::{Admission, PeerCredentials, Tls};
pub use counters::Counters;
pub use drain::{Drain, DrainHandle};
pub use error::Refusal;
pub use evermesh_event::Remote;
pub use limits::Limits;
pub use listener::{Listener, Tcp, Unix};
pub use routes::{Routes, RoutesBuilder, Service};
