//! The end: what may finish finishes, what does not is dropped when stopping is ordered.

use std::time::Duration;

use evermesh_gate::{Limits, Routes};
use tokio::time::Instant;
use tonic::Code;

use crate::pipes::{Caller, Port, ended, request, seen, until};
use crate::services;

#[tokio::test(start_paused = true)]
async fn idle_connections_are_told_to_go_away_and_serving_ends_by_itself() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    caller.call("/test.v1.Who/Ask").await;
    port.handle.finish();
    ended(port.serving).await;
    caller.connection.await.unwrap().unwrap();
    assert_eq!(seen(&port.counters.open), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_is_answered() {
    let (service, mut held) = services::held();
    let port =
        Port::open(Routes::builder().service("test.v1.Held", service).build(), Limits::default());
    let caller = port.caller().await;
    let answer = caller.begin(request("/test.v1.Held/A")).await.unwrap();
    held.entered.recv().await.unwrap();
    port.handle.finish();
    until(|| !port.listens()).await;
    held.let_go.add_permits(1);
    assert_eq!(answer.await.unwrap().headers()["grpc-status"], "0");
    ended(port.serving).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_ends_at_stop_and_not_before() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let mut stream = caller.get("/test.v1.Endless/Run").await.unwrap().into_body();
    assert_eq!(stream.data().await.unwrap().unwrap(), "begun");
    let begun = Instant::now();
    let deadline = Duration::from_secs(10);
    port.handle.finish_within(deadline, ended(port.serving)).await;
    assert_eq!(begun.elapsed(), deadline);
    assert!(stream.data().await.is_none_or(|data| data.is_err()));
    assert_eq!(seen(&port.counters.open), 0);
}

/// On several threads, because the handler's end blocks one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_ends_only_after_its_handlers() {
    let (service, mut entered, let_end) = services::reluctant();
    let routes = Routes::builder().service("test.v1.Reluctant", service).build();
    let port = Port::open(routes, Limits::default());
    let caller = port.caller().await;
    let _answer = caller.begin(request("/test.v1.Reluctant/A")).await.unwrap();
    entered.recv().await.unwrap();
    port.handle.stop();
    until(|| seen(&port.counters.open) == 0).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(!port.serving.is_finished(), "a handler still lives");
    }
    let_end.send(()).unwrap();
    ended(port.serving).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_hold_up_stopping() {
    let port = Port::open(services::routes(), Limits::default());
    let _loris = port.dial();
    until(|| seen(&port.counters.accepted) == 1).await;
    let begun = Instant::now();
    port.handle.stop();
    ended(port.serving).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_was_accepted_before_the_drain_hears_go_away_and_not_a_closed_door() {
    let port = Port::open(services::routes(), Limits::default());
    let accepted = port.dial();
    until(|| seen(&port.counters.accepted) == 1).await;
    port.handle.finish();
    until(|| !port.listens()).await;
    let late = Caller::speak(accepted).await.unwrap();
    late.connection.await.unwrap().unwrap();
    ended(port.serving).await;
}

#[tokio::test(start_paused = true)]
async fn a_pausing_acceptor_hears_the_drain() {
    let port = Port::open(services::routes(), Limits::default());
    port.fail(std::io::Error::other("scripted"));
    until(|| seen(&port.counters.accept_errors) == 1).await;
    let begun = Instant::now();
    port.handle.finish();
    ended(port.serving).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_connection_ending_does_not_end_another() {
    let port = Port::open(services::routes(), Limits::default());
    let [one, other] = [port.caller().await, port.caller().await];
    one.call("/test.v1.Who/Ask").await;
    other.call("/test.v1.Who/Ask").await;
    one.connection.abort();
    drop(one.send);
    until(|| seen(&port.counters.open) == 1).await;
    assert_eq!(other.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
}
