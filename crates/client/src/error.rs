//! What can go wrong for an application: one message for people, whose fault it is, and whether
//! trying again helps.
//!
//! A node's refusal is judged by its documented reason first; codes alone are ambiguous, because
//! the transport reports the death of a connection under several of them.

use std::io;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::Address;
use crate::dialing::{Failed, Line};

/// Who gave the reasons that this crate knows.
const DOMAIN: &str = "evermesh";

/// Why something did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node that refused.
    pub address: Address,
    /// The canonical code.
    pub code: Code,
    /// A documented reason, such as `JOURNAL_FULL`. Empty if something between here and the node
    /// refused.
    pub reason: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// After which time the node asks to be tried again.
    pub retry_after: Option<Duration>,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be, or not in this form.
    Application,
    /// An address, a certificate, a rule or a permission is not as it should be.
    Operator,
    /// The node cannot do it, now or at all.
    Node,
    /// The node is not there, or something between here and it broke.
    Network,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is no address.
    #[error(
        "not an address of a node: {0}; write unix:/PATH of its local socket, or https://HOST:PORT \
         of its shared port"
    )]
    Address(&'static str),
    /// Files of credentials that are not there or cannot be used.
    #[error(transparent)]
    Credentials(#[from] evermesh_identity::Error),
    /// Credentials that do not suffice.
    #[error("{address} cannot be dialled: the credentials lack {lacks}")]
    Incomplete {
        /// The node.
        address: Address,
        /// What is not given.
        lacks: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    World(io::Error),
    /// No connection to the node.
    #[error("no node answers at {address}: {reason}")]
    Unreachable {
        /// The node.
        address: Address,
        /// What the system said, and what to look at.
        reason: String,
        /// A later dial may succeed.
        retry: bool,
    },
    /// The node ended TLS.
    #[error(
        "{address} refuses this certificate ({alert}); show one that an authority of [tls] ca of \
         that node signed, and that is valid now"
    )]
    Unwelcome {
        /// The node.
        address: Address,
        /// The alert that it sent.
        alert: String,
    },
    /// The connection broke while the call was under way.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// The node.
        address: Address,
        /// What the transport said.
        reason: String,
    },
    /// The node said no.
    #[error("{} refuses: {}", .0.address, .0.message)]
    Refused(Box<Refusal>),
    /// The node said nothing.
    #[error(
        "{address} did not answer within {waited:?}; whether it did what was asked is unknown, and \
         asking again under the same ids is safe"
    )]
    Late {
        /// The node.
        address: Address,
        /// How long it had.
        waited: Duration,
    },
    /// The node said something that cannot be.
    #[error("{address} answered what cannot be: {what}; is it an evermesh of another version?")]
    Unexpected {
        /// The node.
        address: Address,
        /// What it said.
        what: String,
    },
    /// More events in one call than a node takes.
    #[error(
        "{events} events of {bytes} bytes are too much for one call: at most 4096 events and \
         1 MiB; publish them in several"
    )]
    TooMuch {
        /// How many events.
        events: usize,
        /// Their encoded length together.
        bytes: usize,
    },
    /// A counter of a producer that does not rise.
    #[error("counter {counter} of a producer is not above {last}, which it handed in before")]
    Counter {
        /// The counter.
        counter: u64,
        /// The last one.
        last: u64,
    },
    /// Two producers of one name.
    #[error(
        "the node knows counter {highest} of producer {producer}, which has only reached \
         {handed_in} here: another producer uses the same name, and events are taken for each \
         other; give each producer a name of its own"
    )]
    Shared {
        /// The name.
        producer: String,
        /// What the node knows.
        highest: u64,
        /// What was handed in here.
        handed_in: u64,
    },
    /// The handler's own fault.
    #[error("the handler panicked in `{during}`, and this was not acknowledged: {said}")]
    Panicked {
        /// Which of its methods.
        during: &'static str,
        /// What it said.
        said: String,
    },
    /// A newer stream has the durable name.
    #[error("another subscriber at {address} took over the durable name")]
    TakenOver {
        /// The node.
        address: Address,
    },
}

impl Error {
    /// What a status means that came from this node.
    pub(crate) fn of(line: &Line, status: &Status) -> Self {
        let address = line.address.clone();
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        if let Some(dialled) = dial_failed(status) {
            let Failed { text: reason, retry } = dialled.clone();
            return Self::Unreachable { address, reason, retry };
        }
        let local = std::error::Error::source(status).is_some();
        if info.is_none() && (local || matches!(status.code(), Code::Unknown | Code::Unavailable)) {
            return match line.alert() {
                Some(alert) => Self::Unwelcome { address, alert },
                None => Self::Broken { address, reason: innermost(status) },
            };
        }
        Self::Refused(Box::new(Refusal {
            address,
            code: status.code(),
            reason: info.map(|info| info.reason).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }))
    }

    /// The node's documented reason, where the node refused.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.reason).filter(|r| !r.is_empty()).map(|r| &**r),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { retry, .. } => *retry,
            Self::Broken { .. } | Self::Late { .. } => true,
            Self::Refused(refusal) => {
                refusal.retry_after.is_some() || refusal.code == Code::Unavailable
            }
            _ => false,
        }
    }

    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Late { .. } | Self::Unexpected { .. } => true,
            Self::Refused(refusal) => {
                matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal)
            }
            _ => false,
        }
    }

    /// How long the node asks to wait before the next try, where it says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Address(_)
            | Self::TooMuch { .. }
            | Self::Counter { .. }
            | Self::Shared { .. }
            | Self::Panicked { .. }
            | Self::TakenOver { .. } => Fault::Application,
            Self::Credentials(_) | Self::Incomplete { .. } | Self::Unwelcome { .. } => {
                Fault::Operator
            }
            Self::Unreachable { retry, .. } if !retry => Fault::Operator,
            Self::Unreachable { .. } | Self::Broken { .. } => Fault::Network,
            Self::World(_) | Self::Late { .. } | Self::Unexpected { .. } => Fault::Node,
            Self::Refused(refusal) => match refusal.code {
                Code::PermissionDenied | Code::Unauthenticated => Fault::Operator,
                Code::InvalidArgument
                | Code::OutOfRange
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::NotFound
                | Code::AlreadyExists
                | Code::Aborted => Fault::Application,
                _ => Fault::Node,
            },
        }
    }
}

/// The dial that failed, where that was it.
fn dial_failed(status: &Status) -> Option<&Failed> {
    causes(status).find_map(|cause| cause.downcast_ref::<Failed>())
}

/// What the system or the library at the bottom said.
fn innermost(status: &Status) -> String {
    // A status as a cause repeats what those below it say.
    let causes = causes(status).skip(1).filter(|cause| !cause.is::<Status>());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = status;
    std::iter::successors(Some(first), |cause| cause.source())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn of(status: &Status) -> Error {
        Error::of(&Line::new("/n.sock".parse().unwrap()), status)
    }

    fn refused(code: Code, reason: &str, retry: Option<Duration>) -> Error {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, []);
        if retry.is_some() {
            details.set_retry_info(retry);
        }
        of(&Status::with_error_details(code, "no", details))
    }

    #[test]
    fn a_refusal_is_judged_by_its_details_before_its_code() {
        let second = Some(Duration::from_secs(1));
        let full = refused(Code::ResourceExhausted, "JOURNAL_FULL", second);
        assert_eq!(full.reason(), Some("JOURNAL_FULL"));
        assert_eq!((full.is_retryable(), full.retry_after()), (true, second));
        assert_eq!(full.fault(), Fault::Node);
        assert!(refused(Code::Unavailable, "DRAINING", None).is_retryable());
        let denied = refused(Code::PermissionDenied, "NO_RULE", None);
        assert_eq!((denied.is_retryable(), denied.fault()), (false, Fault::Operator));
        assert_eq!(denied.to_string(), "unix:/n.sock refuses: no");
        let invalid = refused(Code::InvalidArgument, "NO_EVENTS", None);
        assert_eq!((invalid.is_retryable(), invalid.fault()), (false, Fault::Application));
    }

    #[test]
    fn the_same_code_from_the_transport_is_a_broken_connection() {
        for code in [Code::ResourceExhausted, Code::Internal, Code::Cancelled, Code::Unknown] {
            let mut status = Status::new(code, "h2");
            status.set_source(std::sync::Arc::new(io::Error::other("reset by peer")));
            let error = of(&status);
            assert!(error.is_retryable(), "{code:?}");
            assert_eq!(error.to_string(), "the connection to unix:/n.sock broke: reset by peer");
        }
        assert!(!of(&Status::new(Code::ResourceExhausted, "from the node")).is_retryable());
        assert!(of(&Status::new(Code::Unknown, "without a final status")).is_retryable());
    }
}
