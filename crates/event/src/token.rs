//! Resume tokens and fence tokens. Each refuses to be taken for the other.
//!
//! As text both are a prefix, and then base64url of the message and its CRC-32C: `er1.` for a
//! resume token, `ef1.` for a fence token. The checksum finds a token that was cut short by a log
//! line or a shell.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evermesh_proto::v1;
use prost::Message;

use crate::names::{JournalId, NameError, Origin, StartId};
use crate::position::{Offset, Sequence};
use crate::validate::check_site;

const RESUME: &str = "er1.";
const FENCE: &str = "ef1.";
/// Text longer than any token: origin, site and two numbers.
const TEXT_BYTES_MAX: usize = 512;

/// Text or a message that is not the token expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The other kind.
    #[error("this is a {found} token; a {expected} token is expected here")]
    OtherKind {
        /// What came.
        found: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// Not a token at all.
    #[error("`{0}` is not a {1} token")]
    Form(String, &'static str),
    /// Cut short or altered.
    #[error("the {0} token was cut short or altered: its checksum does not fit")]
    Checksum(&'static str),
    /// A part of it cannot be.
    #[error("the {0} token: {1}")]
    Part(&'static str, String),
}

/// Which journal and which of its starts: a resume token's offset means nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The journal.
    pub journal: JournalId,
    /// The start.
    pub start: StartId,
}

impl Run {
    /// The opaque bytes of the wire: journal id, start id.
    #[must_use]
    pub fn to_bytes(self) -> bytes::Bytes {
        [*self.journal.as_bytes(), *self.start.as_bytes()].concat().into()
    }

    /// From the opaque bytes of the wire.
    ///
    /// # Errors
    /// If there are not 32.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, NameError> {
        let length = bytes.len();
        match bytes.split_at_checked(16) {
            Some((journal, start)) if length == 32 => Ok(Self {
                journal: JournalId::from_slice(journal)?,
                start: StartId::from_slice(start)?,
            }),
            _ => Err(NameError::Length { what: "half of a run", length: length / 2 }),
        }
    }
}

/// Names a place in one node's journal, to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResumeToken {
    /// The journal and the start that the offset belongs to.
    pub run: Run,
    /// Everything through here was applied.
    pub offset: Offset,
}

impl ResumeToken {
    /// From a message.
    ///
    /// # Errors
    /// If the run does not have 32 bytes.
    pub fn from_proto(token: &v1::ResumeToken) -> Result<Self, TokenError> {
        let run = Run::from_slice(&token.run)
            .map_err(|error| TokenError::Part("resume", error.to_string()))?;
        Ok(Self { run, offset: Offset::from_u64(token.offset) })
    }

    /// To a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::ResumeToken {
        v1::ResumeToken { run: self.run.to_bytes(), offset: self.offset.as_u64() }
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_token(f, RESUME, &self.to_proto())
    }
}

impl FromStr for ResumeToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::from_proto(&read_token(text, RESUME, "resume")?)
    }
}

/// Names one event to a fence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FenceToken {
    /// Who numbered it.
    pub origin: Origin,
    /// Its number.
    pub sequence: Sequence,
    /// Its site.
    pub site: String,
}

impl FenceToken {
    /// From a message.
    ///
    /// # Errors
    /// If the origin or the site cannot be one.
    pub fn from_proto(token: &v1::FenceToken) -> Result<Self, TokenError> {
        let part = |text: String| TokenError::Part("fence", text);
        let origin = token.origin.as_ref().ok_or(NameError::NoOrigin);
        let origin = origin.and_then(Origin::from_proto).map_err(|e| part(e.to_string()))?;
        check_site(&token.site).map_err(|refusal| part(refusal.message))?;
        Ok(Self { origin, sequence: Sequence::from_u64(token.sequence), site: token.site.clone() })
    }

    /// To a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::FenceToken {
        v1::FenceToken {
            origin: Some(self.origin.to_proto()),
            sequence: self.sequence.as_u64(),
            site: self.site.clone(),
        }
    }
}

impl fmt::Display for FenceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_token(f, FENCE, &self.to_proto())
    }
}

impl FromStr for FenceToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::from_proto(&read_token(text, FENCE, "fence")?)
    }
}

fn write_token(f: &mut fmt::Formatter<'_>, prefix: &str, token: &impl Message) -> fmt::Result {
    let mut bytes = token.encode_to_vec();
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    write!(f, "{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn read_token<M: Message + Default>(
    text: &str,
    prefix: &str,
    kind: &'static str,
) -> Result<M, TokenError> {
    let form = || TokenError::Form(text.chars().take(80).collect(), kind);
    let Some(encoded) = text.strip_prefix(prefix) else {
        let found = [(RESUME, "resume"), (FENCE, "fence")];
        return Err(match found.iter().find(|(other, _)| text.starts_with(other)) {
            Some((_, found)) => TokenError::OtherKind { found, expected: kind },
            None => form(),
        });
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(form());
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Checksum(kind))?;
    let (message, checksum) = bytes.split_last_chunk::<4>().ok_or_else(form)?;
    if crc32c::crc32c(message) != u32::from_le_bytes(*checksum) {
        return Err(TokenError::Checksum(kind));
    }
    M::decode(message).map_err(|_| form())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::string_slice, reason = "tests")]
mod tests {
    use super::*;
    use crate::names::NodeName;

    fn tokens() -> (ResumeToken, FenceToken) {
        let journal = JournalId::new([1; 16]);
        let run = Run { journal, start: StartId::new([2; 16]) };
        let origin = Origin { node: NodeName::new("web-1").unwrap(), journal };
        (
            ResumeToken { run, offset: Offset::from_u64(77) },
            FenceToken { origin, sequence: Sequence::from_u64(9), site: "shop".into() },
        )
    }

    #[test]
    fn each_survives_and_refuses_to_be_the_other() {
        let (resume, fence) = tokens();
        assert_eq!(resume.to_string().parse(), Ok(resume));
        assert_eq!(fence.to_string().parse(), Ok(fence.clone()));
        let wrong = fence.to_string().parse::<ResumeToken>().unwrap_err();
        assert_eq!(wrong.to_string(), "this is a fence token; a resume token is expected here");
        assert!(resume.to_string().parse::<FenceToken>().is_err());
        assert_eq!(FenceToken::from_proto(&fence.to_proto()), Ok(fence));
    }

    #[test]
    fn a_damaged_token_is_noticed_at_every_place() {
        let (resume, _) = tokens();
        let text = resume.to_string();
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<ResumeToken>().is_err(), "cut at {cut}");
        }
        for place in RESUME.len()..text.len() {
            let other = if text.as_bytes().get(place) == Some(&b'A') { "B" } else { "A" };
            let mut altered = text.clone();
            altered.replace_range(place..=place, other);
            assert_ne!(altered.parse(), Ok(resume), "altered at {place}");
        }
    }
}
