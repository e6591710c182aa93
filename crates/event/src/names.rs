//! Who: node names, journal ids, start ids, origins.

use std::fmt;
use std::sync::Arc;

use evermesh_proto::v1;

use crate::limits::NODE_NAME_BYTES_MAX;
use crate::position::Epoch;

/// A name or an id that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a node name.
    #[error(
        "`{0}` is not a node name: 1 to 63 of a-z, 0-9, '.' and '-', with a letter or digit at \
         both ends"
    )]
    Node(String),
    /// Not 16 bytes.
    #[error("a {what} has 16 bytes, not {length}")]
    Length {
        /// Which id it should have been.
        what: &'static str,
        /// How many bytes came.
        length: usize,
    },
    /// A message without its origin.
    #[error("the origin is not set")]
    NoOrigin,
}

/// A node's name: unique in the mesh and bound to its certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is not 1 to 63 of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        let bytes = name.as_bytes();
        if bytes.len() <= NODE_NAME_BYTES_MAX
            && edge(bytes.first().copied())
            && edge(bytes.last().copied())
            && bytes.iter().all(|b| inner(*b))
        {
            return Ok(Self(name.into()));
        }
        Err(NameError::Node(name.chars().take(80).collect()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From 16 random bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From a message's bytes.
            ///
            /// # Errors
            /// If there are not 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, NameError> {
                let bytes: [u8; 16] = bytes
                    .try_into()
                    .map_err(|_| NameError::Length { what: $what, length: bytes.len() })?;
                Ok(Self(bytes))
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// Drawn when a data directory is made: tells a node's journals apart.
    JournalId,
    "journal id"
);
id!(
    /// Drawn at each start of a node: tells two starts apart that a restored copy gave the same
    /// epoch.
    StartId,
    "start id"
);

/// Who numbers events: a node and the journal that it keeps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeName,
    /// Its journal.
    pub journal: JournalId,
}

impl Origin {
    /// From a message.
    ///
    /// # Errors
    /// If the name or the id cannot be one.
    pub fn from_proto(origin: &v1::Origin) -> Result<Self, NameError> {
        Ok(Self {
            node: NodeName::new(&origin.node)?,
            journal: JournalId::from_slice(&origin.journal)?,
        })
    }

    /// To a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Origin {
        v1::Origin {
            node: self.node.as_str().to_owned(),
            journal: bytes::Bytes::copy_from_slice(self.journal.as_bytes()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.node, f)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.journal)
    }
}

/// One run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Counted up at each start; the high bits of every sequence and offset of this start.
    pub epoch: Epoch,
    /// Drawn at random.
    pub id: StartId,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_like() {
        for good in ["a", "web-1", "web-1.eu.internal", "0"] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", "a-", ".a", "Web", "a b", "a/b", "ä", &long] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_survives_the_wire() {
        let origin =
            Origin { node: NodeName::new("web-1").unwrap(), journal: JournalId::new([7; 16]) };
        assert_eq!(Origin::from_proto(&origin.to_proto()).unwrap(), origin);
        let mut short = origin.to_proto();
        short.journal = bytes::Bytes::from_static(b"x");
        assert!(Origin::from_proto(&short).is_err());
    }
}
