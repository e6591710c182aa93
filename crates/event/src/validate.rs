//! Intake: what an event must be to be taken. Every refusal names field, value, limit and what to
//! do.

use std::time::SystemTime;

use evermesh_proto::v1;
use prost::Message;

use crate::limits::{
    ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, CONTENT_TYPE_BYTES_MAX,
    EVENT_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, SITE_BYTES_MAX, SOURCE_BYTES_MAX,
    TRACEPARENT_BYTES_MAX, TRACESTATE_BYTES_MAX, TYPE_BYTES_MAX,
};

/// What a refused event gets to hear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refusal {
    /// The field within the event: `key`, `attributes`.
    pub field: &'static str,
    /// A documented reason: `KEY_TOO_LONG`.
    pub reason: &'static str,
    /// What is wrong, with value and limit, and what to do.
    pub message: String,
}

/// What the node adds where the application said nothing.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Becomes the id, as a UUIDv7.
    pub id: uuid::Uuid,
    /// Becomes the time.
    pub now: SystemTime,
}

/// An event that may be numbered: complete and within every limit.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidEvent {
    event: v1::Event,
    length: usize,
}

impl ValidEvent {
    /// The event.
    #[must_use]
    pub const fn event(&self) -> &v1::Event {
        &self.event
    }

    /// The event, given up.
    #[must_use]
    pub fn into_event(self) -> v1::Event {
        self.event
    }

    /// Its encoded length in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Replaces the trace context, which the node decides at intake. A tracestate belongs to the
    /// traceparent it came with.
    pub fn set_trace(&mut self, traceparent: String, keeps_tracestate: bool) {
        self.event.traceparent = traceparent;
        if !keeps_tracestate {
            self.event.tracestate.clear();
        }
        self.length = self.event.encoded_len();
    }
}

/// Checks an event and completes it.
///
/// # Errors
/// The first field that is not as it must be.
pub fn validate(mut event: v1::Event, fill: Fill) -> Result<ValidEvent, Refusal> {
    if event.id.is_empty() {
        event.id = fill.id.to_string();
    }
    if event.time.is_none() {
        event.time = Some(fill.now.into());
    }
    check_site(&event.site)?;
    token("id", "ID_INVALID", &event.id, ID_BYTES_MAX)?;
    if event.r#type.is_empty() {
        return Err(refusal("type", "TYPE_MISSING", "is empty; name what kind of change it is"));
    }
    token("type", "TYPE_INVALID", &event.r#type, TYPE_BYTES_MAX)?;
    at_most("key", "KEY_TOO_LONG", event.key.len(), KEY_BYTES_MAX)?;
    at_most("source", "SOURCE_TOO_LONG", event.source.len(), SOURCE_BYTES_MAX)?;
    let content_type = &event.data_content_type;
    if content_type.len() > CONTENT_TYPE_BYTES_MAX || !printable(content_type, true) {
        let message = format!("must be at most {CONTENT_TYPE_BYTES_MAX} bytes of printable ASCII");
        return Err(refusal("data_content_type", "CONTENT_TYPE_INVALID", message));
    }
    at_most("traceparent", "TRACE_TOO_LONG", event.traceparent.len(), TRACEPARENT_BYTES_MAX)?;
    at_most("tracestate", "TRACE_TOO_LONG", event.tracestate.len(), TRACESTATE_BYTES_MAX)?;
    check_attributes(&event)?;
    if event.coalesce && event.key.is_empty() {
        let message = "is set, but the key is empty; coalescing keeps the newest of a key";
        return Err(refusal("coalesce", "COALESCE_WITHOUT_KEY", message));
    }
    let length = event.encoded_len();
    if length > EVENT_BYTES_MAX {
        let message = format!(
            "the event takes {length} bytes, the limit is {EVENT_BYTES_MAX}; put large content \
             into a store and name it in the key"
        );
        return Err(refusal("data", "EVENT_TOO_LARGE", message));
    }
    Ok(ValidEvent { event, length })
}

/// Checks a site's name.
///
/// # Errors
/// If it is not 1 to 64 of a-z, 0-9, '.', '_' and '-'.
pub fn check_site(site: &str) -> Result<(), Refusal> {
    if site.is_empty() {
        return Err(refusal(
            "site",
            "SITE_MISSING",
            "is empty; name the site whose caches it concerns",
        ));
    }
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if site.len() > SITE_BYTES_MAX || !site.bytes().all(lower) {
        let message = format!(
            "`{}` is not a site's name: 1 to {SITE_BYTES_MAX} of a-z, 0-9, '.', '_' and '-'",
            short(site)
        );
        return Err(refusal("site", "SITE_INVALID", message));
    }
    Ok(())
}

fn check_attributes(event: &v1::Event) -> Result<(), Refusal> {
    let count = event.attributes.len();
    if count > ATTRIBUTES_MAX {
        let message = format!("has {count} entries, the limit is {ATTRIBUTES_MAX}");
        return Err(refusal("attributes", "TOO_MANY_ATTRIBUTES", message));
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    for (name, value) in &event.attributes {
        if name.is_empty() || name.len() > ATTRIBUTE_NAME_BYTES_MAX || !name.bytes().all(plain) {
            let message = format!(
                "`{}` is not an attribute's name: 1 to {ATTRIBUTE_NAME_BYTES_MAX} of a-z, 0-9, \
                 '_', '.' and '-'",
                short(name)
            );
            return Err(refusal("attributes", "ATTRIBUTE_NAME_INVALID", message));
        }
        if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
            let message = format!(
                "`{name}` has {} bytes, the limit is {ATTRIBUTE_VALUE_BYTES_MAX}",
                value.len()
            );
            return Err(refusal("attributes", "ATTRIBUTE_TOO_LONG", message));
        }
    }
    Ok(())
}

fn token(field: &'static str, reason: &'static str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > max || !printable(text, false) {
        let message =
            format!("`{}` must be 1 to {max} bytes of printable ASCII without spaces", short(text));
        return Err(refusal(field, reason, message));
    }
    Ok(())
}

fn at_most(
    field: &'static str,
    reason: &'static str,
    length: usize,
    max: usize,
) -> Result<(), Refusal> {
    if length > max {
        return Err(refusal(field, reason, format!("has {length} bytes, the limit is {max}")));
    }
    Ok(())
}

fn printable(text: &str, space: bool) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() || (space && b == b' '))
}

/// As much of a value as belongs into a message: values may be secret, long, or hostile.
fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        cut.push('…');
    }
    cut
}

fn refusal(field: &'static str, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { field, reason, message: message.into() }
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
