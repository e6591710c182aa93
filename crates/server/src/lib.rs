//! The sidecar as a library: configuration, assembly, administration, drain.
//!
//! `assemble` is the page to read first: from a [`Config`] to a running node. `config` comes before
//! it, `drain` after it; `admin` answers operators meanwhile. `world` brings the real clock and
//! randomness, which everything below takes as arguments.

mod admin;
mod assemble;
pub mod config;
mod drain;
mod error;
pub mod own;
mod services;
mod sockets;
pub mod world;

pub use assemble::serve;
pub use config::{Config, Environment};
pub use error::Error;
