//! Where: sequence and offset. Both are an epoch and a counter in one u64; they never convert into
//! each other.

use std::fmt;
use std::str::FromStr;

/// Bits of the counter; the epoch has the 24 above. A node can start 16 million times, and number
/// 10^12 events in a start.
const COUNTER_BITS: u32 = 40;
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// Which start of a node: counted up at each one, and stored before anything of it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The highest.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// An epoch; `None` above [`Epoch::MAX`].
    #[must_use]
    pub const fn new(epoch: u32) -> Option<Self> {
        if epoch <= Self::MAX.0 { Some(Self(epoch)) } else { None }
    }

    /// The next; `None` after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Text that is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position: EPOCH:COUNTER, such as 3:17")]
pub struct ParsePositionError(String);

macro_rules! position {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Before everything.
            pub const ZERO: Self = Self(0);

            /// From an epoch and a counter; `None` if the counter has more than 40 bits.
            #[must_use]
            pub const fn new(epoch: Epoch, counter: u64) -> Option<Self> {
                if counter > COUNTER_MAX {
                    return None;
                }
                Some(Self((epoch.0 as u64) << COUNTER_BITS | counter))
            }

            /// Before the first of an epoch, and after everything of the one before.
            #[must_use]
            pub const fn begin(epoch: Epoch) -> Self {
                Self((epoch.0 as u64) << COUNTER_BITS)
            }

            /// From the wire.
            #[must_use]
            pub const fn from_u64(value: u64) -> Self {
                Self(value)
            }

            /// To the wire.
            #[must_use]
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The epoch.
            #[must_use]
            pub const fn epoch(self) -> Epoch {
                Epoch((self.0 >> COUNTER_BITS) as u32)
            }

            /// The counter within the epoch.
            #[must_use]
            pub const fn counter(self) -> u64 {
                self.0 & COUNTER_MAX
            }

            /// The one `count` places later in this epoch; `None` where the epoch ends.
            #[must_use]
            pub const fn plus(self, count: u64) -> Option<Self> {
                match self.counter().checked_add(count) {
                    Some(counter) => Self::new(self.epoch(), counter),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", self.epoch().get(), self.counter())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParsePositionError;

            fn from_str(text: &str) -> Result<Self, ParsePositionError> {
                let parse = || {
                    let (epoch, counter) = text.split_once(':')?;
                    Self::new(Epoch::new(epoch.parse().ok()?)?, counter.parse().ok()?)
                };
                parse().ok_or_else(|| ParsePositionError(text.chars().take(80).collect()))
            }
        }
    };
}

position!(
    /// Position among an origin's events. It only grows and jumps at each start of the origin.
    Sequence
);
position!(
    /// Position of an entry, or of a missed record, in one node's journal.
    Offset
);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_is_above_everything_of_the_former() {
        let third = Epoch::new(3).unwrap();
        let last = Sequence::new(third, COUNTER_MAX).unwrap();
        assert!(Sequence::begin(third.next().unwrap()) > last);
        assert_eq!(last.plus(1), None);
        assert_eq!(Sequence::new(third, COUNTER_MAX + 1), None);
        assert_eq!(Epoch::MAX.next(), None);
    }

    #[test]
    fn text_there_and_back() {
        let place = Offset::new(Epoch::new(3).unwrap(), 17).unwrap();
        assert_eq!(place.to_string(), "3:17");
        assert_eq!("3:17".parse(), Ok(place));
        assert_eq!(Offset::from_u64(place.as_u64()), place);
        for bad in ["", "3", "3:", ":17", "16777216:0", "0:1099511627776", "3:17:1", "-1:2"] {
            assert!(bad.parse::<Offset>().is_err(), "{bad}");
        }
    }
}
