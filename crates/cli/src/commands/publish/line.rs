//! One line of input: an event as a JSON object, or a bare key.
//!
//! Limits are the node's to judge; here is judged only whether the line says an event at all.

use evermesh_door::object::Object;
use evermesh_event::limits::EVENT_BYTES_MAX;
use evermesh_proto::v1;

/// What a line does not say.
#[derive(Clone, Debug)]
pub(super) struct Defaults(pub(super) v1::Event);

impl Defaults {
    pub(super) fn event(&self) -> v1::Event {
        self.0.clone()
    }
}

/// Reads a line without its end. Empty ones say nothing.
pub(super) fn parse(line: &[u8], defaults: &Defaults) -> Result<Option<v1::Event>, String> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let mut event = defaults.event();
    if line.first() == Some(&b'{') {
        let object: Object = serde_json::from_slice(line).map_err(|error| place(&error))?;
        object.fill(&mut event)?;
    } else {
        let key = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        event.key = key.to_owned();
    }
    let lacks = |what| format!("it says no {what}: name it in the line, or by --{what}");
    if event.site.is_empty() {
        return Err(lacks("site"));
    }
    if event.r#type.is_empty() {
        return Err(lacks("type"));
    }
    let bytes = bytes(&event);
    if bytes > EVENT_BYTES_MAX {
        return Err(format!(
            "the event takes {bytes} bytes, the limit is {EVENT_BYTES_MAX}; put large content into \
             a store and name it in the key"
        ));
    }
    Ok(Some(event))
}

/// What an event takes, without the few bytes of its form.
pub(super) fn bytes(event: &v1::Event) -> usize {
    let attributes = event.attributes.iter().map(|(name, value)| name.len() + value.len());
    event.data.len()
        + event.key.len()
        + event.source.len()
        + event.site.len()
        + event.r#type.len()
        + attributes.sum::<usize>()
}

/// The parser's words, with the column alone: it knows of one line only.
fn place(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults(v1::Event {
            site: "shop".into(),
            r#type: "t".into(),
            source: "me".into(),
            ..Default::default()
        })
    }

    fn event(line: &str) -> v1::Event {
        parse(line.as_bytes(), &defaults()).unwrap().unwrap()
    }

    #[test]
    fn a_bare_key_is_all_of_the_line() {
        for key in ["product:42", " two words ", "[1]", "\"q\"", "ä"] {
            assert_eq!(event(key), v1::Event { key: key.into(), ..defaults().0 });
        }
        assert_eq!(parse(b" \t", &defaults()), Ok(None));
    }

    #[test]
    fn an_object_goes_before_the_arguments() {
        let line = r#"{"id":"i","site":"intranet","type":"u","key":"k","source":"s",
            "time":"2026-11-21T12:00:00.5+01:00","attributes":{"a":"b"},"data_base64":"/wA=",
            "data_content_type":"x/y","coalesce":true,"traceparent":"p","tracestate":"q"}"#;
        let event = event(line);
        assert_eq!((&*event.id, &*event.site, &*event.r#type), ("i", "intranet", "u"));
        assert_eq!((&*event.key, &*event.source, &event.data[..]), ("k", "s", &[255_u8, 0][..]));
        let time = prost_types::Timestamp { seconds: 1_795_258_800, nanos: 500_000_000 };
        assert_eq!(event.time, Some(time));
        assert_eq!(event.attributes.get("a").map(String::as_str), Some("b"));
        assert_eq!((&*event.data_content_type, event.coalesce), ("x/y", true));
        assert_eq!((&*event.traceparent, &*event.tracestate), ("p", "q"));
    }

    #[test]
    fn what_an_object_does_not_say_comes_from_the_arguments() {
        let said = event(r#"{"key":"k","data":"ä"}"#);
        assert_eq!(said, v1::Event { key: "k".into(), data: "ä".into(), ..defaults().0 });
    }

    #[test]
    fn what_cannot_be_says_why() {
        let nothing = Defaults(v1::Event::default());
        for (line, why) in [
            (r#"{"kay":"k"}"#, "unknown field `kay`, expected one of `id`, `site`"),
            (r#"{"key":"k""#, "EOF while parsing an object at column 10"),
            (r#"{"key":1}"#, "invalid type: integer `1`, expected a string at column 8"),
            (r#"{"data":"a","data_base64":"YQ=="}"#, "both data and data_base64"),
            (r#"{"data_base64":"?"}"#, "data_base64 is not base64"),
            (r#"{"time":"yesterday"}"#, "time `yesterday` is not a time"),
        ] {
            let error = parse(line.as_bytes(), &defaults()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert_eq!(parse(b"\xff", &defaults()), Err("it is not UTF-8".to_owned()));
        let site = "it says no site: name it in the line, or by --site";
        assert_eq!(parse(b"k", &nothing), Err(site.to_owned()));
        let kind = "it says no type: name it in the line, or by --type";
        assert_eq!(parse(br#"{"site":"shop"}"#, &nothing), Err(kind.to_owned()));
        let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX));
        assert!(parse(large.as_bytes(), &defaults()).unwrap_err().contains("the limit is 262144"));
    }
}
