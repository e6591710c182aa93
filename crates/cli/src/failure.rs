//! Why a command failed: one message for people, and an exit code for scripts.
//!
//! Codes are those of sysexits: 64 wrong usage, 65 wrong input, 69 not available, 70 an error of
//! evermesh, 73 cannot create, 74 input or output, 77 not allowed, 78 configuration; 130 and 143
//! where a signal ended it.

use std::io;

/// Wrong usage.
pub(crate) const USAGE: u8 = 64;
/// The node is not there, or cannot do it now.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Reading or writing failed.
pub(crate) const IO: u8 = 74;
/// The node does not allow it.
pub(crate) const NOT_ALLOWED: u8 = 77;
/// The configuration is wrong.
pub(crate) const CONFIG: u8 = 78;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) code: u8,
    /// What standard error says. `None`: everything was said already.
    pub(crate) text: Option<String>,
}

impl Failure {
    /// A failure with a message, which says what to do where that is not obvious.
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: Some(text.into()) }
    }

    /// An end with this code and without a word.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, text: None }
    }

    /// The operating system refused. `doing` is a verb and its object: `write the answer`.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self::new(IO, format!("cannot {doing}: {error}"))
    }
}
