//! Templates of pushed requests: text with places for what an event says. Pure.
//!
//! What an event says can do no harm where it is put: in a URL everything but letters, digits and
//! `-._~` is escaped, in a header whatever could end it. In a body it stands as it is.

use evermesh_event::Sequence;
use evermesh_proto::v1;

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// What of an event stands somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Id,
    Site,
    Type,
    Key,
    /// The key as a path: its slashes stay, and the first one is left out.
    KeyPath,
    Source,
    Sequence,
    Data,
    Attribute(String),
}

/// The names of all places, for messages.
const PLACES: &str =
    "{id}, {site}, {type}, {key}, {key_path}, {source}, {sequence}, {data} and {attribute.NAME}";

/// Where a text is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    Url,
    Header,
    Body,
}

impl Template {
    /// Reads a template. `{{` is a brace.
    ///
    /// # Errors
    /// If it has a place that no event has, in words for who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Text(before.to_owned()));
            if let Some(after) = after.strip_prefix('{') {
                parts.push(Part::Text("{".to_owned()));
                rest = after;
                continue;
            }
            let (name, after) =
                after.split_once('}').ok_or("a `{` has no `}`; write `{{` for a brace")?;
            parts.push(Part::Place(place(name)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// It says nothing of an event.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    pub(crate) fn render(&self, entry: &v1::Entry, into: Into) -> Vec<u8> {
        let nothing = v1::Event::default();
        let event = entry.event.as_ref().unwrap_or(&nothing);
        let sequence = Sequence::from_u64(entry.sequence).to_string();
        let mut out = Vec::new();
        for part in &self.0 {
            let (said, slashes) = match part {
                Part::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Place(Place::Id) => (event.id.as_bytes(), false),
                Part::Place(Place::Site) => (event.site.as_bytes(), false),
                Part::Place(Place::Type) => (event.r#type.as_bytes(), false),
                Part::Place(Place::Key) => (event.key.as_bytes(), false),
                Part::Place(Place::KeyPath) => {
                    (event.key.strip_prefix('/').unwrap_or(&event.key).as_bytes(), true)
                }
                Part::Place(Place::Source) => (event.source.as_bytes(), false),
                Part::Place(Place::Sequence) => (sequence.as_bytes(), false),
                Part::Place(Place::Data) => (event.data.as_ref(), false),
                Part::Place(Place::Attribute(name)) => {
                    (event.attributes.get(name).map(String::as_bytes).unwrap_or_default(), false)
                }
            };
            escape(said, slashes, into, &mut out);
        }
        out
    }
}

fn place(name: &str) -> Result<Place, String> {
    Ok(match name {
        "id" => Place::Id,
        "site" => Place::Site,
        "type" => Place::Type,
        "key" => Place::Key,
        "key_path" => Place::KeyPath,
        "source" => Place::Source,
        "sequence" => Place::Sequence,
        "data" => Place::Data,
        _ => match name.strip_prefix("attribute.") {
            Some(name) if !name.is_empty() => Place::Attribute(name.to_owned()),
            _ => return Err(format!("`{{{name:.40}}}` is not known; there are {PLACES}")),
        },
    })
}

fn escape(said: &[u8], slashes: bool, into: Into, out: &mut Vec<u8>) {
    for byte in said.iter().copied() {
        let plain = match into {
            Into::Body => true,
            Into::Header => byte == b' ' || byte.is_ascii_graphic(),
            Into::Url => {
                byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || slashes && byte == b'/'
            }
        };
        if plain {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: &str) -> v1::Entry {
        let attributes = [("tag".to_owned(), "a\r\nb".to_owned())].into();
        let event = v1::Event { key: key.into(), attributes, ..Default::default() };
        v1::Entry { sequence: 1 << 40 | 7, event: Some(event) }
    }

    fn render(template: &str, key: &str, into: Into) -> String {
        let template = Template::parse(template).unwrap();
        String::from_utf8(template.render(&entry(key), into)).unwrap()
    }

    #[test]
    fn every_place_and_what_is_none() {
        assert_eq!(render("/p/{key}?n={sequence}", "a b/c", Into::Url), "/p/a%20b%2Fc?n=1%3A7");
        assert_eq!(render("/{key_path}", "/products/ä", Into::Url), "/products/%C3%A4");
        assert_eq!(render("{attribute.tag}", "", Into::Header), "a%0D%0Ab");
        assert_eq!(render("{{\"key\":\"{key}\"}", "a", Into::Body), "{\"key\":\"a\"}");
        assert_eq!(render("{attribute.other}.", "", Into::Body), ".");
        assert!(Template::parse("{kay}").unwrap_err().contains("{key}"));
        assert!(Template::parse("{key").unwrap_err().contains("no `}`"));
        assert!(Template::parse("PURGE").unwrap().is_fixed());
    }

    proptest! {
        #[test]
        fn p10_no_key_ends_a_header_or_a_path(key in ".{0,40}") {
            let header = render("{key}", &key, Into::Header);
            prop_assert!(header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            let url = render("/{key}", &key, Into::Url);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            let plain = url.bytes().skip(1).all(plain);
            prop_assert!(plain, "{}", url);
        }
    }
}
