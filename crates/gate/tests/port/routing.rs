//! Paths: to their service, to nothing, and tricks.

use evermesh_gate::{Limits, Routes};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::pipes::{Port, seen};
use crate::services;

#[tokio::test(start_paused = true)]
async fn a_call_reaches_the_service_that_its_path_names() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let answer = caller.call("/test.v1.Who/Ask").await;
    assert_eq!(answer.status().code(), Code::Ok);
    assert_eq!(answer.text("path"), "/test.v1.Who/Ask");
    assert_eq!(seen(&port.counters.calls), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_path_is_unimplemented_and_named() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    for path in ["/test.v1.Nobody/Ask", "/test.v1.Wh/o", "/test.v1.WhoX/Ask", "/test.v1.Who", "/"] {
        let answer = caller.call(path).await;
        let status = answer.status();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(status.message().contains(path), "{path}: {}", status.message());
        assert_eq!(answer.text("evermesh-reason"), "NO_ROUTE");
        assert_eq!(answer.text("content-type"), "application/grpc");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NO_ROUTE", "evermesh"));
        assert_eq!(info.metadata["path"], path);
    }
    assert_eq!(seen(&port.counters.no_route), 5);
}

#[tokio::test(start_paused = true)]
async fn an_answer_repeats_only_the_beginning_of_a_long_path() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let answer = caller.call(&format!("/{}/Ask", "long".repeat(2_000))).await;
    assert_eq!(answer.status().code(), Code::Unimplemented);
    let size: usize =
        answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(size < 1_500, "{size}");
}

#[tokio::test(start_paused = true)]
async fn tricks_are_refused_before_they_are_matched() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let tricks = [
        "//test.v1.Who/Ask",
        "/test.v1.Who//Ask",
        "/test.v1.Nobody/../test.v1.Who/Ask",
        "/test.v1.Who/./Ask",
        "/test.v1.Who%2fAsk",
        "/test.v1.Who/%2e%2e/Ask",
        "/test%2Ev1.Who/Ask",
    ];
    for path in tricks {
        let answer = caller.call(path).await;
        assert_eq!(answer.status().code(), Code::InvalidArgument, "{path}");
        assert_eq!(answer.text("evermesh-reason"), "BAD_PATH");
        assert_eq!(answer.text("path"), "", "{path} reached a handler");
    }
    assert_eq!(seen(&port.counters.bad_path), tricks.len() as u64);
    assert_eq!(caller.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
}

#[test]
#[should_panic(expected = "routed twice")]
fn a_built_in_cannot_be_shadowed() {
    let (first, _) = services::held();
    let (second, _) = services::held();
    let _ = Routes::builder().service("test.v1.A", first).service("test.v1.A", second);
}

#[test]
#[should_panic(expected = "no service name")]
fn a_name_with_a_slash_is_no_service() {
    let (service, _) = services::held();
    let _ = Routes::builder().service("/test.v1.A/", service);
}
