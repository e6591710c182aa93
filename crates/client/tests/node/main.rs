//! The client against a scripted node: each test plays the node's part step by step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod listening;
mod producing;
mod publishing;
mod scripted;
mod security;
mod subscribing;
