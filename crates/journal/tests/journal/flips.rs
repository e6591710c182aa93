//! P1, P11: random bits of a real directory that are not what was written, in segments and in the
//! state database. More of them by hand: `EVERMESH_FLIPS=10000`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evermesh_journal::{Directory, Error, Journal, Name};

use crate::world::{Entry, Seeded, World, append, identity};

/// Flips, if nobody says how many.
const FLIPS: usize = 500;

/// How the node ended before the bit was flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    /// What it wrote last looks like a torn end, if it is not whole, and is cut.
    Killed,
}

/// What a journal held at its end.
struct Written {
    end: End,
    world: World,
    all: Vec<Entry>,
    names: Vec<(String, Name)>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// Several segments in two starts, durable names at different places.
fn written(place: &Path, end: End) -> Written {
    let world = World::new(1);
    let read = || {
        let mut files = vec![place.join("state.redb")];
        let segments = fs::read_dir(place.join("segments")).unwrap();
        files.extend(segments.map(|entry| entry.unwrap().path()));
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let mut files = Vec::new();
    for start in 0..2 {
        let storage = Arc::new(Directory::open(place).unwrap());
        let (journal, mut writer) = Journal::open(world.options_on(storage)).unwrap();
        for n in 0..100 {
            append(&journal, &[&format!("{start}-{n}")]);
            writer.turn().unwrap();
            if n % 10 == 0 {
                let name = format!("name-{start}-{n}");
                journal.open_name(&name, &identity(), &["shop".into()]).unwrap();
                let (head, frontier) = journal.here();
                journal.advance_name(&name, head, &frontier, true);
            }
        }
        files = read();
        let mut closing = Box::pin(journal.close());
        assert!(crate::world::look(&mut closing).is_pending());
        assert!(writer.turn().unwrap().ended);
    }
    let storage = Arc::new(Directory::open(place).unwrap());
    if end == End::Closed {
        files = read();
    }
    let (journal, _writer) = Journal::open(world.options_on(storage)).unwrap();
    let all = crate::world::read_on_disk(&journal);
    Written { end, world, all, names: journal.names(), files }
}

/// What became of them.
#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    whole: usize,
    told: usize,
    cut: usize,
}

/// Opens it, and holds what is there against what was written.
fn check(written: &Written, place: &Path, what: &str, outcomes: &mut Outcomes) {
    let storage = Arc::new(Directory::open(place).unwrap());
    let opened = Journal::open(written.world.options_on(storage));
    let (journal, _writer) = match opened {
        Ok(opened) => opened,
        Err(Error::State { .. } | Error::Version { .. }) => {
            outcomes.refused += 1;
            return;
        }
        Err(other) => panic!("{what}: {other}"),
    };
    let found = crate::world::read_on_disk(&journal);
    // Only a record that says missed may stand where something is left out.
    let told = found.iter().any(|(_, entry)| entry.is_none());
    let mut rest = written.all.iter();
    for entry in found.iter().filter(|(_, entry)| entry.is_some()) {
        assert!(rest.any(|was| was == entry), "{what}: {entry:?} is not what was written");
    }
    let cut = written.end == End::Killed && found == written.all[..written.all.len() - 1];
    let whole = found == written.all;
    assert!(told || whole || cut, "{what}: {} entries, nobody told", found.len());
    for (key, name) in journal.names() {
        let was = written.names.iter().find(|(was, _)| *was == key);
        let Some((_, was)) = was else { panic!("{what}: there is no name {key}") };
        let ahead = name.acknowledged > was.acknowledged && !name.untold;
        assert!(!ahead, "{what}: {key} is at {}, not {}", name.acknowledged, was.acknowledged);
    }
    outcomes.told += usize::from(told);
    outcomes.cut += usize::from(cut);
    outcomes.whole += usize::from(whole);
}

fn flip(end: End) -> Outcomes {
    // Where syncing costs nothing, if there is such a place: many are to be done.
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.unwrap();
    let written = written(&place.path().join("node"), end);
    let flips = std::env::var("EVERMESH_FLIPS").map_or(FLIPS, |text| text.parse().unwrap());
    let dice = Seeded::new(flips as u64);
    let mut outcomes = Outcomes::default();
    for _ in 0..flips {
        for (path, bytes) in &written.files {
            fs::write(path, bytes).unwrap();
        }
        let half = dice.below(2) as usize;
        // The state database as often as all segments together.
        let segment = 1 + dice.below(written.files.len() as u64 - 1) as usize;
        let (path, bytes) = &written.files[half * segment];
        let (at, bit) = (dice.below(bytes.len() as u64) as usize, dice.below(8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        fs::write(path, flipped).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let what = format!("{name}: bit {bit} of byte {at}");
        check(&written, &place.path().join("node"), &what, &mut outcomes);
    }
    eprintln!("{flips} flips, {end:?}: {outcomes:?}");
    assert!(outcomes.told > 0 && outcomes.whole > 0, "{outcomes:?}");
    assert_eq!(outcomes.refused, 0, "it heals, or says what may be lost: {outcomes:?}");
    outcomes
}

#[test]
fn p11_random_bits_after_closing_are_named_told_or_harmless() {
    assert_eq!(flip(End::Closed).cut, 0);
}

#[test]
fn p11_random_bits_after_a_kill_are_named_told_cut_at_the_end_or_harmless() {
    flip(End::Killed);
}

#[test]
fn p11_an_older_state_database_beside_newer_records_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let world = World::new(7);
    let state = place.path().join("state.redb");
    let start = |id: &str| {
        let storage = Arc::new(Directory::open(place.path()).unwrap());
        let (journal, mut writer) = Journal::open(world.options_on(storage)).unwrap();
        append(&journal, &[id]);
        writer.turn().unwrap();
    };
    start("a");
    let older = fs::read(&state).unwrap();
    start("b");
    fs::write(&state, older).unwrap();
    let storage = Arc::new(Directory::open(place.path()).unwrap());
    let error = Journal::open(world.options_on(storage)).unwrap_err();
    assert!(error.to_string().contains("it knows of epoch 1, but there are records of epoch 2"));
}
