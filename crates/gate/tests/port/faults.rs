//! Faults of handlers: they cost their own call.

use evermesh_gate::Limits;
use tonic::Code;

use crate::pipes::{Port, ended, seen};
use crate::services;

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_call_and_not_the_connection() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let answer = caller.call("/test.v1.Panics/Now").await;
    assert_eq!(answer.status().code(), Code::Internal);
    assert_eq!(answer.text("evermesh-reason"), "INTERNAL");
    assert!(!answer.status().message().contains("on purpose"));
    assert_eq!(caller.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
    assert_eq!(seen(&port.counters.panics), 1);
    assert_eq!(seen(&port.counters.accepted), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_body_resets_its_stream_and_not_the_connection() {
    let port = Port::open(services::routes(), Limits::default());
    let caller = port.caller().await;
    let response = caller.get("/test.v1.BreaksOff/Now").await;
    if let Ok(response) = response {
        assert!(response.into_body().data().await.unwrap().is_err());
    }
    assert_eq!(caller.call("/test.v1.Who/Ask").await.status().code(), Code::Ok);
    port.handle.stop();
    ended(port.serving).await;
}
