//! The order in which calls came in at a node.
//!
//! Calls of one connection run as tasks of their own, so that the one that came in first may be the
//! last to do something. Where it matters which is newer, this tells.

/// Higher for each call that came in later, on all connections of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival(u64);

impl Arrival {
    /// The call of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}
