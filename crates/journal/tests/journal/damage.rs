//! P11: what is not what was written is noticed, at every byte; a torn end is cut, at every byte;
//! the one is never taken for the other.

use bytes::Bytes;
use evermesh_event::Offset;
use evermesh_journal::simulated::MemoryDisk;
use evermesh_journal::{Error, Journal, Storage as _, decode_record};

use crate::world::{World, append, entries, look, now, read_after};

const HEADER: usize = 4096;

/// Two groups that were synced; the second and last of one record. Not closed.
struct Written {
    world: World,
    first: Offset,
    /// Where the last record begins and ends.
    last: std::ops::Range<usize>,
    all: Vec<crate::world::Entry>,
    marker: u32,
}

fn written() -> Written {
    let world = World::new(1);
    let (journal, mut writer) = world.open();
    for id in ["a", "b", "c"] {
        append(&journal, &[id]);
    }
    writer.turn().unwrap();
    let first = world.disk.segments().unwrap()[0];
    let used = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        end.next_multiple_of(16)
    };
    let begin = used(&world.disk.segment_bytes(first).unwrap());
    append(&journal, &["d"]);
    writer.turn().unwrap();
    let bytes = world.disk.segment_bytes(first).unwrap();
    let end = used(&bytes);
    let all = entries(&read_after(&journal, Offset::ZERO));
    let marker = u32::from_le_bytes(bytes[HEADER..HEADER + 4].try_into().unwrap());
    drop((journal, writer));
    world.disk.kill();
    Written { world, first, last: begin..end, all, marker }
}

/// Opens a copy of the disk in which the segment has these bytes.
fn open_with(written: &Written, bytes: &[u8]) -> (World, Result<Vec<crate::world::Entry>, Error>) {
    let world = World { disk: written.world.disk.copy(), ..written.world.clone() };
    world.disk.set_segment_bytes(written.first, bytes);
    let opened = Journal::open(world.options());
    let found = opened.map(|(journal, mut writer)| {
        let found = entries(&read_after(&journal, Offset::ZERO));
        // It goes on from there, and what comes next survives.
        append(&journal, &["next"]);
        writer.turn().unwrap();
        found
    });
    world.disk.kill();
    (world, found)
}

fn check_cut(written: &Written, bytes: &[u8], what: &str) {
    let (world, found) = open_with(written, bytes);
    let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == written.all[..3], "{what}: {} entries", found.len());
    let (journal, _writer) = world.open();
    let after = entries(&read_after(&journal, Offset::ZERO));
    assert!(after.len() == 4 && after[..3] == found[..], "{what}: after the next start");
}

#[test]
fn p11_a_torn_end_is_cut_wherever_it_is_torn() {
    let written = written();
    let whole = written.world.disk.segment_bytes(written.first).unwrap();
    for at in written.last.clone() {
        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        if zeros != whole {
            check_cut(&written, &zeros, &format!("zeros from {at}"));
        }
        check_cut(&written, &whole[..at], &format!("truncated at {at}"));
        let mut garbage = whole.clone();
        for byte in &mut garbage[at..written.last.end] {
            *byte = byte.wrapping_mul(31).wrapping_add(7);
        }
        check_cut(&written, &garbage, &format!("garbage from {at}"));
        let mut one = whole.clone();
        one[at] ^= 0x10;
        check_cut(&written, &one, &format!("one bit at {at}"));
    }
}

#[test]
fn p11_nothing_of_a_cut_end_is_met_again_behind_what_is_written_over_it() {
    let world = World::new(4);
    let (journal, mut writer) = world.open();
    append(&journal, &["a"]);
    writer.turn().unwrap();
    let first = world.disk.segments().unwrap()[0];
    let torn_at = world.disk.segment_bytes(first).unwrap();
    let torn_at = torn_at.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(16);
    // One group of three records of one length: its first is lost, the others are whole.
    for id in ["b", "c", "d"] {
        append(&journal, &[id]);
    }
    writer.turn().unwrap();
    drop((journal, writer));
    world.disk.kill();
    let mut bytes = world.disk.segment_bytes(first).unwrap();
    bytes[torn_at + 60] ^= 1;
    world.disk.set_segment_bytes(first, &bytes);
    for id in ["e", "f"] {
        let (journal, mut writer) = world.open();
        append(&journal, &[id]);
        writer.turn().unwrap();
        drop((journal, writer));
        world.disk.kill();
    }
    let (journal, _writer) = world.open();
    assert_eq!(entries(&read_after(&journal, Offset::ZERO)).len(), 3, "a, e, f");
}

/// What is there is what was written, and where something is left out a missed stands before it.
fn check_told(written: &Written, bytes: &[u8], what: &str) {
    let (world, found) = open_with(written, bytes);
    let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
    let told = found.iter().any(|(_, entry)| entry.is_none());
    let whole = found.iter().filter(|(_, entry)| entry.is_some()).collect::<Vec<_>>();
    assert!(whole.iter().all(|entry| written.all.contains(entry)), "{what}: a wrong payload");
    assert!(told, "{what}: {} entries, and nobody was told", found.len());
    let (journal, _writer) = world.open();
    let again = entries(&read_after(&journal, Offset::ZERO));
    let next = again.len() - 1;
    assert!(again[..next] == found[..], "{what}: after the next start");
}

#[test]
fn p11_every_changed_byte_of_what_was_durable_is_passed_over_and_told() {
    let written = written();
    let whole = written.world.disk.segment_bytes(written.first).unwrap();
    for at in 0..written.last.start {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        check_told(&written, &damaged, &format!("byte {at}"));
    }
}

#[test]
fn p11_only_what_is_damaged_is_lost() {
    let written = written();
    let mut bytes = written.world.disk.segment_bytes(written.first).unwrap();
    // The first of three records of one group, and another that proves it durable.
    bytes[HEADER + 70] ^= 1;
    let (_, found) = open_with(&written, &bytes);
    let found = found.unwrap();
    assert_eq!(found[1..], written.all[1..], "all others are there");
    assert_eq!(found[0], (written.all[0].0, None), "it stands in the place of what is lost");
}

#[test]
fn p11_every_flipped_bit_of_a_record_is_noticed_by_the_decoder() {
    let written = written();
    let bytes = written.world.disk.segment_bytes(written.first).unwrap();
    let record = Bytes::copy_from_slice(&bytes[written.last.clone()]);
    let whole = decode_record(&record, written.marker).unwrap();
    assert_eq!(whole.length, record.len());
    for bit in 0..record.len() * 8 {
        let mut flipped = record.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_record(&flipped.into(), written.marker).is_err(), "bit {bit}");
    }
    for length in 0..record.len() {
        assert!(decode_record(&record.slice(..length), written.marker).is_err(), "{length} bytes");
    }
    assert!(decode_record(&record, written.marker + 1).is_err(), "a record of another segment");
}

#[test]
fn p11_after_closing_even_the_last_record_was_durable_for_certain() {
    let written = written();
    let (journal, mut writer) = written.world.open();
    let mut closing = Box::pin(journal.close());
    assert!(look(&mut closing).is_pending());
    assert!(writer.turn().unwrap().ended);
    assert!(now(closing).is_ok());
    let whole = written.world.disk.segment_bytes(written.first).unwrap();
    for at in written.last.clone() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        check_told(&written, &damaged, &format!("byte {at}"));
    }
    for at in [written.last.start, written.last.start + 20] {
        let mut cut = whole.clone();
        cut[at..].fill(0);
        check_told(&written, &cut, &format!("zeros from {at}"));
    }
}

#[test]
fn p11_a_segment_that_is_gone_is_noticed() {
    let world = World::new(2);
    let (journal, mut writer) = world.open();
    for n in 0..200 {
        append(&journal, &[&n.to_string()]);
        writer.turn().unwrap();
    }
    drop((journal, writer));
    world.disk.kill();
    drop(world.open());
    world.disk.kill();
    let segments = world.disk.segments().unwrap();
    assert!(segments.len() > 3);
    for gone in &segments {
        let world = World { disk: world.disk.copy(), ..world.clone() };
        world.disk.remove_segment(*gone).unwrap();
        world.disk.sync_directory().unwrap();
        let all = entries(&read_after(&world.open().0, Offset::ZERO));
        let told = all.iter().filter(|(_, entry)| entry.is_none()).count();
        assert!((1..=2).contains(&told), "{gone} of {segments:?}: {told}");
        assert!(all.len() > 120, "all other segments are there: {}", all.len());
    }
    let without_state = MemoryDisk::new();
    for first in &segments {
        without_state.set_segment_bytes(*first, &world.disk.segment_bytes(*first).unwrap());
    }
    let opened = Journal::open(World { disk: without_state, ..world }.options());
    assert!(matches!(opened, Err(Error::State { .. })));
}

#[test]
fn p11_damage_that_comes_while_the_node_runs_is_named_and_told() {
    let world = World::new(3);
    let (journal, mut writer) = world.open();
    for n in 0..100 {
        append(&journal, &[&n.to_string()]);
        writer.turn().unwrap();
    }
    let first = world.disk.segments().unwrap()[0];
    let mut bytes = world.disk.segment_bytes(first).unwrap();
    bytes[HEADER + 2000] ^= 1;
    world.disk.set_segment_bytes(first, &bytes);
    // Whoever asks nobody is told at once, in its place, and reads on.
    let found = entries(&read_after(&journal, Offset::ZERO));
    let told: Vec<_> = found.iter().filter(|(_, entry)| entry.is_none()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(found.len(), 100);
    assert_eq!(entries(&read_after(&journal, Offset::ZERO)), found, "and again");
    assert!(!journal.durable().borrow().failed, "what is written is not concerned");
}

proptest::proptest! {
    /// Whatever the bytes, the decoder answers; and what it takes for whole is what was written.
    #[test]
    fn p11_the_decoder_takes_any_bytes(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        marker in 1_u32..,
        length in 0_u32..500,
    ) {
        proptest::prop_assert!(decode_record(&bytes.clone().into(), marker).is_err());
        // With marker, length and checksum right, the rest is reached.
        if bytes.len() >= 64 {
            bytes.truncate(bytes.len() / 16 * 16);
            bytes[..4].copy_from_slice(&marker.to_le_bytes());
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            bytes[12..16].copy_from_slice(&(1 + length % 2).to_le_bytes());
            bytes[44..48].copy_from_slice(&(length % 70).to_le_bytes());
            let padded = (length as usize).next_multiple_of(16).min(bytes.len());
            if padded > 8 {
                let checksum = crc32c::crc32c_append(marker, &bytes[8..padded]);
                bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
            }
            let _ = decode_record(&bytes.into(), marker);
        }
    }
}
