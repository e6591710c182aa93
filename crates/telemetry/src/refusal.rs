//! Refusals: one form for every caller, one log line and one count for every operator.
//!
//! A canonical gRPC code, `google.rpc.ErrorInfo` with the domain `evermesh` and a documented
//! reason, the reason again in the trailer `evermesh-reason` for clients that do not decode
//! details, and how soon to try again where that helps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason that evermesh gives.
const DOMAIN: &str = "evermesh";
/// Where a client finds the reason without decoding details.
const REASON_KEY: &str = "evermesh-reason";
/// Messages go into a header, and headers are limited to 16 KiB together.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Why a call, or a stream, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    /// Only for the operator's log.
    detail: Option<String>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// What the caller is told: no more than it may know.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into().chars().take(MESSAGE_CHARS_MAX).collect();
        Self { code, reason, message, detail: None, retry_after: None }
    }

    /// What only the operator is told.
    #[must_use]
    pub fn because(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Trying again after this may succeed.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The documented reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    fn into_status(self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, HashMap::new());
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        let mut metadata = MetadataMap::new();
        metadata.insert(REASON_KEY, MetadataValue::from_static(self.reason));
        Status::with_error_details_and_metadata(self.code, self.message, details, metadata)
    }
}

/// Logs and counts refusals. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Refusals {
    /// Logs and counts a refusal, and makes what the caller gets.
    #[must_use]
    pub fn refuse(&self, who: &str, refusal: Refusal) -> Status {
        let Refusal { reason, message, detail, .. } = &refusal;
        self.note(who, reason, message, detail.as_deref().unwrap_or_default());
        refusal.into_status()
    }

    /// Logs and counts a refusal of a part of a call, which is answered within the call.
    pub fn note(&self, who: &str, reason: &'static str, message: &str, detail: &str) {
        let count = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(reason).or_default();
            *count += 1;
            *count
        };
        // The first of each reason, and then ever fewer: a caller that is refused all day does not
        // fill the disk with log lines.
        if count.is_power_of_two() || count % 1000 == 0 {
            tracing::warn!(who, reason, count, detail, "refused: {message}");
        }
    }

    /// How often each reason was given in this start.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_reason_and_retry_and_not_what_only_the_operator_may_know() {
        let refusals = Refusals::default();
        let refusal = Refusal::new(Code::ResourceExhausted, "JOURNAL_FULL", "no space")
            .because("4 GiB of 4 GiB")
            .retry_after(Duration::from_secs(1));
        let status = refusals.refuse("local:uid=1", refusal);
        assert_eq!(status.metadata().get(REASON_KEY).unwrap(), "JOURNAL_FULL");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("JOURNAL_FULL", "evermesh"));
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        assert!(!format!("{status:?}").contains("GiB"));
        assert_eq!(refusals.counts().get("JOURNAL_FULL"), Some(&1));
    }
}
