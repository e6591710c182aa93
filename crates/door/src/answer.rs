//! Answers: JSON, and the same refusals as gRPC in the form that HTTP knows.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Where the reason stands, as with gRPC.
const REASON: HeaderName = HeaderName::from_static("evermesh-reason");

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Trouble {
    status: StatusCode,
    code: Code,
    reason: String,
    message: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

impl Trouble {
    /// Something in the request is not as it must be.
    pub(crate) fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    pub(crate) fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let (code, reason, message) = (Code::InvalidArgument, reason.to_owned(), message.into());
        Self { status, code, reason, message, retry_after: None, allow: None }
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let message = format!("this takes {allow}");
        let allow = Some(allow);
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_UNKNOWN", message) }
    }

    pub(crate) fn nothing_here(path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        let message = format!(
            "nothing is served at {path}; there is POST and GET /v1/events, and GET \
             /v1/applied/FENCE_TOKEN"
        );
        Self::new(StatusCode::NOT_FOUND, "PATH_UNKNOWN", message)
    }
}

impl From<Status> for Trouble {
    fn from(refused: Status) -> Self {
        let details = refused.get_error_details();
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        let reason = refused.metadata().get(REASON.as_str());
        let reason = reason.and_then(|reason| reason.to_str().ok()).unwrap_or_default().to_owned();
        let (status, code) = (of(refused.code()), refused.code());
        let message = refused.message().to_owned();
        Self { status, code, reason, message, retry_after, allow: None }
    }
}

/// The status that HTTP has for a code, as `google.rpc.Code` maps them.
const fn of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code's name as the protocol writes it: capitals, parted where the type's name has them.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// An answer of JSON.
pub(crate) fn json(value: &Value) -> Response<Body> {
    let mut answer = Response::new(Body::new(format!("{value}\n")));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A refusal as an answer.
pub(crate) fn trouble(trouble: Trouble) -> Response<Body> {
    let Trouble { status, code, reason, message, retry_after, allow } = trouble;
    let seconds = retry_after.map(|after| after.as_secs_f64());
    let error = json!({
        "code": name(code), "reason": reason, "message": message, "retry_after_seconds": seconds,
    });
    let mut answer = json(&json!({ "error": error }));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.extend(HeaderValue::from_str(&reason).ok().map(|reason| (REASON, reason)));
    headers.extend(allow.map(|allow| (ALLOW, HeaderValue::from_static(allow))));
    // In whole seconds, and never sooner than said.
    let whole = retry_after.map(|after| HeaderValue::from(after.as_secs_f64().ceil() as u64));
    headers.extend(whole.map(|whole| (RETRY_AFTER, whole)));
    answer
}
