//! A denial: all of it for the operator's log, and little for the caller.

use std::fmt;
use std::sync::Arc;

use super::Act;
use crate::Identity;

/// What is shown of a site that a caller named.
const SHOWN_CHARS_MAX: usize = 64;

/// An act that was not permitted. Its `Display` is for the operator; the caller gets
/// [`Denied::told`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `NO_RULE`: nothing allows this identity this act. `OTHER_SITES`: a rule does, for other
    /// sites. `NOT_A_MEMBER`: only members replicate.
    pub reason: &'static str,
    /// Who wanted it.
    pub who: Arc<str>,
    /// What.
    pub act: Act,
    /// For which site.
    pub site: Option<String>,
}

impl Denied {
    pub(super) fn new(reason: &'static str, who: &Identity, act: Act, site: Option<&str>) -> Self {
        // A caller's text goes to logs: no control characters, and not all of a long one.
        let shown =
            |site: &str| site.chars().flat_map(char::escape_debug).take(SHOWN_CHARS_MAX).collect();
        Self { reason, who: Arc::clone(who.text()), act, site: site.map(shown) }
    }

    /// What the caller learns: that this is not allowed, and neither why nor to whom it is.
    #[must_use]
    pub fn told(&self) -> String {
        format!("not allowed to {}", Wanted(self))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not allowed to {} ({})", self.who, Wanted(self), self.reason)
    }
}

impl std::error::Error for Denied {}

/// The act in a sentence.
struct Wanted<'a>(&'a Denied);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.act, self.0.site.as_deref()) {
            (Act::Publish, Some(site)) => write!(f, "publish to site `{site}`"),
            (Act::Subscribe, Some(site)) => write!(f, "subscribe to site `{site}`"),
            (Act::Subscribe, None) => f.write_str("subscribe to all sites"),
            (Act::Register, Some(path)) => write!(f, "register `{path}`"),
            (Act::Call, Some(path)) => write!(f, "call `{path}`"),
            (Act::Observe, Some(site)) => write!(f, "observe site `{site}`"),
            (Act::Observe | Act::Operate, _) => write!(f, "{} this node", self.0.act),
            (act, _) => write!(f, "{act}"),
        }
    }
}
