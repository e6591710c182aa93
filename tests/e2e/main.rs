//! Real processes: the binary as people run it, on this machine, in temporary directories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod applications;
mod backlog;
mod cache;
mod config_errors;
mod damage;
mod demo;
mod door;
mod drill;
mod golang;
mod history;
mod javascript;
mod journals;
mod kills;
mod last_words;
mod letters;
mod matrix;
mod members;
mod memory;
mod mesh;
mod node;
mod one_node;
mod overlap;
mod own_name;
mod pages;
mod producer;
mod publish_subscribe;
mod push;
mod python;
mod refusals;
mod rejects;
mod repair;
mod restarts;
mod shop;
mod sites;
mod subscriptions;
mod trace;
mod two_nodes;
