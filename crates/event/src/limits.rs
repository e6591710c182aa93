//! The limits that every node has in common, each with its reason. Bytes are of the encoded
//! message.

/// One event. Larger content belongs in a store that the event names.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// An event's id: room for a UUID, a ULID or a digest in hex.
pub const ID_BYTES_MAX: usize = 64;
/// A site's name: it is a metric label and part of paths.
pub const SITE_BYTES_MAX: usize = 64;
/// An event's type.
pub const TYPE_BYTES_MAX: usize = 128;
/// An event's key.
pub const KEY_BYTES_MAX: usize = 1024;
/// An event's source.
pub const SOURCE_BYTES_MAX: usize = 256;
/// Attributes of one event, in number.
pub const ATTRIBUTES_MAX: usize = 32;
/// An attribute's name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// An attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// A media type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// A W3C `traceparent` of version 00 has 55; a future version may append.
pub const TRACEPARENT_BYTES_MAX: usize = 128;
/// A W3C `tracestate`, as the recommendation asks of every vendor.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// One message of an application, either way. Generated clients accept 4 MiB by default.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Events in one publish request: what fits a message with small events, and bounds the answer.
pub const PUBLISH_EVENTS_MAX: usize = 4096;
/// Delivered events that may be unacknowledged, at most.
pub const UNACKNOWLEDGED_MAX: u32 = 65_536;
/// And unless the subscription says otherwise: keeps tiny frames well below what HTTP/2 libraries
/// tolerate unread.
pub const UNACKNOWLEDGED_DEFAULT: u32 = 1024;
/// Sources that one subscription may exclude.
pub const EXCLUDED_SOURCES_MAX: usize = 16;
/// Sites or types that one subscription may name.
pub const FILTER_NAMES_MAX: usize = 256;

/// One encoded block. Small enough to be stored and sent while others wait, large enough that its
/// header costs nothing.
pub const BLOCK_BYTES_MAX: usize = 512 * 1024;
/// Kinds that a block's index names before it says "look inside".
pub const BLOCK_KINDS_MAX: usize = 16;
/// One message between members: two blocks and their framing.
pub const MESH_MESSAGE_BYTES_MAX: usize = 2 * BLOCK_BYTES_MAX + 64 * 1024;

/// A node's name: a DNS label's length, because it becomes one.
pub const NODE_NAME_BYTES_MAX: usize = 63;
/// Ids that a node remembers for deduplication.
pub const DEDUPE_IDS_MAX: usize = 1_000_000;
/// And for how long at most, in seconds.
pub const DEDUPE_SECONDS_MAX: u64 = 600;
