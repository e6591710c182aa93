//! The journal as its users see it: on a simulated disk that loses and tears, and on a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    clippy::large_futures,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

mod alarms;
mod crash;
mod damage;
mod departed;
mod directory;
mod failing;
mod fixture;
mod flips;
mod heal;
mod intake;
mod limits;
mod memory;
mod notices;
mod places;
mod reading;
mod retain;
mod world;
