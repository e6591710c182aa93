//! Numbering, frontiers, repair and missed (P1, P2, P6): an origin that crashes, is restored from a
//! copy and cuts its journal, a receiver with a subscription, and a third member to repair from.
//!
//! A message and its answer are one step, and a block has one entry. What is bounded is how often
//! something happens: so many events, crashes, cuts. Within that every order is explored.

mod disk;
mod peers;
mod state;
mod steps;

use stateright::{Model, Property};

use self::state::{Left, State, Wrong};
use self::steps::Step;
use crate::check::{breaks, holds, size};

const SILENT: &str = "P1: nothing later is heard before what was assured, or its missed";
const LOST: &str = "P1, P6: once all is quiet, what was assured was heard, or its missed";
const NEEDLESS: &str = "P1: no missed for what a reachable member holds";
const ORDER: &str = "P2: sequences rise within a stream";
const TWICE: &str = "no number names two events to anybody";

/// A rule that can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A publisher is assured STORED only once its event is on the disk.
    SyncFirst,
    /// Sequences of a start are above everything that a former start may have shown.
    EpochInSequence,
    /// So are offsets, and a resume token is held against the end of its start.
    EpochInOffset,
    /// A block is taken only by who is at or beyond its `previous`.
    Previous,
    /// When an origin cannot be reached, another member is asked for its events.
    Repair,
    /// Missed is told only once no reachable member can serve.
    AskOthers,
    /// A subscription that is behind what was cut is told.
    CutIsTold,
    /// A start id that an origin does not know means that it is a restored copy.
    StartIds,
    /// So does a durable head beyond the end of a former start.
    DurableHeads,
    /// Two start ids for one epoch are missed for the name.
    OneStartAnEpoch,
    /// A second journal id of a name is missed for the name also by who bears it.
    OwnName,
}

/// The model.
#[derive(Clone, Debug)]
pub(crate) struct Numbering {
    without: Option<Rule>,
    nodes: usize,
    /// Where there are subscriptions.
    apps: &'static [usize],
    /// How often each thing may happen.
    left: Left,
    /// What has happened already when the exploring begins.
    already: &'static [Step],
}

/// A copy of the origin's disk, then a second start that the receiver heard an event of; then the
/// copy is back, and starts for the second time too.
const TWO_SECOND_STARTS: &[Step] = &[
    Step::Copy,
    Step::Crash(0),
    Step::Start(0),
    Step::Publish,
    Step::Meet(0, 1),
    Step::Pull { to: 1, from: 0, journal: 0 },
    Step::Crash(0),
    Step::Restore,
    Step::Start(0),
    Step::Part,
];

impl Numbering {
    /// Crashes of the origin and of the receiver.
    fn crashes(size: u8) -> Self {
        let left = Left { publish: 2 + size, crash: [2, size, 0], ..Left::default() };
        Self { without: None, nodes: 2, apps: &[1], left, already: &[] }
    }

    /// Repair from a third member, while retention cuts and the origin is gone.
    fn holes(size: u8) -> Self {
        let left =
            Left { publish: 1 + size, crash: [1, 0, 0], cut: 1 + size, part: 1, ..Left::default() };
        Self { without: None, nodes: 3, apps: &[1], left, already: &[] }
    }

    /// The origin's disk is restored from a copy.
    fn copies(size: u8) -> Self {
        let left =
            Left { publish: 1 + size, crash: [2, 0, 0], copy: 1, restore: 1, ..Left::default() };
        Self { without: None, nodes: 3, apps: &[1], left, already: &[] }
    }

    /// The same, with two starts that have one epoch, and a third member that meets the later one.
    fn twins() -> Self {
        let mut twins = Self { already: TWO_SECOND_STARTS, ..Self::copies(2) };
        twins.left.part = 1;
        twins
    }

    /// The origin's disk is set aside for an empty one, and comes back.
    fn names(size: u8) -> Self {
        let left =
            Left { publish: 1 + size, crash: [2, 0, 0], fresh: 1, restore: 1, ..Left::default() };
        Self { without: None, nodes: 2, apps: &[0], left, already: &[] }
    }

    fn without(self, rule: Rule) -> Self {
        Self { without: Some(rule), ..self }
    }

    /// Whether a rule is kept.
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Numbering {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(self.nodes, self.apps, self.left);
        for step in self.already {
            assert!(self.go(&mut state, *step), "{step} cannot happen");
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        // After the first wrong nothing more is to be seen.
        if state.wrong.is_none() {
            Step::of(self.nodes, self.apps.len(), steps);
            steps.retain(|step| self.may(state, *step));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        (self.go(&mut next, step) && next != *state).then_some(next)
    }

    fn format_action(&self, step: &Step) -> String {
        step.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn not(wrong: Wrong) -> impl Fn(&State) -> bool {
            move |state| state.wrong != Some(wrong)
        }
        vec![
            Property::always(SILENT, |_, state| not(Wrong::Silent)(state)),
            Property::always(NEEDLESS, |_, state| not(Wrong::Needless)(state)),
            Property::always(ORDER, |_, state| not(Wrong::Order)(state)),
            Property::always(TWICE, |_, state| not(Wrong::Twice)(state)),
            Property::always(LOST, |model: &Self, state| !model.is_lost(state)),
        ]
    }
}

#[test]
fn p1_p2_hold_over_crashes() {
    holds("numbering, crashes", Numbering::crashes(size()));
}

#[test]
fn p1_p6_hold_over_holes() {
    holds("numbering, holes", Numbering::holes(size()));
}

#[test]
fn p1_holds_over_restored_copies() {
    holds("numbering, copies", Numbering::copies(size()));
}

#[test]
fn p1_holds_over_two_starts_of_one_epoch() {
    holds("numbering, twins", Numbering::twins());
}

#[test]
fn p1_holds_over_a_second_journal_id() {
    holds("numbering, names", Numbering::names(size()));
}

#[test]
fn p1_p2_p6_each_rule_is_needed() {
    let cases = [
        (Rule::SyncFirst, LOST, Numbering::crashes(1)),
        (Rule::EpochInSequence, SILENT, Numbering::crashes(1)),
        (Rule::EpochInOffset, LOST, Numbering::crashes(1)),
        (Rule::Previous, SILENT, Numbering::holes(1)),
        (Rule::Repair, LOST, Numbering::holes(1)),
        (Rule::AskOthers, NEEDLESS, Numbering::holes(1)),
        (Rule::CutIsTold, LOST, Numbering::holes(1)),
        (Rule::StartIds, LOST, Numbering::copies(1)),
        (Rule::DurableHeads, LOST, Numbering::copies(1)),
        (Rule::OneStartAnEpoch, SILENT, Numbering::twins()),
        (Rule::OwnName, LOST, Numbering::names(1)),
    ];
    for (rule, promise, model) in cases {
        let model = || model.clone().without(rule);
        breaks(&format!("numbering without {rule:?}"), promise, model);
    }
}
