//! For tests only: whole nodes on a simulated network, disk and clock, applications that record
//! what they see, and the checker that judges it.
//!
//! - [`node`] assembles what the server assembles, with the production journal, peer, local and
//!   gate; only network, disk, clock and randomness are others.
//! - [`net`] carries identities in plain words where production has TLS: who calls is what the
//!   simulation says, and randomness of a cryptographic library would make no two runs alike.
//! - [`world`] is the clock of each machine and randomness from a seed; [`standstill`] lets one
//!   stand still.
//! - [`app`] has publishers and subscribers, [`checker`] judges what they recorded.

pub mod app;
pub mod checker;
pub mod net;
pub mod node;
pub mod standstill;
pub mod world;
