//! What publishing says, word for word.
#![allow(clippy::unwrap_used, reason = "tests")]

use evermesh_event::{Epoch, FenceToken, JournalId, NodeName, Origin, Sequence};

use super::*;

fn taken() -> Taken {
    let origin = Origin { node: NodeName::new("web-1").unwrap(), journal: JournalId::new([7; 16]) };
    let sequence = Sequence::new(Epoch::new(3).unwrap(), 17).unwrap();
    let fence_token = FenceToken { origin, sequence, site: "shop".into() };
    Taken { id: "i-1".into(), fence_token, duplicate: false }
}

fn report() -> Report {
    Report {
        output: Output::standard(),
        json: false,
        input: "standard input".into(),
        until: v1::Assurance::Replicated,
        progress: None,
        count: 16,
        under_way: 256,
        origin: "web-1".into(),
    }
}

fn refused(field: &str, reason: &str, message: &str) -> Outcome {
    Outcome::Refused(v1::Refused {
        field: field.into(),
        reason: reason.into(),
        message: message.into(),
        retry_after: None,
    })
}

#[test]
fn a_line_for_an_event() {
    let token = taken().fence_token.to_string();
    assert!(token.starts_with("ef1."));
    let expected = format!(
        "{{\"id\":\"i-1\",\"origin\":\"web-1\",\"sequence\":\"3:17\",\"fence_token\":\"{token}\",\
         \"assured\":\"stored\"}}\n"
    );
    assert_eq!(json_line(&taken(), v1::Assurance::Stored), expected);
    let text = text_line(&taken(), v1::Assurance::Stored);
    assert_eq!(text, "i-1 is web-1/3:17, stored\n");
    let again = Taken { duplicate: true, ..taken() };
    let text = text_line(&again, v1::Assurance::Replicated);
    assert_eq!(text, "i-1 is web-1/3:17, replicated, as it was before\n");
}

#[test]
fn the_event_that_refused_the_others_is_found() {
    let outcomes = [
        refused("events[0]", "ALL_OR_NOTHING", "another event of the request is refused"),
        refused("events[1].key", "KEY_TOO_LONG", "has 1025 bytes, the limit is 1024"),
    ];
    let (index, first) = first_refused(&outcomes).unwrap();
    let text = "key: has 1025 bytes, the limit is 1024".to_owned();
    assert_eq!((index, Why::of(first)), (1, Why { code: 65, text }));
    assert!(first_refused(&[Outcome::Taken(taken())]).is_none());
}

#[test]
fn every_end_says_what_was_published() {
    let why = Why { code: 65, text: "it is not UTF-8".into() };
    let stopped = report().stopped_at(17, &why);
    let text = "line 17 of standard input: it is not UTF-8; 16 events published before it, nothing \
                after it";
    assert_eq!((stopped.code, stopped.text.as_deref()), (65, Some(text)));

    let at = || "/n.sock".parse().unwrap();
    let broken = Error::Broken { address: at(), reason: "reset".into() };
    let text = "the connection to unix:/n.sock broke: reset; 16 events published; whether the 256 \
                events from line 17 of standard input on were, too, is not known";
    assert_eq!(report().failed(17, broken).text.as_deref(), Some(text));
    let away = Error::Unreachable { address: at(), reason: "gone".into(), retry: true };
    let failure = report().failed(17, away);
    let text = "no node answers at unix:/n.sock: gone; 16 events published; none of the 256 events \
                from line 17 of standard input on";
    assert_eq!((failure.code, failure.text.as_deref()), (69, Some(text)));

    let ended = report().interrupted(Failure::silent(130)).unwrap_err();
    let text = "interrupted; 16 events published, up to 256 more may have been";
    assert_eq!((ended.code, ended.text.as_deref()), (130, Some(text)));
}

#[test]
fn less_than_asked_for_names_who_is_pending() {
    let member = |node: &str, standing: v1::MemberStanding| v1::MemberState {
        node: node.into(),
        standing: standing.into(),
        took: None,
    };
    let members = vec![
        member("web-2", v1::MemberStanding::Stored),
        member("web-3", v1::MemberStanding::Pending),
    ];
    let outcomes = vec![Outcome::Taken(taken())];
    let mut published = Published { outcomes, assured: v1::Assurance::Stored, members };
    let text = "1 event stored, not replicated; not yet at web-3; 16 events published in all, \
                nothing after";
    let failure = report().sure_enough(&published).unwrap_err();
    assert_eq!((failure.code, failure.text.as_deref()), (69, Some(text)));
    published.assured = v1::Assurance::Replicated;
    assert!(report().sure_enough(&published).is_ok());
}
