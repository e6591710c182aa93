//! The only way to standard output and standard error.
//!
//! A reader that went away (`evermesh status | head -1`) is no error: the command ends quietly.

use std::io::{self, Write as _};

use crate::failure::Failure;

/// Where commands print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output(());

impl Output {
    /// The process's own.
    pub(crate) const fn standard() -> Self {
        Self(())
    }

    /// One line to standard output, seen at once.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Bytes to standard output as they are, seen at once.
    #[expect(clippy::unused_self, reason = "having an Output is the right to print")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| ended(&error))
    }

    /// One line to standard error: progress, or what went wrong.
    #[expect(clippy::unused_self, reason = "having an Output is the right to print")]
    pub(crate) fn note(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stderr().lock();
        out.write_all(format!("{line}\n").as_bytes()).map_err(|error| ended(&error))
    }
}

fn ended(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent(0)
    } else {
        Failure::io("write the answer", error)
    }
}
