//! P11: what a start says of its disk is so. An end in order raises no alarm; damage does.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use evermesh_event::Offset;
use evermesh_journal::Storage as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::world::{Entry, World, append, entries, look, now, read_after};

const HEADER: usize = 4096;
const EVENTS: usize = 200;

/// Writes down what is said as a warning or an error.
#[derive(Clone, Default)]
struct Listens(Arc<Mutex<Vec<String>>>);

impl Subscriber for Listens {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

/// What a start says, and what is there.
fn start(world: &World) -> (Vec<String>, Vec<Entry>) {
    let listens = Listens::default();
    let found = tracing::subscriber::with_default(listens.clone(), || {
        let (journal, _writer) = world.open();
        entries(&read_after(&journal, Offset::ZERO))
    });
    world.disk.kill();
    let said = listens.0.lock().unwrap().clone();
    (said, found)
}

/// Several segments, behind the end of each of which there are zeros.
fn written(in_order: bool) -> World {
    let world = World::new(7);
    let (journal, mut writer) = world.open();
    for n in 0..EVENTS {
        append(&journal, &[&n.to_string()]);
        writer.turn().unwrap();
    }
    if in_order {
        let mut closing = Box::pin(journal.close());
        assert!(look(&mut closing).is_pending());
        assert!(writer.turn().unwrap().ended);
        assert!(now(closing).is_ok());
    }
    drop((journal, writer));
    world.disk.kill();
    let segments = world.disk.segments().unwrap();
    assert!(segments.len() > 3, "{segments:?}");
    for first in segments {
        assert_eq!(world.disk.segment_bytes(first).unwrap().last(), Some(&0), "{first}");
    }
    world
}

#[test]
fn p11_no_start_takes_the_end_of_a_segment_for_damage() {
    for in_order in [true, false] {
        let world = written(in_order);
        for again in 0..3 {
            let (said, found) = start(&world);
            assert_eq!(said, Vec::<String>::new(), "in order: {in_order}, start {again}");
            assert_eq!(found.len(), EVENTS);
        }
    }
}

#[test]
fn p11_what_is_lost_at_the_end_of_a_segment_is_said_and_told() {
    let world = written(true);
    let (_, all) = start(&world);
    let second = world.disk.segments().unwrap()[1];
    let whole = world.disk.segment_bytes(second).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let marker = &whole[HEADER..HEADER + 4];
    let last = (HEADER..end).step_by(16).rfind(|at| whole[*at..].starts_with(marker)).unwrap();
    let (mut zeros, mut changed) = (whole.clone(), whole.clone());
    zeros[last..].fill(0);
    changed[last + 40] ^= 1;
    for (bytes, alarm) in
        [(zeros, "records before it are lacking"), (changed, "is not what was written")]
    {
        let world = World { disk: world.disk.copy(), ..world.clone() };
        world.disk.set_segment_bytes(second, &bytes);
        let (said, found) = start(&world);
        assert!(said.iter().any(|text| text.contains(alarm)), "{alarm}: {said:?}");
        let lost: Vec<_> = all.iter().filter(|entry| !found.contains(entry)).collect();
        let told: Vec<_> = found.iter().filter(|entry| !all.contains(entry)).collect();
        assert!(lost.len() == 1 && told.len() == 1, "{alarm}: {lost:?}, {told:?}");
        assert_eq!((told[0].0, &told[0].1), (lost[0].0, &None), "in its place");
    }
}
