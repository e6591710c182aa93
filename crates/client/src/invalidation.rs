//! Invalidation: what to drop, as the data of an event of a type that everybody knows.

use evermesh_proto::v1;
pub use evermesh_proto::v1::Invalidation;
use prost::Message as _;

/// The type of events that carry an [`Invalidation`].
pub const INVALIDATE: &str = "evermesh.invalidate.v1";
/// Their content type.
const CONTENT_TYPE: &str = "application/protobuf";

/// An event that says what to drop at a site.
#[must_use]
pub fn invalidate(site: &str, invalidation: &Invalidation) -> v1::Event {
    v1::Event {
        site: site.to_owned(),
        r#type: INVALIDATE.to_owned(),
        // One key says what changed to people and tools that do not look inside.
        key: match invalidation.keys.as_slice() {
            [key] => key.clone(),
            _ => String::new(),
        },
        data: invalidation.encode_to_vec().into(),
        data_content_type: CONTENT_TYPE.to_owned(),
        ..Default::default()
    }
}

/// What an event says to drop; `None`: it is of another type, or cannot be read. Whoever keeps a
/// cache drops everything then.
#[must_use]
pub fn invalidated(event: &v1::Event) -> Option<Invalidation> {
    let known = event.r#type == INVALIDATE && event.data_content_type == CONTENT_TYPE;
    known.then(|| Invalidation::decode(event.data.clone()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let one = Invalidation { keys: vec!["product:42".into()], ..Default::default() };
        let event = invalidate("shop", &one);
        assert_eq!(event.key, "product:42");
        assert_eq!(invalidated(&event), Some(one));
        let other = v1::Event { r#type: "price".into(), ..event.clone() };
        assert_eq!(invalidated(&other), None);
        let broken = v1::Event { data: vec![0xff].into(), ..event };
        assert_eq!(invalidated(&broken), None);
    }
}
