//! The refusals that several stations have in common.

use std::time::Duration;

use evermesh_event as event;
use evermesh_identity::Denied;
use evermesh_journal::AppendError;
use evermesh_proto::v1::Assurance;
use evermesh_telemetry::Refusal;
use tonic::Code;

/// When a publisher may look whether there is space again.
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// When a client may come back to a node that is stopping: by then another one, or its next start.
const DRAIN_RETRY: Duration = Duration::from_millis(500);

/// The names that subscriptions and producers give themselves.
const WORD_BYTES_MAX: usize = 128;

/// A field of a request is not as it must be.
pub(crate) fn invalid(field: &str, reason: &'static str, message: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, reason, format!("{field}: {message}"))
}

/// The name of a producer or of a subscription: 1 to 128 bytes of printable ASCII.
pub(crate) fn check_word(field: &str, reason: &'static str, word: &str) -> Result<(), Refusal> {
    let printable = word.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if printable && (1..=WORD_BYTES_MAX).contains(&word.len()) {
        return Ok(());
    }
    let shown: String = word.chars().take(32).collect();
    let message = format!(
        "is `{}`, {} bytes; it must be 1 to {WORD_BYTES_MAX} bytes of printable ASCII",
        shown.escape_debug(),
        word.len()
    );
    Err(invalid(field, reason, &message))
}

/// A rule is lacking.
pub(crate) fn denied(denied: &Denied) -> Refusal {
    Refusal::new(Code::PermissionDenied, "NOT_ALLOWED", denied.told()).because(denied)
}

/// The node is stopping.
pub(crate) fn draining() -> Refusal {
    let message = "this node is stopping; connect again";
    Refusal::new(Code::Unavailable, "DRAINING", message).retry_after(DRAIN_RETRY)
}

/// A disk failed between the event and its assurance.
pub(crate) fn outcome_unknown() -> Refusal {
    let message = "whether the events are stored is unknown, because this node's disk failed; \
                   publish them again under the same ids once the node has restarted";
    Refusal::new(Code::Unavailable, "OUTCOME_UNKNOWN", message)
}

/// This node keeps no disk, and says so before anything is taken.
pub(crate) fn nothing_stored(until: Assurance) -> Refusal {
    let message = format!(
        "until: this node keeps no disk ([journal] durability = \"memory\"), so nothing is {} \
         here; ask for ACCEPTED, which promises nothing over a restart, or for APPLIED, or publish \
         at a node that has a disk",
        until.as_str_name().trim_start_matches("ASSURANCE_")
    );
    Refusal::new(Code::FailedPrecondition, "NOTHING_STORED", message)
}

/// What the journal did not take.
pub(crate) fn not_appended(error: AppendError) -> Refusal {
    match error {
        AppendError::Full { .. } => {
            let message = "this node's journal is full: nothing of this request was taken; \
                           try again, and tell its operator";
            let refusal = Refusal::new(Code::ResourceExhausted, "JOURNAL_FULL", message);
            refusal.because(error).retry_after(SPACE_RETRY)
        }
        AppendError::Closed => draining(),
        _ => {
            let message = "this node takes no events until its restart";
            Refusal::new(Code::Unavailable, "JOURNAL_FAILED", message).because(error)
        }
    }
}

/// What a rule of events says of a field of a subscription.
pub(crate) fn field(refusal: &event::Refusal) -> Refusal {
    invalid(refusal.field, refusal.reason, &refusal.message)
}
