//! The trace context that an event carries, as W3C Trace Context writes it.
//!
//! Pure: text in, text out. Version 00 is read strictly; of a later version only what 00 knows is
//! read, as the recommendation asks, and it is passed on as 00. Whatever else is no context at all.

use std::fmt;

/// The length of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// Flag: whoever wrote it records this trace.
const SAMPLED: u8 = 1;
/// The flags that are passed on: sampled, and "the trace id is random". All others must be cleared.
const FLAGS_KNOWN: u8 = 3;

/// Whether this event's trace is recorded. No allocation, and little work when it is not.
#[must_use]
pub fn sampled(traceparent: &str) -> bool {
    let flag = traceparent.as_bytes().get(LENGTH - 1).copied().and_then(nibble);
    flag.is_some_and(|flag| flag & SAMPLED != 0) && Traceparent::parse(traceparent).is_some()
}

/// A trace context that was read or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent {
    /// Names the trace. Not zero.
    pub(crate) trace: [u8; 16],
    /// Names the span that is the parent of whatever comes next. Not zero.
    pub(crate) span: [u8; 8],
    /// Only known flags.
    flags: u8,
}

impl Traceparent {
    /// A context of its own.
    pub(crate) fn new(trace: [u8; 16], span: [u8; 8], sampled: bool) -> Self {
        Self { trace, span, flags: u8::from(sampled) }
    }

    /// Reads a context; `None` if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let ([version], rest) = hex(text.as_bytes())?;
        let (trace, rest) = hex(rest.strip_prefix(b"-")?)?;
        let (span, rest) = hex(rest.strip_prefix(b"-")?)?;
        let ([flags], rest) = hex(rest.strip_prefix(b"-")?)?;
        let complete = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest, [] | [b'-', ..]),
        };
        let named = trace != [0; 16] && span != [0; 8];
        (complete && named).then_some(Self { trace, span, flags: flags & FLAGS_KNOWN })
    }

    /// Whether its trace is recorded.
    pub(crate) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, with another span as the parent of what comes next.
    pub(crate) fn through(self, span: [u8; 8]) -> Self {
        Self { span, ..self }
    }

    /// The same trace, recorded or not.
    pub(crate) fn with_sampled(self, sampled: bool) -> Self {
        Self { flags: self.flags & !SAMPLED | u8::from(sampled), ..self }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(out, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

/// Reads `N` bytes in hexadecimal, and returns what follows.
fn hex<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = text.split_at_checked(2 * N)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some((bytes, rest))
}

/// Reads one digit. Capitals are refused, as the recommendation asks.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written() {
        let read = Traceparent::parse(GIVEN).unwrap();
        assert_eq!(u128::from_be_bytes(read.trace), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(u64::from_be_bytes(read.span), 0x00f0_67aa_0ba9_02b7);
        assert!(read.is_sampled());
        assert_eq!(read.to_string(), GIVEN);
    }

    #[test]
    fn what_is_not_a_context_is_refused() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ] {
            assert_eq!(Traceparent::parse(text), None, "{text:?}");
            assert!(!sampled(text), "{text:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_00_and_unknown_flags_are_cleared() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes";
        let read = Traceparent::parse(later).unwrap();
        assert!(sampled(later));
        assert_eq!(read.to_string(), GIVEN.replace("-01", "-03"));
        assert_eq!(read.with_sampled(false).to_string(), GIVEN.replace("-01", "-02"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_written_is_read_again(
            trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), yes in any::<bool>(),
        ) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let made = Traceparent::new(trace, span, yes);
            let text = made.to_string();
            prop_assert_eq!(text.len(), LENGTH);
            prop_assert_eq!(Traceparent::parse(&text), Some(made));
            prop_assert_eq!(sampled(&text), yes);
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_stable(text in ".{0,80}") {
            if let Some(read) = Traceparent::parse(&text) {
                prop_assert_eq!(Traceparent::parse(&read.to_string()), Some(read));
            }
            prop_assert_eq!(
                sampled(&text),
                Traceparent::parse(&text).is_some_and(Traceparent::is_sampled)
            );
        }

        #[test]
        fn one_changed_byte_is_never_read_as_the_same_context(
            at in 0usize..LENGTH, to in 0u8..128,
        ) {
            let mut bytes = GIVEN.as_bytes().to_vec();
            prop_assume!(bytes.get(at) != Some(&to));
            *bytes.get_mut(at).unwrap() = to;
            let text = String::from_utf8(bytes).unwrap();
            let read = Traceparent::parse(&text);
            prop_assert_eq!(sampled(&text), read.is_some_and(Traceparent::is_sampled));
            // A later version and a cleared flag are the only ways to change nothing that is kept.
            if (3..LENGTH - 2).contains(&at) {
                prop_assert_ne!(read, Traceparent::parse(GIVEN));
            }
        }
    }
}
