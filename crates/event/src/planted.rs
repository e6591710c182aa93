//! Faults that tests plant into the code of production, to see that the checker finds them.
//!
//! Each is asked for in one place. Without the feature `planted`, which only the test kit turns on,
//! none can be told to be there; with it, nothing is planted unless a journal was opened with it.

/// A fault, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// Everything is as it should be.
    #[default]
    Nothing,
    /// What was not synced counts as durable.
    AssureBeforeSync,
    /// A received block is counted and not kept.
    DropBlock,
    /// Records are delivered in another order than they have.
    SwapTwo,
    /// A missed that opens a stream is not told.
    SkipMissed,
    /// A publish that was refused for want of space gives the last number back.
    ReuseNumber,
    /// A token past the end of its start leads to what is newest.
    ResumePastEnd,
    /// A lease runs from hearing an echo.
    LeaseFromHearing,
    /// What is passed on is a whole lease, not what remains.
    LeaseInFull,
    /// A lease is passed on to who has not acknowledged what it rests on.
    LeaseUnacknowledged,
    /// Cursors of durable names are not stored.
    ForgetCursor,
    /// A member that was not heard in this start counts as suspended.
    SuspendAtStart,
    /// Who trusted the former start is not waited for.
    ForgetFormerStart,
    /// Each stream that resumes is told that it missed something.
    MissedOnReconnect,
    /// What is not on its origin's disk yet replaces what is.
    CoalesceUndurable,
    /// What newer events replace counts as applied before they are.
    PassReplaced,
    /// What was rejected, and is gone by the time it would come again, is passed over.
    PassRejected,
    /// What others know of this node's journal never shows that it was restored.
    TrustCopy,
    /// That a name has another journal than before is told to nobody.
    OtherJournalUntold,
    /// What is damaged is passed over, and nobody is told.
    DamageUntold,
    /// A member that left is waited for.
    WaitForDeparted,
    /// No fence is ever done.
    FenceNeverDone,
}

impl Planted {
    /// Whether it is this fault.
    #[must_use]
    pub const fn is(self, fault: Self) -> bool {
        cfg!(feature = "planted") && self as u8 == fault as u8
    }
}
