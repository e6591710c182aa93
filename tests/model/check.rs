//! Runs the checker: over everything, or until the shortest story that breaks a promise is found.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

/// Stories are read by people: the shortest of a planted fault is far below this.
const STORY_STEPS_MAX: usize = 40;

/// How large the models are: 1 in each run of the tests, 2 by hand.
pub(crate) fn size() -> u8 {
    let size = std::env::var("EVERMESH_MODEL_SIZE").ok();
    size.map_or(1, |size| size.parse().expect("EVERMESH_MODEL_SIZE is a number"))
}

/// Explores everything. Every promise holds in every state, and whatever should be possible is.
#[allow(clippy::print_stderr, reason = "how much was explored is what the reader wants to know")]
pub(crate) fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let began = Instant::now();
    let checker =
        model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    eprintln!(
        "{name}: {} states explored, {} steps, {} deep, in {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32()
    );
    checker.assert_properties();
}

/// Finds the shortest story that breaks a promise, and says it in words.
#[allow(clippy::print_stderr, reason = "the story is what the reader wants to know")]
pub(crate) fn breaks<M>(name: &str, promise: &'static str, model: impl Fn() -> M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let began = Instant::now();
    let (mut story, mut states) = (None::<Vec<String>>, 0);
    // Breadth first, but what is found is not always the shortest: until nothing shorter is.
    loop {
        let wanted = HasDiscoveries::AllOf([promise].into());
        let mut checker = model().checker().finish_when(wanted);
        if let Some(found) = &story {
            checker = checker.target_max_depth(found.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        states = checker.unique_state_count().max(states);
        let Some(path) = checker.discovery(promise) else { break };
        let words = |step: &M::Action| checker.model().format_action(step);
        story = Some(path.into_actions().iter().map(words).collect());
    }
    let Some(story) = story else {
        panic!("{name}: {states} states, and nothing breaks `{promise}`: the model cannot fail");
    };
    eprintln!(
        "{name}: `{promise}` breaks within {} steps, {states} states, {:.1} s:\n    {}",
        story.len(),
        began.elapsed().as_secs_f32(),
        story.join("\n    ")
    );
    assert!(story.len() <= STORY_STEPS_MAX, "{name}: nobody reads a story that long");
}
