//! The forms of the lines, word for word: programs of others read them.
#![allow(clippy::unwrap_used, reason = "tests")]

use evermesh_event::{Epoch, JournalId, StartId};

use super::*;

const TOKEN: &str = "\"resume_token\":\"er1.";

fn run() -> Run {
    Run { journal: JournalId::new([1; 16]), start: StartId::new([2; 16]) }
}

fn at(counter: u64) -> ResumeToken {
    ResumeToken { run: run(), offset: Offset::new(Epoch::new(3).unwrap(), counter).unwrap() }
}

fn sequence(counter: u64) -> u64 {
    Sequence::new(Epoch::new(3).unwrap(), counter).unwrap().as_u64()
}

fn origin() -> v1::Origin {
    v1::Origin { node: "web-1".into(), journal: vec![7; 16].into() }
}

fn delivery(events: &[v1::Event]) -> v1::Delivery {
    let mut delivery = v1::Delivery::default();
    delivery.origin = Some(origin());
    delivery.first_offset = at(40).offset.as_u64();
    delivery.attempt = 1;
    let mut body = Vec::new();
    for (event, n) in events.iter().zip(17..) {
        let entry = v1::Entry { sequence: sequence(n), event: Some(event.clone()) };
        body.push(v1::Delivery::ENTRY_TAG);
        body.extend(prost::Message::encode_length_delimited_to_vec(&entry));
    }
    delivery.splice(body.into());
    delivery
}

fn text(lines: &mut Lines) -> String {
    String::from_utf8(lines.take()).unwrap()
}

#[test]
fn an_event() {
    let event = v1::Event {
        id: "i-1".into(),
        site: "shop".into(),
        r#type: "price".into(),
        key: "quote \" and\nline".into(),
        source: "editor".into(),
        time: Some(prost_types::Timestamp { seconds: 1_795_262_400, nanos: 500_000_000 }),
        attributes: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        data: "42 €".into(),
        data_content_type: "text/plain".into(),
        ..Default::default()
    };
    let binary = v1::Event { data: vec![255, 0].into(), ..Default::default() };
    let mut lines = Lines::new(false, None);
    let printed = lines.delivery(&delivery(&[event, binary]), run(), u64::MAX).unwrap();
    assert_eq!((printed.events, printed.through), (2, Some(at(41))));
    let token = |n| FenceToken {
        origin: Origin::from_proto(&origin()).unwrap(),
        sequence: Sequence::from_u64(sequence(n)),
        site: if n == 17 { "shop".into() } else { String::new() },
    };
    let (fence, binary_fence) = (token(17), token(18));
    let expected = format!(
        "{{\"event\":{{\"id\":\"i-1\",\"site\":\"shop\",\"type\":\"price\",\
         \"key\":\"quote \\\" and\\nline\",\"source\":\"editor\",\
         \"time\":\"2026-11-21T12:00:00.5Z\",\
         \"attributes\":{{\"a\":\"1\",\"b\":\"2\"}},\"data\":\"42 €\",\
         \"data_content_type\":\"text/plain\"}},\"origin\":\"web-1\",\"sequence\":\"3:17\",\
         \"attempt\":1,\"fence_token\":\"{fence}\",\"resume_token\":\"{}\"}}\n\
         {{\"event\":{{\"id\":\"\",\"site\":\"\",\"type\":\"\",\"key\":\"\",\"source\":\"\",\
         \"time\":null,\"attributes\":{{}},\"data_base64\":\"/wA=\",\"data_content_type\":\"\"}},\
         \"origin\":\"web-1\",\"sequence\":\"3:18\",\"attempt\":1,\
         \"fence_token\":\"{binary_fence}\",\"resume_token\":\"{}\"}}\n",
        at(40),
        at(41)
    );
    let printed = text(&mut lines);
    assert_eq!(printed, expected);
    for line in printed.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn no_more_events_than_asked_for_and_each_with_its_own_offset() {
    let mut delivery = delivery(&vec![v1::Event::default(); 3]);
    delivery.offsets = vec![at(40).offset.as_u64(), at(50).offset.as_u64(), at(60).offset.as_u64()];
    let mut lines = Lines::new(false, None);
    let printed = lines.delivery(&delivery, run(), 2).unwrap();
    assert_eq!((printed.events, printed.through), (2, Some(at(50))));
    assert_eq!(text(&mut lines).lines().count(), 2);
    let printed = lines.delivery(&delivery, run(), u64::MAX).unwrap();
    assert_eq!((printed.events, printed.through), (3, Some(at(60))));
}

#[test]
fn with_timestamps_each_event_says_when() {
    let mut lines = Lines::new(true, None);
    lines.delivery(&delivery(&[v1::Event::default()]), run(), 9).unwrap();
    lines.opened("web-1", at(40));
    let text = text(&mut lines);
    let said: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let when = said.first().and_then(|line| line.get("acknowledged")?.as_str()).unwrap();
    assert!(when.parse::<Timestamp>().is_ok(), "{when}");
    assert!(text.contains(&format!(",{TOKEN}")), "{text}");
    assert!(text.contains("{\"opened\":{\"node\":\"web-1\",\"at\":\""), "{text}");
}

#[test]
fn a_planted_loss_is_counted_and_not_printed() {
    let mut lines = Lines::new(false, Some(2));
    let printed = lines.delivery(&delivery(&vec![v1::Event::default(); 3]), run(), 9).unwrap();
    assert_eq!(printed.events, 3);
    let text = text(&mut lines);
    assert_eq!(text.lines().count(), 2);
    assert!(!text.contains("3:18"), "{text}");
}

#[test]
fn everything_else() {
    let mut lines = Lines::new(false, None);
    let place = format!("\"resume_token\":\"{}\"}}\n", at(5));
    let mut missed = v1::Missed {
        origin: Some(origin()),
        from: sequence(17),
        through: sequence(20),
        sites: vec!["shop".into()],
        ..Default::default()
    };
    missed.set_cause(v1::MissedCause::UnknownToken);
    lines.missed(&missed, at(5));
    let expected = "{\"missed\":{\"origin\":\"web-1\",\"from\":\"3:17\",\"through\":\"3:20\",\
                    \"sites\":[\"shop\"],\"cause\":\"unknown_token\"},";
    assert_eq!(text(&mut lines), format!("{expected}{place}"));
    lines.missed(&v1::Missed::default(), at(5));
    let expected = "{\"missed\":{\"origin\":null,\"from\":null,\"through\":null,\"sites\":[],\
                    \"cause\":\"unspecified\"},";
    assert_eq!(text(&mut lines), format!("{expected}{place}"));

    let members = v1::CaughtUp {
        offset: 0,
        members: vec!["web-2".into()],
        absent_members: vec!["web-3".into()],
    };
    lines.caught_up(&members, at(5));
    let expected = "{\"caught_up\":{\"members\":[\"web-2\"],\"absent_members\":[\"web-3\"]},";
    assert_eq!(text(&mut lines), format!("{expected}{place}"));

    let remains = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    let leases = vec![v1::MemberLease { node: "web-2".into(), remains }];
    lines.freshness(&v1::Freshness { ping_number: 7, leases });
    let expected = "{\"freshness\":{\"ping\":7,\"leases\":[{\"node\":\"web-2\",\
                    \"remains_seconds\":1.5}]}}\n";
    assert_eq!(text(&mut lines), expected);
    lines.taken_over(&v1::TakenOver { by: "local:uid=33".into() });
    assert_eq!(text(&mut lines), "{\"taken_over\":{\"by\":\"local:uid=33\"}}\n");
}
