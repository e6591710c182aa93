//! How the names in a certificate become an identity.
//!
//! Between the parsed certificate and [`crate::Identity`]. A SPIFFE id wins over DNS names, and
//! only the own trust domain makes members and applications. A name that is itself a wildcard is
//! nobody's identity.

use std::sync::Arc;

use evermesh_event::NodeName;

use crate::certificate::Facts;
use crate::identity::Principal;
use crate::{Error, spiffe};

/// As DNS bounds it.
const DNS_NAME_BYTES_MAX: usize = 253;
/// What an error shows of a name that somebody else chose.
const SHOWN_CHARS_MAX: usize = 200;

/// How a certificate's names become identities.
///
/// With several patterns, names that differ only where the patterns do become the same member:
/// `*.eu.example` and `*.us.example` make `web-1` of both `web-1.eu.example` and
/// `web-1.us.example`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The trust domain whose nodes are members: the own certificate's. `None`: no SPIFFE id makes
    /// a member.
    pub trust_domain: Option<String>,
    /// DNS names of members: exact, or with one `*`, which stands for one or more characters
    /// without a dot. The member's name is what `*` stands for, or the first label of an exact one.
    pub member_names: Vec<String>,
}

impl Naming {
    /// The naming of the node that this certificate belongs to.
    pub(crate) fn of(own: &Facts, member_names: &[String]) -> Result<Self, Error> {
        member_names.iter().try_for_each(|pattern| check_pattern(pattern))?;
        let trust_domain = spiffe_id(own)?.map(|id| id.domain.to_owned());
        Ok(Self { trust_domain, member_names: member_names.to_vec() })
    }

    /// Who these names are, and as which text.
    pub(crate) fn principal(&self, facts: &Facts) -> Result<(Principal, Arc<str>), Error> {
        if let Some(id) = spiffe_id(facts)? {
            let uri = format!("spiffe://{}/{}", id.domain, id.segments.join("/"));
            let text = uri.as_str().into();
            let own = self.trust_domain.as_deref() == Some(id.domain);
            let principal = match (own, id.segments.as_slice()) {
                (true, ["node", name]) => {
                    NodeName::new(name).map_or(Principal::Spiffe(uri), Principal::Member)
                }
                (true, ["app", name]) => Principal::Application((*name).to_owned()),
                _ => Principal::Spiffe(uri),
            };
            return Ok((principal, text));
        }
        let names: Vec<_> = facts.dns.iter().filter_map(|name| dns_name(name)).collect();
        if let Some((member, name)) = self.dns_member(&names)? {
            return Ok((Principal::Member(member), format!("dns:{name}").into()));
        }
        let first = names.into_iter().next().ok_or(Error::NoName)?;
        let text = format!("dns:{first}").into();
        Ok((Principal::Dns(first), text))
    }

    /// The one member that the DNS names stand for, with the first name that says so.
    fn dns_member<'a>(&self, names: &'a [String]) -> Result<Option<(NodeName, &'a str)>, Error> {
        let mut found: Option<(NodeName, &str)> = None;
        for name in names {
            for part in self.member_names.iter().filter_map(|pattern| member_part(pattern, name)) {
                let Ok(member) = NodeName::new(part) else { continue };
                match &found {
                    None => found = Some((member, name)),
                    Some((other, _)) if *other == member => {}
                    Some((other, _)) => {
                        return Err(Error::Ambiguous(other.to_string(), member.to_string()));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The SPIFFE id among the names. A single URI of another scheme says nothing, and DNS names count.
fn spiffe_id(facts: &Facts) -> Result<Option<spiffe::SpiffeId<'_>>, Error> {
    match facts.uris.as_slice() {
        [] => Ok(None),
        [uri] => spiffe::parse(uri).map_err(|reason| Error::Spiffe {
            uri: uri.chars().take(SHOWN_CHARS_MAX).collect(),
            reason,
        }),
        uris => Err(Error::Uris(uris.len())),
    }
}

/// A DNS name in lower case; `None` for wildcards and what no host is called.
fn dns_name(name: &str) -> Option<String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let sound = !name.is_empty() && name.len() <= DNS_NAME_BYTES_MAX && name.bytes().all(valid);
    sound.then(|| name.to_ascii_lowercase())
}

/// What of this name, which is in lower case, names the member, if the pattern matches.
fn member_part<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.split_once('*') {
        None if pattern == name => name.split('.').next(),
        None => None,
        Some((before, after)) => name
            .strip_prefix(before)?
            .strip_suffix(after)
            .filter(|part| !part.is_empty() && !part.contains('.')),
    }
}

/// Whether this can be a pattern of member names.
fn check_pattern(pattern: &str) -> Result<(), Error> {
    let refuse = |reason| Err(Error::MemberNames { pattern: pattern.to_owned(), reason });
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b);
    if pattern.is_empty() || pattern.len() > DNS_NAME_BYTES_MAX || !pattern.bytes().all(valid) {
        return refuse("it is not a DNS name with or without a `*`, such as *.mesh.internal");
    }
    if pattern.matches('*').count() > 1 {
        return refuse("it has more than one `*`");
    }
    if pattern == "*" {
        return refuse("it would make a member of every certificate with a short name");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_characters_of_one_label() {
        let table = [
            ("*.mesh.internal", "web-1.mesh.internal", Some("web-1")),
            ("*.mesh.internal", "a.web-1.mesh.internal", None),
            ("*.mesh.internal", ".mesh.internal", None),
            ("*.mesh.internal", "mesh.internal", None),
            ("*.mesh.internal", "web-1.mesh.internal.evil.example", None),
            ("*.mesh.internal", "web-1-mesh.internal", None),
            ("node-*.mesh", "node-7.mesh", Some("7")),
            ("web-1.mesh", "web-1.mesh", Some("web-1")),
            ("web-1.mesh", "web-2.mesh", None),
            ("web-*", "web-1", Some("1")),
            ("a*a", "a", None),
        ];
        for (pattern, name, part) in table {
            assert_eq!(member_part(pattern, name), part, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_are_checked() {
        for good in ["*.mesh.internal", "web-*", "web-1"] {
            check_pattern(good).unwrap();
        }
        for bad in ["", "*", "*.*", "a b", "spiffe://mesh/node/*", "[a-z]"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }
}
