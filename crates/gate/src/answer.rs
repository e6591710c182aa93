//! The gate's own answers: gRPC refusals that no service made.
//!
//! Each is a trailers-only response with a canonical code, a `google.rpc.ErrorInfo` of the domain
//! `evermesh`, and its reason once more in `evermesh-reason`, for clients that do not decode
//! details. What a caller sent comes back only as a bounded excerpt, because header lists are
//! limited to 16 KiB on the way back too.

use std::collections::HashMap;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::path::{self, Trick};

/// The domain of every reason that evermesh gives.
const DOMAIN: &str = "evermesh";

/// Where a client finds the reason without decoding details.
const REASON_KEY: &str = "evermesh-reason";

/// When an overloaded gate may be tried again: long enough for thousands of calls to end.
const OVERLOADED_RETRY: Duration = Duration::from_millis(200);

/// Nothing is served at this path.
pub(crate) fn no_route(path: &str) -> Response<Body> {
    let path = path::excerpt(path);
    let message = format!("nothing is served at {path}; check the name of the service");
    let details = info("NO_ROUTE", [("path", path)]);
    refuse(Code::Unimplemented, "NO_ROUTE", message, details)
}

/// The path could be read in two ways.
pub(crate) fn bad_path(path: &str, trick: Trick) -> Response<Body> {
    let path = path::excerpt(path);
    let message = format!("the path {path} {}; evermesh takes plain paths only", trick.0);
    let details = info("BAD_PATH", [("path", path)]);
    refuse(Code::InvalidArgument, "BAD_PATH", message, details)
}

/// gRPC over HTTP/1.1.
pub(crate) fn needs_http2(path: &str) -> Response<Body> {
    let path = path::excerpt(path);
    let message = format!("{path} is gRPC, which needs HTTP/2; without it there is /v1/events");
    refuse(Code::FailedPrecondition, "HTTP_TOO_OLD", message, info("HTTP_TOO_OLD", []))
}

/// The same refusal for a caller that speaks HTTP/1.1 and reads no gRPC status.
pub(crate) fn as_http(refused: Response<Body>) -> Response<Body> {
    let reason = refused.headers().get(REASON_KEY).cloned();
    let status = match reason.as_ref().map(HeaderValue::as_bytes) {
        Some(b"NO_ROUTE") => StatusCode::NOT_FOUND,
        Some(b"HTTP_TOO_OLD") => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        _ => StatusCode::BAD_REQUEST,
    };
    let message = Status::from_header_map(refused.headers());
    let message = message.map(|status| status.message().to_owned()).unwrap_or_default();
    let mut answer = Response::new(Body::new(format!("{message}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.extend(reason.map(|reason| (HeaderName::from_static(REASON_KEY), reason)));
    answer
}

/// More calls wait for an answer than this gate takes.
pub(crate) fn overloaded() -> Response<Body> {
    let message = "too many calls are in flight on this node; try again".to_owned();
    let mut details = info("OVERLOADED", []);
    details.set_retry_info(Some(OVERLOADED_RETRY));
    refuse(Code::ResourceExhausted, "OVERLOADED", message, details)
}

/// A handler broke one of its own invariants.
pub(crate) fn panicked() -> Response<Body> {
    let message = "a fault in this node; its operator's log names the place".to_owned();
    refuse(Code::Internal, "INTERNAL", message, info("INTERNAL", []))
}

fn info<const N: usize>(reason: &str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

fn refuse(
    code: Code,
    reason: &'static str,
    message: String,
    details: ErrorDetails,
) -> Response<Body> {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON_KEY, MetadataValue::from_static(reason));
    Status::with_error_details_and_metadata(code, message, details, metadata).into_http()
}
