//! Leases and fences (P9): an origin, a member, and one subscription there. Each goes at its own
//! pace, messages take any time or are lost, so every pause and partition is among the orders that
//! are explored; clocks run at rates that differ within the bound.
//!
//! All times are kept as what has passed or remains, so there is no end of time in this model. What
//! the code decides is asked of the code: `leases/code.rs`.

mod code;
mod state;
mod steps;

use stateright::{Model, Property};

use self::code::{Code, LEASE};
use self::state::{Lease, Slow, State, Wire};
use self::steps::Step;
use crate::check::{breaks, holds, size};

/// What a fence that says done promises.
const FRESH: &str = "P9: fenced, so applied or not trusted";

/// A rule that can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A lease runs from the sending of the ping, not from hearing its echo.
    FromSending,
    /// An application is passed on what remains of its node's lease, not a new one.
    WhatRemains,
    /// A lease that begins anew is passed on only to who acknowledged the head in its echo.
    HeadFirst,
    /// A new stream is granted leases only once it acknowledged what was here when it opened.
    CurrentFirst,
    /// A stream that ended counts until the longest lease that was passed on to it is over.
    EndedCounts,
    /// After a restart of its node whoever was granted a lease before counts until it is over.
    FormerCounts,
    /// A member is suspended only for the silence after a ping of this start.
    PingOfThisStart,
    /// What a former start knew of acknowledgements does not count.
    HeardInThisStart,
    /// A member is suspended a margin after its lease.
    MarginOfMember,
    /// A subscription counts for a margin after its lease.
    MarginOfSubscription,
    /// A hello to an origin takes back its goodbye.
    HelloVoids,
    /// While it is away only those are spared who acknowledged its last word.
    LastWordApplied,
    /// The lease that begins with the hello is passed on only to those.
    LastWordFirst,
    /// A lease begins with the hello. Only so that nobody stops trusting.
    LeaseFromHello,
    /// A node that said goodbye ends no fence any more.
    MuteAfterGoodbye,
    /// A goodbye does not outlive the start of the node that heard it.
    GoodbyeInMemory,
    /// A goodbye is that of the newest link, or none.
    OfTheNewestLink,
}

/// The model.
#[derive(Debug)]
pub(crate) struct Leases {
    code: Code,
    /// The rule that is taken back.
    without: Option<Rule>,
    /// How many events are published.
    events: u8,
    /// Whose clock may be the slow one.
    slow: &'static [Slow],
    /// The origin may also stop in order; who was linked to it says hello again.
    stops: bool,
    /// Streams end also by themselves, and not only with their node.
    streams_end: bool,
}

impl Leases {
    fn new(events: u8) -> Self {
        let slow = &[Slow::Nobody, Slow::Host, Slow::Application];
        Self { code: Code::default(), without: None, events, slow, stops: false, streams_end: true }
    }

    /// A world of its own beside the first: clocks go right, and streams end with their node.
    fn goodbyes(events: u8) -> Self {
        Self { slow: &[Slow::Nobody], stops: true, streams_end: false, ..Self::new(events) }
    }

    /// With one rule taken back. Slow clocks matter only to what margins hide.
    fn without(rule: Rule) -> Self {
        let slow: &[_] = match rule {
            Rule::MarginOfMember | Rule::WhatRemains => &[Slow::Host],
            Rule::MarginOfSubscription => &[Slow::Application],
            _ => &[Slow::Nobody],
        };
        Self { without: Some(rule), slow, ..Self::new(1) }
    }

    fn goodbyes_without(rule: Rule) -> Self {
        Self { without: Some(rule), ..Self::goodbyes(1) }
    }

    /// Whether a rule is kept.
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Leases {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.slow.iter().copied().map(State::new).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        // Everything is published, fenced and applied: nothing can be stale any more.
        if state.fenced < self.events || state.applied < self.events {
            steps.extend(Step::ALL.iter().filter(|step| self.can(state, **step)));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        self.go(&mut next, step);
        (next != *state).then_some(next)
    }

    fn format_action(&self, step: &Step) -> String {
        step.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(FRESH, |_, state: &State| {
                state.trusts == 0 || state.applied >= state.fenced
            }),
            Property::sometimes("a fence ends because all is applied", |_, state: &State| {
                state.fenced > 0 && state.applied >= state.fenced && state.trusts > 0
            }),
            Property::sometimes("a fence ends without a suspended member", |_, state: &State| {
                state.fenced > state.applied && !state.has(state.fenced)
            }),
            Property::sometimes("a fence ends without a subscription", |_, state: &State| {
                state.fenced > state.applied && state.has(state.fenced)
            }),
        ];
        if self.stops {
            properties.extend([
                Property::sometimes("somebody trusts while it is away", |_, state: &State| {
                    let spared = |lease: Lease| lease.left == 0 && lease.goodbye == Some(1);
                    state.lease.is_some_and(spared) && state.trusts == LEASE
                }),
                Property::sometimes("and through its restart", |_, state: &State| {
                    let hello = state.wire == Wire::Hello && !state.ending;
                    hello && state.silent.is_none() && state.lease.is_some() && state.trusts > 0
                }),
            ]);
        }
        properties
    }
}

#[test]
fn p9_holds_in_every_order() {
    holds("leases", Leases::new(size()));
}

#[test]
fn p9_holds_when_the_origin_stops_in_order() {
    holds("leases and goodbyes", Leases::goodbyes(1));
    if size() > 1 {
        let ends = Leases { streams_end: true, ..Leases::goodbyes(1) };
        holds("leases and goodbyes, streams end", ends);
        let slow = Leases { slow: &[Slow::Host], ..Leases::goodbyes(1) };
        holds("leases and goodbyes, a slow clock", slow);
        let without = Leases::goodbyes_without(Rule::LeaseFromHello);
        holds("leases and goodbyes, and no lease from the hello", without);
        holds("leases and goodbyes, more events", Leases::goodbyes(size()));
    }
}

#[test]
fn p9_each_rule_of_goodbyes_is_needed() {
    for rule in [
        Rule::HelloVoids,
        Rule::LastWordApplied,
        Rule::LastWordFirst,
        Rule::MuteAfterGoodbye,
        Rule::GoodbyeInMemory,
        Rule::OfTheNewestLink,
    ] {
        breaks(&format!("goodbyes without {rule:?}"), FRESH, || Leases::goodbyes_without(rule));
    }
}

#[test]
fn p9_each_rule_is_needed() {
    for rule in [
        Rule::FromSending,
        Rule::WhatRemains,
        Rule::HeadFirst,
        Rule::CurrentFirst,
        Rule::EndedCounts,
        Rule::FormerCounts,
        Rule::PingOfThisStart,
        Rule::HeardInThisStart,
        Rule::MarginOfMember,
        Rule::MarginOfSubscription,
    ] {
        breaks(&format!("leases without {rule:?}"), FRESH, || Leases::without(rule));
    }
}
