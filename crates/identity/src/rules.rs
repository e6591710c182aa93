//! Rules: what an identity may do (P10).
//!
//! Asked at the beginning of each stream and call, after [`Identity`] is known. What no rule and no
//! default permits is denied. Made once from the configuration and replaced as a whole; nothing
//! here changes or waits.
//!
//! The defaults: members replicate. On the local socket, the accounts, the server's own user and
//! root publish and subscribe any site; the server's own user and root also observe and operate.
//! Allow rules add to these and take nothing away; none makes anybody but a member replicate.

mod act;
mod denied;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;

pub use act::Act;
pub use denied::Denied;

use self::pattern::Pattern;
use crate::account::Account;
use crate::{Error, Identity, Principal};

/// Allow rules: each is looked at for each question, and a mesh has a handful of sites.
const ALLOW_MAX: usize = 1024;
/// Sites in one rule, as a subscription may name.
const SITES_MAX: usize = 256;
/// Accounts of the local socket.
const ACCOUNTS_MAX: usize = 256;
/// Root's number on every Unix.
const ROOT: u32 = 0;

/// One allow rule, as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Whom: an identity's text, also `local:user=NAME`. `*` within it stands for any characters
    /// but `/`; alone, for everyone who has an identity.
    pub who: String,
    /// For which sites: `*` for all, otherwise exactly these. Empty: all. For `call`, the paths.
    #[serde(default)]
    pub sites: Vec<String>,
    /// What.
    pub acts: Vec<Act>,
}

/// The sites for which an identity is permitted an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sites {
    /// All.
    All,
    /// These, at least one.
    Only(BTreeSet<String>),
    /// None.
    None,
}

impl Sites {
    /// Whether this site is among them.
    #[must_use]
    pub fn contains(&self, site: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(sites) => sites.contains(site),
            Self::None => false,
        }
    }
}

/// What identities may do.
#[derive(Clone, Debug)]
pub struct Rules {
    allow: Vec<Rule>,
    /// Who publishes and subscribes on the local socket, by number.
    accounts: BTreeSet<u32>,
    /// The server's own user.
    own_uid: u32,
}

/// A checked allow rule.
#[derive(Clone, Debug)]
struct Rule {
    who: Pattern,
    /// [`Sites::All`] or [`Sites::Only`].
    sites: Sites,
    acts: Vec<Act>,
}

impl Rules {
    /// Checks allow rules, and looks up accounts by name.
    ///
    /// # Errors
    /// If a rule cannot be meant as it is written, an account is unknown, or there are too many.
    pub fn new(allow: Vec<Allow>, accounts: Vec<Account>, own_uid: u32) -> Result<Self, Error> {
        bounded("allow rules", allow.len(), ALLOW_MAX)?;
        bounded("accounts", accounts.len(), ACCOUNTS_MAX)?;
        let mut known: BTreeSet<u32> =
            accounts.iter().map(Account::uid).collect::<Result<_, _>>()?;
        known.extend([own_uid, ROOT]);
        let allow = allow.into_iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Self { allow, accounts: known, own_uid })
    }

    /// Whether this identity may do this. Without a site it is asked for the node as a whole, which
    /// a rule for certain sites does not permit.
    ///
    /// # Errors
    /// If not, with the reason for the operator.
    pub fn permits(&self, who: &Identity, act: Act, site: Option<&str>) -> Result<(), Denied> {
        let denied = |reason| Err(Denied::new(reason, who, act, site));
        if act == Act::Replicate {
            return if who.member().is_some() { Ok(()) } else { denied("NOT_A_MEMBER") };
        }
        if self.by_default(who, act) {
            return Ok(());
        }
        let mut reason = "NO_RULE";
        for rule in self.rules_for(who, act) {
            match (&rule.sites, site) {
                (Sites::All, _) => return Ok(()),
                (sites, Some(site)) if sites.contains(site) => return Ok(()),
                _ => reason = "OTHER_SITES",
            }
        }
        denied(reason)
    }

    /// For which sites this identity may do this.
    #[must_use]
    pub fn permitted_sites(&self, who: &Identity, act: Act) -> Sites {
        let all = match act {
            Act::Replicate => who.member().is_some(),
            _ => self.by_default(who, act),
        };
        if all {
            return Sites::All;
        }
        if act == Act::Replicate {
            return Sites::None;
        }
        let mut union = BTreeSet::new();
        for rule in self.rules_for(who, act) {
            match &rule.sites {
                Sites::All => return Sites::All,
                Sites::Only(sites) => union.extend(sites.iter().cloned()),
                Sites::None => {}
            }
        }
        if union.is_empty() { Sites::None } else { Sites::Only(union) }
    }

    /// What needs no rule on the local socket.
    fn by_default(&self, who: &Identity, act: Act) -> bool {
        let Principal::Local { uid, .. } = who.kind() else { return false };
        match act {
            Act::Publish | Act::Subscribe => self.accounts.contains(uid),
            Act::Observe | Act::Operate => *uid == self.own_uid || *uid == ROOT,
            Act::Replicate | Act::Register | Act::Call => false,
        }
    }

    fn rules_for<'a>(&'a self, who: &'a Identity, act: Act) -> impl Iterator<Item = &'a Rule> {
        self.allow.iter().filter(move |rule| rule.acts.contains(&act) && rule.who.matches(who))
    }
}

impl Rule {
    fn new(allow: Allow) -> Result<Self, Error> {
        let Allow { who, sites, acts } = allow;
        let refuse = |reason: String| Err(Error::Rule { who: who.clone(), reason });
        if acts.is_empty() {
            return refuse("allows no act; remove it, or name acts".to_owned());
        }
        bounded("sites in one allow rule", sites.len(), SITES_MAX)?;
        let all = sites.is_empty() || sites.iter().any(|site| site == "*");
        for site in sites.iter().filter(|site| *site != "*") {
            if site.is_empty() || site.contains('*') {
                let reason = format!("has the site `{site}`: a site is `*` or an exact name");
                return refuse(reason);
            }
        }
        let whole = acts.iter().find(|act| matches!(act, Act::Replicate | Act::Operate));
        if let (false, Some(act)) = (all, whole) {
            let reason = format!("limits `{act}` to sites, but it concerns the whole node");
            return refuse(reason);
        }
        let sites = if all { Sites::All } else { Sites::Only(sites.into_iter().collect()) };
        Ok(Self { who: Pattern::new(&who)?, sites, acts })
    }
}

fn bounded(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max { Err(Error::TooMany { what, count, max }) } else { Ok(()) }
}
