//! evermesh for Rust applications: the first and the last step of an event's way.
//!
//! - [`Client`]: one node, dialled when it is first needed and again whenever the connection broke.
//! - [`Publisher`]: hands events in, and keeps them under the same ids until they are assured (P5).
//! - [`Producer`]: the same without waiting for each, in a stream with counters.
//! - [`Subscriber`]: hears events, and resumes after the last acknowledged one by itself (P2, P3).
//! - [`listen`]: the same with a [`Handler`], which is called and acknowledged for.
//! - [`Freshness`]: how long a cache that follows a subscription may be trusted (P9).
//! - [`Invalidation`]: what to drop, as the data of an event.
//! - [`episerver`]: the events of EPiServer and Optimizely CMS, and back.
//! - [`Error`]: what went wrong, whose fault it is, and whether trying again helps.
//!
//! Always: nothing is acknowledged but by the application, and nothing is published twice under two
//! ids. Deliberately absent: more than one node per client.

mod address;
mod backoff;
mod client;
mod credentials;
mod dialing;
pub mod episerver;
mod error;
mod freshness;
mod handler;
mod invalidation;
mod producer;
mod publisher;
mod subscriber;
mod world;

pub use address::Address;
pub use client::Client;
pub use credentials::Credentials;
pub use error::{Error, Fault, Refusal};
pub use freshness::Freshness;
pub use handler::{Handler, listen};
pub use invalidation::{INVALIDATE, Invalidation, invalidate, invalidated};
pub use producer::{Closed, Flushed, Producer, UNASSURED_BYTES_MAX, UNASSURED_EVENTS_MAX};
pub use publisher::{Outcome, Published, Publisher, Taken};
pub use subscriber::{Begin, Item, Options, Subscriber, entries};
pub use world::World;

/// The page for people who use this crate: its code compiles as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/clients/rust.md")]
struct Page;
