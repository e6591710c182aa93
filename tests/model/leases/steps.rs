//! What may happen next, and what becomes of it.

use std::fmt;

use super::code::{LEASE, margin_ticks};
use super::state::{AppWire, Goodbye, Lease, Said, Slow, State, Stream, Wire};
use super::{Leases, Rule};

/// One thing that happens. None of them ever has to: that is what pauses and partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    Publish,
    Fence,
    OriginRestarts,
    OriginEnds,
    Hello,
    HearHello,
    HearGoodbye,
    Ping,
    HearPing,
    HearEcho,
    LoseLink,
    Take,
    Report,
    HearReport,
    MemberRestarts,
    AppPing,
    Answer,
    HearAnswer,
    Apply,
    HearAck,
    StreamEnds,
    Resume,
}

impl Step {
    pub(crate) const ALL: [Self; 23] = [
        Self::Tick,
        Self::Publish,
        Self::Fence,
        Self::OriginRestarts,
        Self::OriginEnds,
        Self::Hello,
        Self::HearHello,
        Self::HearGoodbye,
        Self::Ping,
        Self::HearPing,
        Self::HearEcho,
        Self::LoseLink,
        Self::Take,
        Self::Report,
        Self::HearReport,
        Self::MemberRestarts,
        Self::AppPing,
        Self::Answer,
        Self::HearAnswer,
        Self::Apply,
        Self::HearAck,
        Self::StreamEnds,
        Self::Resume,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tick => "(time passes)",
            Self::Publish => "origin: an event is published",
            Self::Fence => "origin: the fence says done",
            Self::OriginRestarts => "origin: restarts",
            Self::OriginEnds => "origin: is told to stop, says goodbye with its head",
            Self::Hello => "member: says hello",
            Self::HearHello => "origin: hears the hello",
            Self::HearGoodbye => "member: hears the goodbye",
            Self::Ping => "member: sends a ping",
            Self::HearPing => "origin: hears the ping, echoes it with its head",
            Self::HearEcho => "member: hears the echo",
            Self::LoseLink => "(the link between them breaks)",
            Self::Take => "member: takes the event",
            Self::Report => "member: says what it stored, and which subscriptions lag",
            Self::HearReport => "origin: hears that",
            Self::MemberRestarts => "member: restarts",
            Self::AppPing => "application: sends a ping",
            Self::Answer => "member: answers it, with what remains of its lease",
            Self::HearAnswer => "application: hears that",
            Self::Apply => "application: applies the event, acknowledges",
            Self::HearAck => "member: hears the acknowledgement",
            Self::StreamEnds => "member: sees the stream of the application end",
            Self::Resume => "application: opens a stream from where it was",
        })
    }
}

impl Leases {
    /// Whether a step is possible.
    pub(crate) fn can(&self, state: &State, step: Step) -> bool {
        match step {
            Step::Tick | Step::OriginRestarts | Step::MemberRestarts => true,
            Step::Publish => state.head < self.events,
            Step::Fence => {
                let margin = self.keeps(Rule::MarginOfMember);
                let next = state.fenced + 1;
                next <= state.head
                    && !(state.ending && self.keeps(Rule::MuteAfterGoodbye))
                    && self.code.is_done(next, state.known, self.silence(state), margin)
            }
            Step::OriginEnds => self.stops && !state.ending,
            Step::Hello => !state.linked && state.wire == Wire::Empty,
            Step::HearHello => state.wire == Wire::Hello,
            Step::HearGoodbye => state.goodbye.is_some(),
            Step::Ping => state.linked && state.wire == Wire::Empty,
            Step::HearPing => matches!(state.wire, Wire::Ping { .. }),
            Step::HearEcho => matches!(state.wire, Wire::Echo { .. }),
            Step::LoseLink => {
                let holds = state.wire != Wire::Empty || state.report.is_some();
                holds || state.goodbye.is_some() || (self.stops && state.linked)
            }
            Step::Take => state.held < state.head,
            Step::Report => {
                state.linked && state.report.is_none() && self.report(state) != state.known
            }
            Step::HearReport => state.report.is_some(),
            Step::AppPing => state.stream.is_some() && state.app_wire == AppWire::Empty,
            Step::Answer => matches!(state.app_wire, AppWire::Ping { .. }),
            Step::HearAnswer => matches!(state.app_wire, AppWire::Answer { .. }),
            Step::Apply => state.stream.is_some() && state.applied < state.held,
            Step::HearAck => state.ack > 0,
            Step::StreamEnds => state.stream.is_some() && self.streams_end,
            Step::Resume => state.stream.is_none(),
        }
    }

    /// Takes a step.
    pub(crate) fn go(&self, state: &mut State, step: Step) {
        match step {
            Step::Tick => self.tick(state),
            Step::Publish => state.head += 1,
            Step::Fence => state.fenced += 1,
            Step::OriginRestarts => self.restart_origin(state),
            Step::OriginEnds => {
                state.ending = true;
                if state.linked && state.wire != Wire::Hello {
                    state.goodbye = Some(Goodbye { head: state.head, old: false });
                }
            }
            Step::Hello => self.say_hello(state),
            Step::HearHello => {
                state.wire = Wire::Empty;
                if state.ending {
                    state.goodbye = Some(Goodbye { head: state.head, old: false });
                }
            }
            Step::HearGoodbye => self.hear_goodbye(state),
            Step::Ping => state.wire = Wire::Ping { age: 0 },
            Step::HearPing => {
                if let Wire::Ping { age } = state.wire {
                    state.silent = Some(0);
                    state.wire = Wire::Echo { age, head: state.head };
                }
            }
            Step::HearEcho => self.hear_echo(state),
            Step::LoseLink => self.lose_link(state),
            Step::Take => state.held += 1,
            Step::Report => state.report = Some(self.report(state)),
            Step::HearReport => {
                if let Some(said) = state.report.take() {
                    // What was said before of subscriptions is void.
                    let stored = said.stored.max(state.known.stored);
                    state.known = Said { stored, lag: said.lag };
                }
            }
            Step::MemberRestarts => self.restart_member(state),
            Step::AppPing => state.app_wire = AppWire::Ping { age: 0 },
            Step::Answer => self.answer(state),
            Step::HearAnswer => {
                if let AppWire::Answer { left } = state.app_wire {
                    state.trusts = state.trusts.max(left);
                    state.app_wire = AppWire::Empty;
                }
            }
            Step::Apply => {
                state.applied += 1;
                state.ack = state.applied;
            }
            Step::HearAck => {
                if let Some(stream) = &mut state.stream {
                    stream.through = stream.through.max(state.ack);
                }
                state.ack = 0;
            }
            Step::StreamEnds => self.end_stream(state),
            Step::Resume => {
                let (applied, held) = (state.applied, state.held);
                // It counts as having applied nothing until it applied what is here.
                let through = if applied >= held { held } else { 0 };
                state.stream = Some(Stream { through, opened_at: held, counts: 0 });
                state.app_wire = AppWire::Empty;
            }
        }
    }

    /// How long the origin has not heard the member.
    fn silence(&self, state: &State) -> Option<u8> {
        let never = (!self.keeps(Rule::PingOfThisStart)).then_some(LEASE + margin_ticks() + 1);
        state.silent.or(never)
    }

    fn report(&self, state: &State) -> Said {
        let counts = if self.keeps(Rule::EndedCounts) { state.ended } else { [0; 2] };
        let ended = [(0, counts[0]), (1, counts[1])];
        let lag = self.code.lagging((state.held, state.stream, ended, state.former));
        Said { stored: state.held, lag }
    }

    fn lose_link(&self, state: &mut State) {
        (state.wire, state.report, state.goodbye) = (Wire::Empty, None, None);
        state.linked = !self.stops;
    }

    /// Whatever an older link has brought may be read after this.
    fn say_hello(&self, state: &mut State) {
        (state.wire, state.linked) = (Wire::Hello, true);
        if let Some(goodbye) = &mut state.goodbye {
            goodbye.old = true;
        }
        let Some(before) = state.lease else { return };
        let mut lease = self.code.hello(before);
        if !self.keeps(Rule::HelloVoids) {
            lease.goodbye = before.goodbye;
        }
        if !self.keeps(Rule::LastWordFirst) {
            lease.since = before.since;
        }
        if !self.keeps(Rule::LeaseFromHello) {
            lease.left = before.left;
        }
        state.lease = lease.lasting();
    }

    fn hear_goodbye(&self, state: &mut State) {
        let Some(Goodbye { head, old }) = state.goodbye.take() else { return };
        if !old || !self.keeps(Rule::OfTheNewestLink) {
            state.lease = self.code.goodbye(state.lease, head).lasting();
            if !self.keeps(Rule::GoodbyeInMemory) {
                state.kept = Some(head);
            }
        }
        if !old {
            self.lose_link(state);
        }
    }

    fn restart_origin(&self, state: &mut State) {
        // An echo that was sent may still arrive; what was sent to the former process is lost.
        if matches!(state.wire, Wire::Ping { .. } | Wire::Hello) {
            state.wire = Wire::Empty;
        }
        (state.silent, state.report) = (None, None);
        (state.ending, state.linked) = (false, !self.stops);
        if self.keeps(Rule::HeardInThisStart) {
            state.known.lag = Some(0);
        } else {
            // What the member stored is kept over a restart; that is all that is known.
            state.known.lag = None;
        }
    }

    fn restart_member(&self, state: &mut State) {
        // An answer and a report that were sent may still arrive.
        (state.wire, state.goodbye, state.linked) = (Wire::Empty, None, !self.stops);
        let kept = |head| Lease { left: 0, since: 0, goodbye: Some(head) };
        state.lease = state.kept.map(kept);
        (state.stream, state.ended, state.ack) = (None, [0; 2], 0);
        if matches!(state.app_wire, AppWire::Ping { .. }) {
            state.app_wire = AppWire::Empty;
        }
        if self.keeps(Rule::FormerCounts) {
            state.former = LEASE + margin_ticks();
        }
    }

    fn end_stream(&self, state: &mut State) {
        let Some(stream) = state.stream.take() else { return };
        let counts = &mut state.ended[usize::from(stream.through.min(1))];
        *counts = stream.counts.max(*counts);
        state.ack = 0;
        // An answer that was sent may still be read.
        if matches!(state.app_wire, AppWire::Ping { .. }) {
            state.app_wire = AppWire::Empty;
        }
    }

    fn hear_echo(&self, state: &mut State) {
        let Wire::Echo { age, head } = state.wire else { return };
        let age = if self.keeps(Rule::FromSending) { age } else { 0 };
        state.lease = self.code.echoed(state.lease, age, head);
        state.wire = Wire::Empty;
    }

    fn answer(&self, state: &mut State) {
        let (AppWire::Ping { age }, Some(stream)) = (state.app_wire, &mut state.stream) else {
            return;
        };
        let current = stream.through >= stream.opened_at || !self.keeps(Rule::CurrentFirst);
        let through = if self.keeps(Rule::HeadFirst) { stream.through } else { u8::MAX };
        let remains = state.lease.filter(|_| current);
        let mut remains = remains.map_or(0, |lease| self.code.remains(lease, through));
        let through = if self.keeps(Rule::LastWordApplied) { stream.through } else { u8::MAX };
        let spares = |lease: &Lease| self.code.spares(*lease, through, state.held);
        if current && state.lease.as_ref().is_some_and(spares) {
            remains = LEASE;
        }
        if remains > 0 {
            if !self.keeps(Rule::WhatRemains) {
                remains = LEASE;
            }
            let margin = if self.keeps(Rule::MarginOfSubscription) { margin_ticks() } else { 0 };
            stream.counts = stream.counts.max(remains + margin);
        }
        // Counted from the sending of the application's ping.
        let left = remains.saturating_sub(age);
        state.app_wire = if left > 0 { AppWire::Answer { left } } else { AppWire::Empty };
    }

    fn tick(&self, state: &mut State) {
        let slow = state.phase == 2;
        if state.slow != Slow::Nobody {
            state.phase = (state.phase + 1) % 3;
        }
        // Longer than this nobody needs to know.
        state.silent = state.silent.map(|age| (age + 1).min(LEASE + margin_ticks() + 1));
        if !(slow && state.slow == Slow::Host) {
            tick_member(state);
        }
        if !(slow && state.slow != Slow::Nobody) {
            state.trusts = state.trusts.saturating_sub(1);
            state.app_wire = match state.app_wire {
                AppWire::Ping { age } if age < LEASE => AppWire::Ping { age: age + 1 },
                AppWire::Answer { left } if left > 1 => AppWire::Answer { left: left - 1 },
                // Too old to grant anything.
                _ => AppWire::Empty,
            };
        }
    }
}

/// The member's clock moves.
fn tick_member(state: &mut State) {
    state.wire = match state.wire {
        Wire::Ping { age } => Wire::Ping { age: (age + 1).min(LEASE) },
        Wire::Echo { age, head } => Wire::Echo { age: (age + 1).min(LEASE), head },
        idle => idle,
    };
    state.lease = state.lease.and_then(|lease| {
        let left = lease.left.saturating_sub(1);
        Lease { left, ..lease }.lasting()
    });
    if let Some(stream) = &mut state.stream {
        stream.counts = stream.counts.saturating_sub(1);
    }
    state.ended = state.ended.map(|counts| counts.saturating_sub(1));
    state.former = state.former.saturating_sub(1);
}
