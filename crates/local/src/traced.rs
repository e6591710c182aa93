//! The few words of a sampled event that its spans need later. An event that is not sampled leaves
//! none.

use std::collections::VecDeque;
use std::time::SystemTime;

use evermesh_event::block::EntryView;
use evermesh_event::{Offset, Sequence, ValidEvent};
use evermesh_identity::Identity;
use evermesh_journal::Intake;
use evermesh_telemetry::{Parent, Span, Spans, Station};

/// A sampled event at intake.
#[derive(Debug)]
pub(crate) struct Traced {
    /// Its place among the events that are handed to the journal.
    pub(crate) place: usize,
    pub(crate) traceparent: String,
    pub(crate) parent: Option<Parent>,
    pub(crate) id: String,
    pub(crate) site: String,
    pub(crate) event_type: String,
}

impl Traced {
    /// Decides the event's trace context, once and for all.
    pub(crate) fn intake(
        spans: &Spans,
        mut valid: ValidEvent,
        place: usize,
    ) -> (Intake, Option<Self>) {
        let event = valid.event();
        let intake = spans.intake(&event.traceparent);
        let (sampled, parent, keeps) = (intake.sampled, intake.parent, intake.keeps_tracestate);
        let traceparent = intake.traceparent.into_owned();
        if traceparent != event.traceparent || !(keeps || event.tracestate.is_empty()) {
            valid.set_trace(traceparent.clone(), keeps);
        }
        let event = valid.event();
        let traced = (sampled && spans.enabled()).then(|| Self {
            place,
            traceparent,
            parent,
            id: event.id.clone(),
            site: event.site.clone(),
            event_type: event.r#type.clone(),
        });
        (Intake { event: valid, sampled }, traced)
    }
}

/// Sampled events on their way to one subscription, until they are acknowledged.
#[derive(Debug)]
pub(crate) struct Deliveries {
    spans: Spans,
    under_way: VecDeque<(Offset, SystemTime, String, Sequence, EntryView)>,
}

/// Spans of one subscription that wait for an acknowledgement; what comes beyond leaves none.
const UNDER_WAY_MAX: usize = 256;

impl Deliveries {
    pub(crate) const fn new(spans: Spans) -> Self {
        Self { spans, under_way: VecDeque::new() }
    }

    pub(crate) fn enabled(&self) -> bool {
        self.spans.enabled()
    }

    /// An entry of a block with sampled events was sent.
    pub(crate) fn sent(&mut self, offset: Offset, origin: &str, entry: EntryView, now: SystemTime) {
        let sampled = evermesh_telemetry::sampled(entry.glance().traceparent);
        if sampled && self.under_way.len() < UNDER_WAY_MAX {
            let sequence = entry.sequence;
            self.under_way.push_back((offset, now, origin.to_owned(), sequence, entry));
        }
    }

    /// What was sent behind an offset is sent again.
    pub(crate) fn rewind(&mut self, before: Offset) {
        self.under_way.retain(|(offset, ..)| *offset <= before);
    }

    /// Everything through an offset was acknowledged: the span `evermesh.deliver` of each.
    pub(crate) fn acknowledged(&mut self, through: Offset, who: &Identity, now: SystemTime) {
        while let Some((offset, begin, origin, sequence, entry)) = self.under_way.front() {
            if *offset > through {
                return;
            }
            let glance = entry.glance();
            self.spans.record(&Span {
                station: Station::Deliver,
                traceparent: glance.traceparent,
                begin: *begin,
                end: now,
                site: glance.site,
                event_type: glance.r#type,
                event_id: glance.id,
                origin,
                sequence: &format_args!("{origin}/{sequence}"),
                peer: Some(who.text()),
                batch: None,
            });
            self.under_way.pop_front();
        }
    }
}
