//! The words and rules of evermesh, pure: no clock, no randomness, no disk, no network, no await.
//!
//! - Words: [`NodeName`], [`Origin`], [`Start`], [`Sequence`], [`Offset`], [`ResumeToken`],
//!   [`FenceToken`].
//! - What travels: [`ValidEvent`] at intake, [`Block`] from then on.
//! - Rules: [`Frontier`] (what a receiver takes), [`Filter`] (what a subscription hears),
//!   [`Unacknowledged`] (how much may be on its way), [`DedupeWindow`] (which ids were taken),
//!   [`assurance`] (who counts), [`verdict`] (what a history shows).
//!
//! This is the only crate that looks into generated types as data. Everything here is
//! deterministic: clock and randomness come in as arguments, through [`world`] where a rule needs
//! them repeatedly.

mod arrival;
pub mod assurance;
pub mod block;
mod dedupe;
mod filter;
mod frontier;
pub mod limits;
mod names;
mod planted;
mod position;
mod remote;
mod token;
mod unacknowledged;
mod validate;
pub mod verdict;
pub mod world;

pub use arrival::Arrival;
pub use block::{Block, BlockBuilder, BlockError};
pub use dedupe::{DedupeKey, DedupeWindow};
pub use filter::{Coverage, Filter};
pub use frontier::{Frontier, Verdict};
pub use names::{JournalId, NameError, NodeName, Origin, Start, StartId};
pub use planted::Planted;
pub use position::{Epoch, Offset, ParsePositionError, Sequence};
pub use remote::Remote;
pub use token::{FenceToken, ResumeToken, Run, TokenError};
pub use unacknowledged::Unacknowledged;
pub use validate::{Fill, Refusal, ValidEvent, check_site, validate};
