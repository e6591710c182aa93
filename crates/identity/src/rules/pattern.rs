//! Patterns of identities, as allow rules write them.

use std::borrow::Cow;

use crate::account::uid_of;
use crate::{Error, Identity, Principal};

/// How the name of a local user is written; every identity's text is a pattern too.
const USER: &str = "local:user=";
/// Stars in one pattern: more serve nobody, and matching takes time for each.
const STARS_MAX: usize = 4;

/// Whom a rule is for.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    /// The number behind an exact `local:user=NAME`, so that it matches callers whose name nobody
    /// looked up.
    uid: Option<u32>,
}

impl Pattern {
    pub(super) fn new(who: &str) -> Result<Self, Error> {
        let refuse =
            |reason: &str| Err(Error::Rule { who: who.to_owned(), reason: reason.to_owned() });
        if who.matches('*').count() > STARS_MAX {
            return refuse("has more than four `*`");
        }
        let uid = match who.split_once(':') {
            None if who == "*" => None,
            Some(("spiffe", rest)) if rest.starts_with("//") => None,
            Some(("dns", rest)) if !rest.is_empty() => None,
            Some(("local", rest)) => match rest.split_once('=') {
                None if rest == "*" => None,
                Some(("uid", uid)) if uid.contains('*') || uid.parse::<u32>().is_ok() => None,
                Some(("user", name)) if !name.is_empty() => uid_of(name),
                _ => return refuse("is none of local:user=NAME, local:uid=NUMBER and local:*"),
            },
            _ => return refuse("matches nobody: identities are spiffe://…, dns:… and local:…"),
        };
        // DNS identities are in lower case, whatever the certificate has.
        let text = if who.starts_with("dns:") { who.to_ascii_lowercase() } else { who.to_owned() };
        Ok(Self { text, uid })
    }

    pub(super) fn matches(&self, who: &Identity) -> bool {
        if self.text == "*" || glob(&self.text, who.text()) {
            return true;
        }
        let Principal::Local { uid, user, .. } = who.kind() else { return false };
        let named = user.as_ref().map(|user| Cow::from(format!("{USER}{user}")));
        self.uid == Some(*uid) || named.is_some_and(|named| glob(&self.text, &named))
    }
}

/// Whether a text matches, where each `*` stands for any characters but `/`, or for none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let segment = rest.find('/').unwrap_or(rest.len());
    rest.char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .take_while(|at| *at <= segment)
        .filter_map(|at| rest.get(at..))
        .any(|rest| glob(after, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_segment() {
        let table = [
            ("spiffe://mesh/app/shop", "spiffe://mesh/app/shop", true),
            ("spiffe://mesh/app/shop", "spiffe://mesh/app/shop2", false),
            ("spiffe://mesh/app/*", "spiffe://mesh/app/shop", true),
            ("spiffe://mesh/app/*", "spiffe://mesh/app/shop/x", false),
            ("spiffe://mesh/app/*", "spiffe://mesh/node/shop", false),
            ("spiffe://mesh/ns/*/sa/web", "spiffe://mesh/ns/prod/sa/web", true),
            ("spiffe://mesh/ns/*/sa/web", "spiffe://mesh/ns/a/b/sa/web", false),
            ("spiffe://*/app/shop", "spiffe://mesh/app/shop", true),
            ("dns:*.example", "dns:a.b.example", true),
            ("dns:*.example", "dns:a.example.org", false),
            ("local:*", "local:uid=7", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("a*", "a", true),
        ];
        for (pattern, text, matches) in table {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
