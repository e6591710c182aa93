//! Every refusal once, every limit at its edge.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn fill() -> Fill {
    Fill { id: uuid::Uuid::from_u128(1), now: SystemTime::UNIX_EPOCH }
}

fn event() -> v1::Event {
    v1::Event { site: "shop".into(), r#type: "cache.invalidate".into(), ..Default::default() }
}

fn reason(change: impl FnOnce(&mut v1::Event)) -> Result<(), &'static str> {
    let mut event = event();
    change(&mut event);
    validate(event, fill()).map(|_| ()).map_err(|refusal| refusal.reason)
}

#[test]
fn a_plain_event_is_completed() {
    let valid = validate(event(), fill()).unwrap();
    assert_eq!(valid.event().id, "00000000-0000-0000-0000-000000000001");
    assert!(valid.event().time.is_some());
    assert_eq!(valid.length(), valid.event().encoded_len());
}

#[test]
fn what_the_application_said_stays() {
    let mut given = event();
    given.id = "mine".into();
    given.time = Some(prost_timestamp(7));
    let valid = validate(given.clone(), fill()).unwrap();
    assert_eq!(valid.event(), &given);
}

fn prost_timestamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

#[test]
fn each_field_is_refused_with_its_reason() {
    let refused = |reason| Err(reason);
    assert_eq!(reason(|e| e.site.clear()), refused("SITE_MISSING"));
    assert_eq!(reason(|e| e.site = "Shop".into()), refused("SITE_INVALID"));
    assert_eq!(reason(|e| e.site = "x".repeat(65)), refused("SITE_INVALID"));
    assert_eq!(reason(|e| e.id = "a b".into()), refused("ID_INVALID"));
    assert_eq!(reason(|e| e.id = "x".repeat(65)), refused("ID_INVALID"));
    assert_eq!(reason(|e| e.r#type.clear()), refused("TYPE_MISSING"));
    assert_eq!(reason(|e| e.r#type = "ä".into()), refused("TYPE_INVALID"));
    assert_eq!(reason(|e| e.key = "k".repeat(1025)), refused("KEY_TOO_LONG"));
    assert_eq!(reason(|e| e.source = "s".repeat(257)), refused("SOURCE_TOO_LONG"));
    assert_eq!(reason(|e| e.data_content_type = "a\n".into()), refused("CONTENT_TYPE_INVALID"));
    assert_eq!(reason(|e| e.traceparent = "0".repeat(129)), refused("TRACE_TOO_LONG"));
    assert_eq!(reason(|e| e.coalesce = true), refused("COALESCE_WITHOUT_KEY"));
    assert_eq!(reason(|e| e.data = vec![0; 256 * 1024].into()), refused("EVENT_TOO_LARGE"));
    let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
    assert_eq!(reason(|e| e.attributes = many), refused("TOO_MANY_ATTRIBUTES"));
    let odd = [("A".to_owned(), String::new())].into();
    assert_eq!(reason(|e| e.attributes = odd), refused("ATTRIBUTE_NAME_INVALID"));
    let long = [("a".to_owned(), "v".repeat(1025))].into();
    assert_eq!(reason(|e| e.attributes = long), refused("ATTRIBUTE_TOO_LONG"));
}

#[test]
fn each_limit_itself_is_allowed() {
    assert_eq!(reason(|e| e.site = "x".repeat(64)), Ok(()));
    assert_eq!(reason(|e| e.id = "x".repeat(64)), Ok(()));
    assert_eq!(reason(|e| e.key = "k".repeat(1024)), Ok(()));
    let many = (0..32).map(|n| (n.to_string(), "v".repeat(1024))).collect();
    assert_eq!(reason(|e| e.attributes = many), Ok(()));
    let room = EVENT_BYTES_MAX - validate(event(), fill()).unwrap().length() - 4;
    assert_eq!(reason(|e| e.data = vec![0; room].into()), Ok(()));
    assert_eq!(reason(|e| e.data = vec![0; room + 1].into()), Err("EVENT_TOO_LARGE"));
}
