//! CloudEvents: an event as a CloudEvent 1.0 in its JSON format, and back, without loss.
//!
//! | evermesh | CloudEvent |
//! |---|---|
//! | id, type, time | id, type, time |
//! | source | source; `evermesh` where it is empty, because a CloudEvent must have one |
//! | data_content_type | datacontenttype |
//! | data | data (JSON or text), or data_base64 |
//! | site, key | the extensions `site` and `partitionkey` |
//! | coalesce | the extension `coalesce` |
//! | traceparent, tracestate | the extensions of the distributed tracing extension |
//! | attributes | extensions of the same name |
//!
//! The source is the JSON format of the CloudEvents specification 1.0.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evermesh_proto::v1;
use serde_json::{Map, Value};

use crate::object::{data, time, time_text};

/// What stands for an empty source.
const SOURCE_EMPTY: &str = "evermesh";

/// Reads a CloudEvent. `site`: that of events which name none.
///
/// # Errors
/// If it is no CloudEvent 1.0, in words for whoever sent it.
pub fn read(cloud: Map<String, Value>, site: &str) -> Result<v1::Event, String> {
    let mut event = v1::Event { site: site.to_owned(), ..Default::default() };
    let (mut version, mut text_data, mut base64) = (None, None, None);
    for (name, value) in cloud {
        match name.as_str() {
            "data" => text_data = Some(value),
            _ => {
                let text = text(&name, value)?;
                match name.as_str() {
                    "specversion" => version = Some(text),
                    "data_base64" => base64 = Some(text),
                    "dataschema" | "subject" => {
                        event.attributes.insert(name, text);
                    }
                    _ => set(&mut event, name, text)?,
                }
            }
        }
    }
    if version.as_deref() != Some("1.0") {
        return Err("specversion: must be `1.0`".to_owned());
    }
    for (name, field) in [("id", &event.id), ("type", &event.r#type), ("source", &event.source)] {
        if field.is_empty() && !(name == "source" && event.source == SOURCE_EMPTY) {
            return Err(format!("{name}: a CloudEvent must have one"));
        }
    }
    if event.source == SOURCE_EMPTY {
        event.source.clear();
    }
    // Text is itself where the content type says so; else `data` is a value of JSON.
    let json = is_json(&event.data_content_type);
    let text_data = text_data.map(|value| match value {
        Value::String(text) if !json => text,
        value => value.to_string(),
    });
    event.data = data(text_data, base64)?;
    Ok(event)
}

/// Sets one attribute of the context: a field of its own, or one of evermesh's attributes.
///
/// # Errors
/// If its value cannot be read.
pub(crate) fn set(event: &mut v1::Event, name: String, text: String) -> Result<(), String> {
    match name.as_str() {
        "id" => event.id = text,
        "source" => event.source = text,
        "type" => event.r#type = text,
        "time" => event.time = Some(time(&text)?),
        "datacontenttype" => event.data_content_type = text,
        "site" => event.site = text,
        "partitionkey" => event.key = text,
        "coalesce" => event.coalesce = text == "true",
        "traceparent" => event.traceparent = text,
        "tracestate" => event.tracestate = text,
        _ => {
            event.attributes.insert(name, text);
        }
    }
    Ok(())
}

/// Writes an event as a CloudEvent.
#[must_use]
pub fn write(event: &v1::Event) -> Map<String, Value> {
    let mut cloud = Map::new();
    let mut say = |name: &str, text: &str| {
        if !text.is_empty() {
            cloud.insert(name.to_owned(), text.into());
        }
    };
    say("specversion", "1.0");
    say("id", &event.id);
    say("source", if event.source.is_empty() { SOURCE_EMPTY } else { &event.source });
    say("type", &event.r#type);
    say("time", &time_text(event.time).unwrap_or_default());
    say("datacontenttype", &event.data_content_type);
    say("site", &event.site);
    say("partitionkey", &event.key);
    say("coalesce", if event.coalesce { "true" } else { "" });
    say("traceparent", &event.traceparent);
    say("tracestate", &event.tracestate);
    for (name, value) in &event.attributes {
        cloud.insert(name.clone(), value.as_str().into());
    }
    if !event.data.is_empty() {
        cloud.insert("data_base64".to_owned(), STANDARD.encode(&event.data).into());
    }
    cloud
}

fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        _ => Err(format!("{name}: must be text, a number or a boolean")),
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.is_empty() || kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_the_specification_shows() {
        let cloud = object(serde_json::json!({
            "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext",
            "id": "C234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
            "comexampleothervalue": 5, "datacontenttype": "application/json",
            "data": { "appinfoA": "abc" }, "partitionkey": "product:42",
        }));
        let event = read(cloud, "shop").unwrap();
        assert_eq!(
            (&*event.site, &*event.key, &*event.source),
            ("shop", "product:42", "/mycontext")
        );
        assert_eq!(&event.data[..], br#"{"appinfoA":"abc"}"#);
        assert_eq!(event.attributes["comexampleothervalue"], "5");
        let text = object(serde_json::json!({
            "specversion": "1.0", "type": "t", "source": "s", "id": "i",
            "datacontenttype": "text/xml", "data": "<much wow=\"xml\"/>",
        }));
        assert_eq!(&read(text, "shop").unwrap().data[..], b"<much wow=\"xml\"/>");
    }

    #[test]
    fn what_is_none_says_why() {
        for (cloud, why) in [
            (serde_json::json!({ "id": "i", "type": "t", "source": "s" }), "specversion"),
            (serde_json::json!({ "specversion": "1.0", "type": "t", "source": "s" }), "id:"),
            (serde_json::json!({ "specversion": "1.0", "id": "i", "type": "t" }), "source:"),
            (
                serde_json::json!({ "specversion": "1.0", "id": "i", "type": "t", "source": "s",
                    "x": [] }),
                "x: must be text",
            ),
        ] {
            let error = read(object(cloud), "shop").unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z0-9]{1,10}".prop_filter("an attribute of its own", |name| {
            !["id", "source", "type", "time", "site", "data", "coalesce"].contains(&name.as_str())
        })
    }

    proptest! {
        #[test]
        fn there_and_back_nothing_is_lost(
            id in "[!-~]{1,64}", site in "[a-z0-9]{1,9}", kind in "[!-~]{1,20}", key in ".{0,20}",
            source in ".{0,20}", seconds in 0_i64..4_000_000_000, nanos in 0..999_999_999_i32,
            attributes in proptest::collection::hash_map(name(), ".{1,20}", 0..5),
            data in proptest::collection::vec(any::<u8>(), 0..50), coalesce: bool,
            content_type in "[!-~]{0,20}",
        ) {
            let event = v1::Event {
                id, site, r#type: kind, key, attributes, data: data.into(), coalesce,
                source: if source == SOURCE_EMPTY { String::new() } else { source },
                time: Some(prost_types::Timestamp { seconds, nanos }),
                data_content_type: content_type,
                traceparent: "00-1-2-01".into(), tracestate: "a=b".into(),
            };
            prop_assert_eq!(read(write(&event), "other").unwrap(), event);
        }
    }
}
