//! An event as a JSON object: what people and scripts write, and what they are told.
//!
//! Data is `data` where it is UTF-8, else `data_base64`. Limits are the node's to judge; here is
//! judged only whether an object says an event at all.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evermesh_event::{FenceToken, Origin, ResumeToken, Sequence};
use evermesh_proto::v1;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// What an object may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    id: Option<String>,
    site: Option<String>,
    r#type: Option<String>,
    key: Option<String>,
    source: Option<String>,
    time: Option<String>,
    attributes: Option<HashMap<String, String>>,
    data: Option<String>,
    data_base64: Option<String>,
    data_content_type: Option<String>,
    coalesce: Option<bool>,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Object {
    /// Puts what the object says over what an event has.
    ///
    /// # Errors
    /// If data or time cannot be read, in words for whoever wrote it.
    pub fn fill(self, event: &mut v1::Event) -> Result<(), String> {
        let set = |field: &mut String, said: Option<String>| {
            if let Some(said) = said {
                *field = said;
            }
        };
        set(&mut event.id, self.id);
        set(&mut event.site, self.site);
        set(&mut event.r#type, self.r#type);
        set(&mut event.key, self.key);
        set(&mut event.source, self.source);
        set(&mut event.data_content_type, self.data_content_type);
        set(&mut event.traceparent, self.traceparent);
        set(&mut event.tracestate, self.tracestate);
        event.coalesce = self.coalesce.unwrap_or(event.coalesce);
        if let Some(attributes) = self.attributes {
            event.attributes.extend(attributes);
        }
        event.data = data(self.data, self.data_base64)?;
        if let Some(text) = self.time {
            event.time = Some(time(&text)?);
        }
        Ok(())
    }
}

/// Data as text or as base64.
pub(crate) fn data(text: Option<String>, base64: Option<String>) -> Result<bytes::Bytes, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("it says both data and data_base64".to_owned()),
        (Some(text), None) => Ok(text.into()),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(data) => Ok(data.into()),
            Err(error) => Err(format!("data_base64 is not base64: {error}")),
        },
        (None, None) => Ok(bytes::Bytes::new()),
    }
}

/// A time as RFC 3339 writes it.
pub(crate) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let time: Timestamp = text
        .parse()
        .map_err(|_| format!("time `{text:.40}` is not a time such as 2026-11-21T12:00:00Z"))?;
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// A time as RFC 3339 writes it.
pub(crate) fn time_text(time: Option<prost_types::Timestamp>) -> Option<String> {
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map(|time| time.to_string())
}

/// An event that was delivered, as `evermesh subscribe` prints it.
#[must_use]
pub fn delivered(entry: &v1::Entry, origin: &Origin, attempt: u32, through: ResumeToken) -> Value {
    let event = entry.event.clone().unwrap_or_default();
    let sequence = Sequence::from_u64(entry.sequence);
    let fence = FenceToken { origin: origin.clone(), sequence, site: event.site.clone() };
    let mut object = json!({
        "id": event.id, "site": event.site, "type": event.r#type, "key": event.key,
        "source": event.source, "time": time_text(event.time),
        "attributes": event.attributes.iter().collect::<BTreeMap<_, _>>(),
    });
    let (name, text) = match std::str::from_utf8(&event.data) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("data_base64", STANDARD.encode(&event.data)),
    };
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), text.into());
        object.insert("data_content_type".to_owned(), event.data_content_type.into());
    }
    json!({
        "event": object, "origin": origin.node.as_str(), "sequence": sequence.to_string(),
        "attempt": attempt, "fence_token": fence.to_string(), "resume_token": through.to_string(),
    })
}

/// A missed, as `evermesh subscribe` prints it.
#[must_use]
pub fn missed(missed: &v1::Missed, through: ResumeToken) -> Value {
    let position = |value: u64| (value > 0).then(|| Sequence::from_u64(value).to_string());
    let cause = missed.cause().as_str_name();
    let cause = cause.strip_prefix("MISSED_CAUSE_").unwrap_or(cause).to_ascii_lowercase();
    json!({
        "missed": {
            "origin": missed.origin.as_ref().map(|origin| &origin.node),
            "from": position(missed.from),
            "through": position(missed.through),
            "sites": missed.sites,
            "cause": cause,
        },
        "resume_token": through.to_string(),
    })
}

/// That everything from before was delivered, as `evermesh subscribe` prints it.
#[must_use]
pub fn caught_up(caught_up: &v1::CaughtUp, through: ResumeToken) -> Value {
    json!({
        "caught_up": {
            "members": caught_up.members,
            "absent_members": caught_up.absent_members,
        },
        "resume_token": through.to_string(),
    })
}
