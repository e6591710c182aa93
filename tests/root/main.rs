//! Real processes under faults that need root: power cuts, disks that fail, networks that part,
//! kills and pauses in a row, and flipped bits.
//!
//! What a machine lacks is asked first: then a test says "not run: needs …", and fails where
//! `EVERMESH_REQUIRE` is set. How often each fault is made can be said by variables; the page
//! docs/guarantees.md lists them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod cycles;
mod dice;
mod disk;
mod everywhere;
mod failing;
mod flips;
mod mount;
mod needs;
mod network;
mod partitions;
mod plain;
mod power;
mod strace;

#[allow(dead_code, reason = "tests/e2e uses the rest")]
#[path = "../e2e/history.rs"]
mod history;
#[allow(dead_code, reason = "tests/e2e uses the rest")]
#[path = "../e2e/mesh.rs"]
mod mesh;
#[allow(dead_code, reason = "tests/e2e uses the rest")]
#[path = "../e2e/node.rs"]
mod node;
