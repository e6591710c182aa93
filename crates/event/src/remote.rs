//! Where a caller is, as its connection shows it. For people; never for deciding.

use std::fmt;
use std::sync::Arc;

/// Where a connection comes from, for log lines only: `10.0.0.2:4411` or `unix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote(Arc<str>);

impl Remote {
    /// The remote with this text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
