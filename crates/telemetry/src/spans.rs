//! What the stations of an event's way hold: the trace context at intake, and spans after the fact.
//!
//! Step 1 and every later one. At intake the event is given its context once; from then on whoever
//! handles the event on any node records a span into the same trace, with the times it measured.
//!
//! Always holds: the span id in a stored, sampled context is the one of the publish span, so every
//! later span is its child. Off, or for an event that is not sampled, nothing is allocated.
//!
//! Deliberately absent: spans that are open. A span is recorded when it is over, or never.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use evermesh_event::world::Random;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::export::Outlet;
use crate::settings::Sampling;
use crate::traceparent::Traceparent;

/// Records spans, or does nothing. Cheap to clone; every station holds one.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// `None`: off.
    tracing: Option<Arc<Tracing>>,
}

/// What all clones share.
#[derive(Debug)]
struct Tracing {
    /// This node's name.
    node: StringValue,
    /// Decides at intake.
    sampling: Sampling,
    /// Where ids are drawn.
    random: Arc<dyn Random>,
    /// Named in every span.
    scope: InstrumentationScope,
    /// The exporter holds the other end.
    outlet: Outlet,
}

/// The trace context of an event that was just handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake<'a> {
    /// What the event carries from now on. Empty: no trace.
    pub traceparent: Cow<'a, str>,
    /// Whether its trace is recorded; the block that takes it says so too.
    pub sampled: bool,
    /// Whether the application's `tracestate` still belongs to it; otherwise it must be removed.
    pub keeps_tracestate: bool,
    /// The application's own span, for [`Station::Publish`].
    pub parent: Option<Parent>,
}

/// The span of the application that raised the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent([u8; 8]);

/// Where on its way an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// `evermesh.publish`: from the request until it is assured, on the origin.
    Publish {
        /// From [`Intake`].
        parent: Option<Parent>,
    },
    /// `evermesh.replicate`: from the arrival of its block until it is appended, on another node.
    Replicate,
    /// `evermesh.deliver`: from sending until the application acknowledged it.
    Deliver,
}

/// A span that is over.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    /// Which station records it.
    pub station: Station,
    /// As the event carries it.
    pub traceparent: &'a str,
    /// When it began.
    pub begin: SystemTime,
    /// When it was over.
    pub end: SystemTime,
    /// The event's site.
    pub site: &'a str,
    /// The event's type.
    pub event_type: &'a str,
    /// The event's id.
    pub event_id: &'a str,
    /// The name of the node that numbered it.
    pub origin: &'a str,
    /// Its number, as it is shown: `web-1/3:17`. Made only once the event is known to be sampled.
    pub sequence: &'a dyn std::fmt::Display,
    /// Who is at the other end: the publisher's or subscriber's identity, or the peer.
    pub peer: Option<&'a str>,
    /// The context of the call or stream that carried it together with others: a link.
    pub batch: Option<&'a str>,
}

impl Station {
    /// The span's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish { .. } => "evermesh.publish",
            Self::Replicate => "evermesh.replicate",
            Self::Deliver => "evermesh.deliver",
        }
    }

    /// The conventions' name of what is done, and its kind of operation where they have one.
    fn operation(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Publish { .. } => ("publish", Some("send")),
            Self::Replicate => ("replicate", None),
            Self::Deliver => ("deliver", Some("process")),
        }
    }

    /// Its part in the trace.
    fn kind(self) -> SpanKind {
        match self {
            Self::Publish { .. } => SpanKind::Producer,
            Self::Replicate => SpanKind::Internal,
            Self::Deliver => SpanKind::Consumer,
        }
    }
}

impl Spans {
    /// Records nothing: for tests, simulation, and nodes without a collector.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Records through an exporter.
    pub(crate) fn on(
        node: &str,
        sampling: Sampling,
        random: Arc<dyn Random>,
        outlet: Outlet,
    ) -> Self {
        let node = StringValue::from(Arc::<str>::from(node));
        let scope = InstrumentationScope::builder("evermesh")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self { tracing: Some(Arc::new(Tracing { node, sampling, random, scope, outlet })) }
    }

    /// Whether spans are exported at all. Stations that would have to keep times for them may ask.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.tracing.is_some()
    }

    /// How many spans were dropped in this start: the queue was full, or the collector refused.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.tracing.as_ref().map_or(0, |tracing| tracing.outlet.dropped())
    }

    /// Decides the context that an event will carry, from the one it came with (or an empty text).
    ///
    /// A valid context stays in its trace, and its decision stands unless the sampler is one that
    /// does not follow the parent. Without a context, or with a malformed one, the sampler is asked
    /// whether a new trace begins. With tracing off, a valid context passes through as it came, for
    /// nodes that do trace.
    #[must_use]
    pub fn intake<'a>(&self, incoming: &'a str) -> Intake<'a> {
        let given = if incoming.is_empty() { None } else { Traceparent::parse(incoming) };
        let Some(tracing) = &self.tracing else {
            return given.map_or_else(Intake::none, |given| Intake::kept(incoming, given));
        };
        match given {
            Some(given) => tracing.continued(incoming, given),
            None => tracing.begun(),
        }
    }

    /// Records a span of a sampled event. Never waits; does nothing for any other event.
    pub fn record(&self, span: &Span<'_>) {
        let Some(tracing) = &self.tracing else { return };
        let context = Traceparent::parse(span.traceparent).filter(|read| read.is_sampled());
        if let Some(context) = context {
            tracing.outlet.send(|| tracing.data(context, span));
        }
    }
}

impl<'a> Intake<'a> {
    /// No trace.
    fn none() -> Self {
        let traceparent = Cow::Borrowed("");
        Self { traceparent, sampled: false, keeps_tracestate: false, parent: None }
    }

    /// The context as it came: no span of this node comes between.
    fn kept(incoming: &'a str, context: Traceparent) -> Self {
        let written = context.to_string();
        let unchanged = written == incoming;
        let traceparent = if unchanged { Cow::Borrowed(incoming) } else { Cow::Owned(written) };
        Self { traceparent, sampled: context.is_sampled(), keeps_tracestate: true, parent: None }
    }
}

impl Tracing {
    /// The context of an event whose application traces.
    fn continued<'a>(&self, incoming: &'a str, given: Traceparent) -> Intake<'a> {
        if !self.sampling.decide(given.trace, Some(given.is_sampled())) {
            return Intake::kept(incoming, given.with_sampled(false));
        }
        let context = given.with_sampled(true).through(self.draw());
        Intake {
            traceparent: Cow::Owned(context.to_string()),
            sampled: true,
            keeps_tracestate: true,
            parent: Some(Parent(given.span)),
        }
    }

    /// The context of an event that came without one.
    fn begun<'a>(&self) -> Intake<'a> {
        let trace = self.draw();
        if !self.sampling.decide(trace, None) {
            return Intake::none();
        }
        let context = Traceparent::new(trace, self.draw(), true);
        let traceparent = Cow::Owned(context.to_string());
        Intake { traceparent, sampled: true, keeps_tracestate: false, parent: None }
    }

    /// Draws an id. Zero means "none" in a context, so it is never returned.
    fn draw<const N: usize>(&self) -> [u8; N] {
        let mut id = [0; N];
        self.random.fill(&mut id);
        if id == [0; N] { [1; N] } else { id }
    }

    /// What the exporter is given.
    fn data(&self, context: Traceparent, span: &Span<'_>) -> SpanData {
        let (id, parent) = match span.station {
            Station::Publish { parent } => {
                (context.span, parent.map_or(SpanId::INVALID, |Parent(id)| SpanId::from_bytes(id)))
            }
            Station::Replicate | Station::Deliver => {
                (self.draw(), SpanId::from_bytes(context.span))
            }
        };
        let mut links = SpanLinks::default();
        let batch = span.batch.and_then(Traceparent::parse);
        links.links.extend(batch.map(|batch| Link::with_context(exported(batch, true))));
        SpanData {
            span_context: exported(context.through(id), false),
            parent_span_id: parent,
            parent_span_is_remote: parent != SpanId::INVALID,
            span_kind: span.station.kind(),
            name: Cow::Borrowed(span.station.name()),
            start_time: span.begin,
            // The wall clock may have been set back in between; a span never ends before it began.
            end_time: span.end.max(span.begin),
            attributes: self.attributes(span),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The attributes: the conventions for messaging, and what only evermesh has.
    fn attributes(&self, span: &Span<'_>) -> Vec<KeyValue> {
        let (operation, kind) = span.station.operation();
        let mut attributes = vec![
            KeyValue::new("messaging.system", "evermesh"),
            KeyValue::new("messaging.destination.name", span.site.to_owned()),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.message.id", span.event_id.to_owned()),
            KeyValue::new("evermesh.node", self.node.clone()),
            KeyValue::new("evermesh.origin", span.origin.to_owned()),
            KeyValue::new("evermesh.sequence", span.sequence.to_string()),
            KeyValue::new("evermesh.type", span.event_type.to_owned()),
        ];
        attributes.extend(kind.map(|kind| KeyValue::new("messaging.operation.type", kind)));
        attributes.extend(span.peer.map(|peer| KeyValue::new("evermesh.peer", peer.to_owned())));
        attributes
    }
}

/// A context in the SDK's words.
fn exported(context: Traceparent, remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace),
        SpanId::from_bytes(context.span),
        TraceFlags::default().with_sampled(context.is_sampled()),
        remote,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests;
