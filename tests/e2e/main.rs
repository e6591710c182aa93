//! Real processes: the binary as people run it, on this machine, in temporary directories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod applications;
mod cache;
mod config_errors;
mod demo;
mod history;
mod javascript;
mod kills;
mod matrix;
mod mesh;
mod node;
mod one_node;
mod pages;
mod publish_subscribe;
mod python;
mod refusals;
mod restarts;
mod subscriptions;
mod trace;
mod two_nodes;
