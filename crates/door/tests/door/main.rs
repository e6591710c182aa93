//! The door against a scripted node: what is said to it, and what becomes of what it says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod publishing;
mod pushing;
mod scripted;
mod streaming;
