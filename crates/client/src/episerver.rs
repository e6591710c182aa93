//! EPiServer and Optimizely CMS: an `EventMessage` as an event, and back without loss.
//!
//! Before the first step of the way, and after the last: whoever bridges an event provider of the
//! CMS turns messages into events with [`EventMessage::to_event`], and back. Its known event ids
//! have names, so that subscriptions can choose by type; every other id is a type too.
//!
//! Always: what comes back is what went in, also what is null. Deliberately absent: computing or
//! checking verification data, which does not cover the parameter; who may publish is a rule of the
//! node. So is coalescing: these messages have no key, and most of them are not removals.

mod ids;
mod sequence;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evermesh_event::limits::ATTRIBUTE_VALUE_BYTES_MAX;
use evermesh_proto::v1;
use uuid::Uuid;

pub use self::ids::{KNOWN, Known, event_id, type_of};
pub use self::sequence::widen;

const SITE_ID: &str = "episerver.site_id";
const SEQUENCE: &str = "episerver.sequence";
const VERIFICATION: &str = "episerver.verification";
const SERVER: &str = "episerver.server";
const APPLICATION: &str = "episerver.application";
const SENT: &str = "episerver.sent";
/// Present, and only then, where there is no parameter at all: not even an empty one.
const NO_PARAMETER: &str = "episerver.no_parameter";
/// What the serializer of the CMS made; opaque to everybody else.
const CONTENT_TYPE: &str = "application/octet-stream";

/// .NET counts time in ticks of 100 ns from the year 1.
const TICKS_A_SECOND: i64 = 10_000_000;
/// 1970-01-01 in ticks.
const EPOCH_TICKS: i64 = 621_355_968_000_000_000;
/// `DateTime.MaxValue` in ticks.
const TICKS_MAX: i64 = 3_155_378_975_999_999_999;

/// A message as an event provider of the CMS sends and receives it. `None` is null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventMessage {
    /// Who raised it; handlers leave out their own.
    pub raiser_id: Uuid,
    /// The site, up to CMS 12.
    pub site_id: Option<String>,
    /// Counts the raiser's messages; begins anew with each process, and wraps.
    pub sequence_number: i32,
    /// The HMAC, up to CMS 12. Carried, not checked.
    pub verification_data: Option<Vec<u8>>,
    /// What kind of event it is.
    pub event_id: Uuid,
    /// The parameter as the provider serialized it.
    pub parameter: Option<bytes::Bytes>,
    /// The machine that sent it.
    pub server_name: Option<String>,
    /// The application that sent it.
    pub application_name: Option<String>,
    /// When it was sent, UTC: `DateTime.Ticks`.
    pub sent_ticks: Option<i64>,
}

/// Why there is no such event, or no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A text that no attribute takes.
    #[error("{field} takes {bytes} bytes as an attribute, of at most 1024")]
    TooLong {
        /// The field of the message.
        field: &'static str,
        /// Its bytes, as an attribute.
        bytes: usize,
    },
    /// A time that .NET has not.
    #[error("{0} is no DateTime.Ticks")]
    Ticks(i64),
    /// An event of something else.
    #[error("an event of type `{0}` is no message of EPiServer; subscribe to types `episerver.…`")]
    Type(String),
    /// A field that is not as this mapping makes it.
    #[error("{0} is not as the mapping of EPiServer makes it")]
    Field(&'static str),
}

impl EventMessage {
    /// The message as an event of a site of evermesh, whose name the configuration gives: an id of
    /// the CMS may be none. The event has no id yet; it gets one when it is published.
    ///
    /// # Errors
    /// If a text is longer than an attribute may be, or the time is none.
    pub fn to_event(&self, site: &str) -> Result<v1::Event, MappingError> {
        let mut attributes = HashMap::new();
        let mut say = |name: &'static str, value: Option<String>| {
            let Some(value) = value else { return Ok(()) };
            if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
                return Err(MappingError::TooLong { field: name, bytes: value.len() });
            }
            attributes.insert(name.to_owned(), value);
            Ok(())
        };
        say(SITE_ID, self.site_id.clone())?;
        say(SEQUENCE, Some(self.sequence_number.to_string()))?;
        say(VERIFICATION, self.verification_data.as_ref().map(|data| STANDARD.encode(data)))?;
        say(SERVER, self.server_name.clone())?;
        say(APPLICATION, self.application_name.clone())?;
        say(SENT, self.sent_ticks.map(|ticks| ticks.to_string()))?;
        say(NO_PARAMETER, self.parameter.is_none().then(String::new))?;
        Ok(v1::Event {
            site: site.to_owned(),
            r#type: type_of(self.event_id),
            source: self.raiser_id.to_string(),
            // For people and tools; the message's own time is the attribute.
            time: self.sent_ticks.map(timestamp).transpose()?,
            attributes,
            data: self.parameter.clone().unwrap_or_default(),
            data_content_type: CONTENT_TYPE.to_owned(),
            ..Default::default()
        })
    }

    /// The message that an event carries.
    ///
    /// # Errors
    /// If the event is of another type, or was not made by [`EventMessage::to_event`].
    pub fn from_event(event: &v1::Event) -> Result<Self, MappingError> {
        let event_id =
            event_id(&event.r#type).ok_or_else(|| MappingError::Type(event.r#type.clone()))?;
        let said = |name: &str| event.attributes.get(name).cloned();
        let number = said(SEQUENCE).and_then(|text| text.parse().ok());
        let verification = said(VERIFICATION).map(|text| STANDARD.decode(text)).transpose();
        let ticks = said(SENT).map(|text| text.parse()).transpose();
        let sent_ticks = ticks.map_err(|_| MappingError::Field(SENT))?;
        if let Some(ticks) = sent_ticks {
            timestamp(ticks)?;
        }
        Ok(Self {
            raiser_id: ids::uuid(&event.source).ok_or(MappingError::Field("source"))?,
            site_id: said(SITE_ID),
            sequence_number: number.ok_or(MappingError::Field(SEQUENCE))?,
            verification_data: verification.map_err(|_| MappingError::Field(VERIFICATION))?,
            event_id,
            parameter: said(NO_PARAMETER).is_none().then(|| event.data.clone()),
            server_name: said(SERVER),
            application_name: said(APPLICATION),
            sent_ticks,
        })
    }
}

/// A time of .NET as one of the wire.
fn timestamp(ticks: i64) -> Result<prost_types::Timestamp, MappingError> {
    if !(0..=TICKS_MAX).contains(&ticks) {
        return Err(MappingError::Ticks(ticks));
    }
    let since = ticks - EPOCH_TICKS;
    let nanos = i32::try_from(since.rem_euclid(TICKS_A_SECOND) * 100).unwrap_or_default();
    Ok(prost_types::Timestamp { seconds: since.div_euclid(TICKS_A_SECOND), nanos })
}

#[cfg(test)]
mod tests;
