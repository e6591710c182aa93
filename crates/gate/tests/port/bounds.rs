//! Bounds: offenders are cut off, and others are served while they offend.

use std::io;
use std::time::Duration;

use evermesh_gate::{Limits, Routes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::pipes::{Port, request, seen, until};
use crate::services;

#[tokio::test(start_paused = true)]
async fn who_says_nothing_delays_nobody_and_is_closed_at_the_deadline() {
    let port = Port::open(services::routes(), Limits::default());
    let begun = Instant::now();
    let mut loris = port.dial();
    loris.write_all(b"PRI * HT").await.unwrap();
    let other = port.caller().await.call("/test.v1.Who/Ask").await;
    assert_eq!(other.status().code(), Code::Ok);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(seen(&port.counters.refused), 0);

    assert_eq!(loris.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), Limits::default().handshake_deadline);
    assert_eq!(seen(&port.counters.refused), 1);
}

#[tokio::test(start_paused = true)]
async fn another_protocol_is_refused_at_once() {
    let port = Port::open(services::routes(), Limits::default());
    let begun = Instant::now();
    let mut browser = port.dial();
    browser.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(browser.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(seen(&port.counters.refused), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_only_connects_is_not_counted_as_refused() {
    let port = Port::open(services::routes(), Limits::default());
    drop(port.dial());
    until(|| seen(&port.counters.abandoned) == 1).await;
    assert_eq!(seen(&port.counters.refused), 0);
}

#[tokio::test(start_paused = true)]
async fn handshakes_have_a_bound_which_frees_itself() {
    let limits = Limits { handshakes_max: 2, ..Limits::default() };
    let port = Port::open(services::routes(), limits);
    let established = port.caller().await;
    established.call("/test.v1.Who/Ask").await;

    let mut lorises = [port.dial(), port.dial()];
    let mut unlucky = port.dial();
    assert_eq!(unlucky.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(seen(&port.counters.over_handshakes), 1);
    assert_eq!(established.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);

    for loris in &mut lorises {
        assert_eq!(loris.read(&mut [0; 1]).await.unwrap(), 0);
    }
    let lucky = port.caller().await.call("/test.v1.Who/Ask").await;
    assert_eq!(lucky.status().code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn connections_have_a_bound_which_frees_itself() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let port = Port::open(services::routes(), limits);
    let first = port.caller().await;
    assert_eq!(first.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
    assert_eq!(seen(&port.counters.open), 1);

    let mut second = port.dial();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(seen(&port.counters.over_connections), 1);
    assert_eq!(first.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);

    drop(first.send);
    first.connection.await.unwrap().unwrap();
    until(|| seen(&port.counters.open) == 0).await;
    let third = port.caller().await.call("/test.v1.Who/Ask").await;
    assert_eq!(third.status().code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_listener_is_a_pause_and_not_the_end() {
    let port = Port::open(services::routes(), Limits::default());
    let begun = Instant::now();
    for _ in 0..3 {
        // EMFILE: no file descriptor is left.
        port.fail(io::Error::from_raw_os_error(24));
    }
    let answer = port.caller().await.call("/test.v1.Who/Ask").await;
    assert_eq!(answer.status().code(), Code::Ok);
    assert_eq!(seen(&port.counters.accept_errors), 3);
    assert_eq!(begun.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_shed_with_a_hint() {
    let (service, mut held) = services::held();
    let routes = Routes::builder().service("test.v1.Held", service).build();
    let limits = Limits { in_flight_max: 1, ..Limits::default() };
    let port = Port::open(routes, limits);
    let [one, other] = [port.caller().await, port.caller().await];
    let first = one.begin(request("/test.v1.Held/A")).await.unwrap();
    held.entered.recv().await.unwrap();

    let shed = other.call("/test.v1.Held/A").await;
    assert_eq!(shed.status().code(), Code::ResourceExhausted);
    assert_eq!(shed.text("evermesh-reason"), "OVERLOADED");
    assert!(shed.status().get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(seen(&port.counters.overloaded), 1);

    held.let_go.add_permits(2);
    assert_eq!(first.await.unwrap().headers()["grpc-status"], "0");
    assert_eq!(other.call("/test.v1.Held/A").await.status().code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_is_not_in_flight() {
    let limits = Limits { in_flight_max: 1, ..Limits::default() };
    let port = Port::open(services::routes(), limits);
    let caller = port.caller().await;
    let mut stream = caller.get("/test.v1.Endless/Run").await.unwrap().into_body();
    assert_eq!(stream.data().await.unwrap().unwrap(), "begun");
    assert_eq!(caller.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn headers_that_are_too_long_end_the_call_and_not_the_connection() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let mut long = request("/test.v1.Who/Ask");
    long.headers_mut().insert("long", "x".repeat(20 << 10).parse().unwrap());
    let answer = caller.begin(long).await.unwrap().await;
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    assert_eq!(caller.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_vanished_is_found_by_ping() {
    let port = Port::open(services::routes(), Limits::default());
    let mut mute = port.dial();
    let begun = Instant::now();
    // The preface and empty settings; then it answers nothing any more, though it stays connected.
    mute.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    mute.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut said = Vec::new();
    timeout(Duration::from_secs(60), mute.read_to_end(&mut said)).await.unwrap().unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(seen(&port.counters.open), 0);
}
