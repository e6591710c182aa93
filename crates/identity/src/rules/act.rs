//! Acts: the kinds of things that an identity may be permitted to do.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::Error;

/// A kind of thing that needs permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Publishing events to a site.
    Publish,
    /// Hearing a site's events.
    Subscribe,
    /// Being a member: pulling everything, and serving it.
    Replicate,
    /// Registering an endpoint at the gate.
    Register,
    /// Calling an endpoint.
    Call,
    /// Looking: status, metrics, recent events.
    Observe,
    /// Changing: forgetting members, leaving, dead letters.
    Operate,
}

impl Act {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Publish,
        Self::Subscribe,
        Self::Replicate,
        Self::Register,
        Self::Call,
        Self::Observe,
        Self::Operate,
    ];

    /// As rules write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Replicate => "replicate",
            Self::Register => "register",
            Self::Call => "call",
            Self::Observe => "observe",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Act {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let act = Self::ALL.into_iter().find(|act| act.as_str() == text);
        act.ok_or_else(|| Error::Act(text.chars().take(40).collect()))
    }
}
