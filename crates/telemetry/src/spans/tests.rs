//! Intake: which context an event carries on, for every combination of sampler and given context.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evermesh_event::world::Random;
use proptest::prelude::*;

use super::*;
use crate::{Options, Telemetry, init, sampled};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Draws 1, 2, 3, … in every byte.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        bytes.fill(u8::try_from(next % 255).unwrap() + 1);
    }
}

/// Draws only zeros.
#[derive(Debug)]
struct Broken;

impl Random for Broken {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Telemetry with this sampler; its collector is never called, because nothing is recorded.
fn started(sampler: &'static str, random: Arc<dyn Random>) -> Telemetry {
    let environment = move |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://collector.invalid:4317".to_owned()),
        "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
        _ => None,
    };
    init(&Options { node: "web-1", logs: None, random, environment: &environment }).unwrap()
}

fn counting(sampler: &'static str) -> Telemetry {
    started(sampler, Arc::new(Counting::default()))
}

#[test]
fn off_passes_a_valid_context_on_and_nothing_else() {
    let spans = Spans::off();
    assert!(!spans.enabled());
    for given in [SAMPLED, UNSAMPLED] {
        let intake = spans.intake(given);
        assert!(matches!(intake.traceparent, Cow::Borrowed(kept) if kept == given));
        assert_eq!(intake.sampled, given == SAMPLED);
        assert!(intake.keeps_tracestate && intake.parent.is_none());
    }
    for given in ["", "nonsense", &SAMPLED.to_uppercase()] {
        assert_eq!(spans.intake(given), Intake::none());
    }
}

#[test]
fn a_sampled_context_continues_through_the_publish_span() {
    let telemetry = counting("parentbased_always_off");
    let intake = telemetry.spans().intake(SAMPLED);
    assert!(intake.sampled && intake.keeps_tracestate);
    assert_eq!(intake.parent, Some(Parent(0x00f0_67aa_0ba9_02b7_u64.to_be_bytes())));
    let (given, stored) =
        (Traceparent::parse(SAMPLED).unwrap(), Traceparent::parse(&intake.traceparent).unwrap());
    assert_eq!(stored.trace, given.trace);
    assert_ne!(stored.span, given.span);
    assert!(sampled(&intake.traceparent));
}

#[test]
fn an_unsampled_context_is_kept_as_it_came() {
    let telemetry = counting("parentbased_always_on");
    let intake = telemetry.spans().intake(UNSAMPLED);
    assert!(matches!(intake.traceparent, Cow::Borrowed(kept) if kept == UNSAMPLED));
    assert!(!intake.sampled && intake.keeps_tracestate && intake.parent.is_none());
}

#[test]
fn a_sampler_that_does_not_follow_the_parent_decides_anew() {
    let intake = counting("always_off").spans().intake(SAMPLED).traceparent.into_owned();
    assert_eq!(intake, UNSAMPLED);
    let telemetry = counting("always_on");
    let spans = telemetry.spans();
    let intake = spans.intake(UNSAMPLED);
    assert!(intake.sampled && sampled(&intake.traceparent) && intake.parent.is_some());
}

#[test]
fn without_a_usable_context_a_trace_begins_if_the_sampler_says_so() {
    let telemetry = counting("parentbased_always_on");
    let spans = telemetry.spans();
    let (first, second) = (spans.intake(""), spans.intake("00-nonsense"));
    for intake in [&first, &second] {
        assert!(intake.sampled && sampled(&intake.traceparent));
        assert!(!intake.keeps_tracestate && intake.parent.is_none());
    }
    assert_ne!(first.traceparent, second.traceparent);
    assert_eq!(counting("always_off").spans().intake(""), Intake::none());
    assert_eq!(counting("always_off").spans().intake("00-nonsense"), Intake::none());
}

#[test]
fn an_id_is_never_zero() {
    let telemetry = started("always_on", Arc::new(Broken));
    assert!(sampled(&telemetry.spans().intake("").traceparent));
    assert!(sampled(&telemetry.spans().intake(SAMPLED).traceparent));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_stored_is_a_context_or_nothing(
        incoming in prop_oneof![".{0,70}", "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}-?x?"],
    ) {
        let telemetry = counting("parentbased_always_on");
        for spans in [telemetry.spans(), Spans::off()] {
            let intake = spans.intake(&incoming);
            prop_assert_eq!(intake.sampled, sampled(&intake.traceparent));
            let stored = Traceparent::parse(&intake.traceparent);
            prop_assert_eq!(stored.is_none(), intake.traceparent.is_empty());
            if let Some(given) = Traceparent::parse(&incoming) {
                prop_assert_eq!(stored.unwrap().trace, given.trace);
                prop_assert_eq!(intake.sampled, given.is_sampled());
                prop_assert!(intake.keeps_tracestate);
            } else {
                prop_assert!(!intake.keeps_tracestate);
            }
        }
    }
}
