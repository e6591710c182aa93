//! Every message comes back as it went in, and the page says what the code does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;
use std::time::SystemTime;

use evermesh_event::limits::TYPE_BYTES_MAX;
use evermesh_event::{Fill, validate};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// What intake makes of it, where the node fills in what is not said.
fn taken(event: v1::Event) -> v1::Event {
    let fill = Fill { id: Uuid::from_u128(7), now: SystemTime::UNIX_EPOCH };
    validate(event, fill).unwrap().into_event()
}

#[test]
fn every_known_id_round_trips_under_a_type_of_its_own() {
    let types: HashSet<_> = KNOWN.iter().map(|known| known.event_type).collect();
    let ids: HashSet<_> = KNOWN.iter().map(|known| known.event_id).collect();
    assert_eq!((types.len(), ids.len()), (KNOWN.len(), KNOWN.len()));
    for known in KNOWN {
        assert_eq!(type_of(known.event_id), known.event_type);
        assert_eq!(event_id(known.event_type), Some(known.event_id));
        assert!(known.event_type.len() <= TYPE_BYTES_MAX);
        let message = EventMessage { event_id: known.event_id, ..Default::default() };
        let event = taken(message.to_event("shop").unwrap());
        assert_eq!(event.r#type, known.event_type);
        assert_eq!(EventMessage::from_event(&event), Ok(message));
    }
}

#[test]
fn an_id_without_a_name_is_its_own_type() {
    let id = Uuid::from_u128(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00);
    assert_eq!(type_of(id), "episerver.11223344-5566-7788-99aa-bbccddeeff00");
    assert_eq!(event_id(&type_of(id)), Some(id));
    for none in
        ["cache.invalidate", "episerver.", "episerver.nothing", "episerver.1122334455667788"]
    {
        assert_eq!(event_id(none), None, "{none}");
    }
    let upper = "episerver.11223344-5566-7788-99AA-BBCCDDEEFF00";
    assert_eq!(event_id(upper), None, "one form only");
}

#[test]
fn what_cannot_be_mapped_is_named() {
    let long = EventMessage { site_id: Some("s".repeat(1025)), ..Default::default() };
    let error = long.to_event("shop").unwrap_err();
    assert_eq!(error, MappingError::TooLong { field: SITE_ID, bytes: 1025 });
    let never = EventMessage { sent_ticks: Some(-1), ..Default::default() };
    assert_eq!(never.to_event("shop"), Err(MappingError::Ticks(-1)));
    let other = v1::Event { r#type: "cache.invalidate".into(), ..Default::default() };
    let other = EventMessage::from_event(&other).unwrap_err();
    assert_eq!(other, MappingError::Type("cache.invalidate".into()));
    let event = EventMessage::default().to_event("shop").unwrap();
    let with = |name: &str, value: &str| {
        let mut event = event.clone();
        event.attributes.insert(name.into(), value.into());
        EventMessage::from_event(&event)
    };
    assert_eq!(with(SEQUENCE, "2147483648"), Err(MappingError::Field(SEQUENCE)));
    assert_eq!(with(VERIFICATION, "?"), Err(MappingError::Field(VERIFICATION)));
    assert_eq!(with(SENT, "today"), Err(MappingError::Field(SENT)));
    assert_eq!(with(SENT, "-1"), Err(MappingError::Ticks(-1)));
    let someone = v1::Event { source: "editor".into(), ..event };
    assert_eq!(EventMessage::from_event(&someone), Err(MappingError::Field("source")));
}

#[test]
fn a_time_of_dotnet_is_the_same_time_on_the_wire() {
    let at = |ticks| timestamp(ticks).map(|time| (time.seconds, time.nanos));
    assert_eq!(at(EPOCH_TICKS), Ok((0, 0)));
    assert_eq!(at(EPOCH_TICKS - 1), Ok((-1, 999_999_900)));
    // 2026-11-21T07:20:00.1234567Z
    assert_eq!(at(EPOCH_TICKS + 17_952_456_001_234_567), Ok((1_795_245_600, 123_456_700)));
    assert_eq!(at(0).unwrap().0, -62_135_596_800, "0001-01-01");
    assert_eq!(at(TICKS_MAX).unwrap().0, 253_402_300_799, "9999-12-31T23:59:59");
}

#[test]
fn a_sequence_number_that_wraps_goes_on() {
    assert_eq!(widen(0, 5), 5);
    assert_eq!(widen(5, 4), 4, "late, not four thousand million ahead");
    assert_eq!(widen(2_147_483_647, i32::MIN), 2_147_483_648);
    assert_eq!(widen(4_294_967_295, 0), 4_294_967_296);
    assert_eq!(widen(4_294_967_296, -1), 4_294_967_295);
    assert_eq!(widen(0, -1), 4_294_967_295, "nothing is below 0");
    let first = i32::MAX - 2;
    for step in 1..10 {
        let (last, next) = (first.wrapping_add(step - 1), first.wrapping_add(step));
        let wide = |number: i32| u64::from(number.cast_unsigned());
        assert_eq!(widen(wide(last), next), wide(last) + 1);
    }
}

/// The rows of a table of the page, without their quotes.
fn rows(page: &str, columns: usize) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        let cells = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
        cells.map(str::to_owned).collect::<Vec<_>>()
    });
    cells.filter(|cells| cells.len() == columns).collect()
}

#[test]
fn the_page_has_every_known_id_and_no_other() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/episerver.md");
    let page = std::fs::read_to_string(page).unwrap();
    let ids = page.split("## Event ids").nth(1).unwrap();
    let known = KNOWN.map(|known| {
        vec![known.name.to_owned(), known.event_id.to_string(), known.event_type.to_owned()]
    });
    assert_eq!(rows(ids, 3)[1..], known, "after the head");
    for attribute in [SITE_ID, SEQUENCE, VERIFICATION, SERVER, APPLICATION, SENT, NO_PARAMETER] {
        assert!(page.contains(&format!("`{attribute}`")), "{attribute}");
    }
}

fn texts() -> impl Strategy<Value = Option<String>> {
    option::of(".{0,64}")
}

fn event_ids() -> impl Strategy<Value = Uuid> {
    let known = (0..KNOWN.len()).prop_map(|number| KNOWN[number].event_id);
    prop_oneof![any::<u128>().prop_map(Uuid::from_u128), known]
}

prop_compose! {
    fn messages()(
        raiser in any::<u128>(),
        event_id in event_ids(),
        site_id in texts(),
        sequence_number in any::<i32>(),
        verification_data in option::of(vec(any::<u8>(), 0..64)),
        parameter in option::of(vec(any::<u8>(), 0..512)),
        server_name in texts(),
        application_name in texts(),
        sent_ticks in option::of(0..=TICKS_MAX),
    ) -> EventMessage {
        EventMessage {
            raiser_id: Uuid::from_u128(raiser),
            site_id,
            sequence_number,
            verification_data,
            event_id,
            parameter: parameter.map(Into::into),
            server_name,
            application_name,
            sent_ticks,
        }
    }
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_went_in(message in messages()) {
        let event = taken(message.to_event("shop").unwrap());
        prop_assert_eq!(EventMessage::from_event(&event), Ok(message));
    }

    #[test]
    fn a_widened_number_keeps_its_bits_and_is_the_nearest(last: u64, number: i32) {
        let wide = widen(last, number);
        prop_assert_eq!(wide as u32, number as u32);
        let edge = !(1 << 31..=u64::MAX - (1 << 31)).contains(&last);
        prop_assert!(edge || wide.abs_diff(last) <= 1 << 31);
    }
}
