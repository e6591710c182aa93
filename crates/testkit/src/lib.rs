//! For tests only: whole nodes on a simulated network, disk and clock.
//!
//! - [`node`] assembles what the server assembles, with the production journal, peer, local and
//!   gate; only network, disk, clock and randomness are others.
//! - [`net`] carries identities in plain words where production has TLS: who calls is what the
//!   simulation says, and randomness of a cryptographic library would make no two runs alike.
//! - [`world`] is the clock of the simulation and randomness from a seed.

pub mod app;
pub mod net;
pub mod node;
pub mod world;
