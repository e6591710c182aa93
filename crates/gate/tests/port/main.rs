//! The gate from outside: what a caller sees, over sockets and over pipes in memory.
//!
//! Time stands still in the tests over pipes and jumps when everything waits, so deadlines are
//! tested without waiting for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod bounds;
mod callers;
mod draining;
mod faults;
mod http1;
mod pipes;
mod routing;
mod services;
mod sockets;
