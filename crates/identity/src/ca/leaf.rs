//! Leaves: what an authority issues to nodes and applications.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use evermesh_event::NodeName;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::DnsName;

use super::authority::Authority;
use super::draft::{self, Draft};
use super::{AUTHORITY_DAYS, days, make_dir, params, refuse, taken, whole_seconds};
use crate::certificate::Facts;
use crate::{Error, files, spiffe};

/// How long a leaf holds unless told otherwise: long enough for a forgotten renewal to be noticed
/// by warnings.
pub const LEAF_DAYS_DEFAULT: u32 = 90;
/// And at most: as long as its authority.
pub const LEAF_DAYS_MAX: u32 = AUTHORITY_DAYS;
/// Names and addresses in one leaf: what a node with many names has, and a certificate still
/// carries lightly.
const LEAF_NAMES_MAX: usize = 64;
/// An application's name in a certificate, as a node's.
const APP_NAME_BYTES_MAX: usize = 63;
/// The authority's own files, and what its copies are called; no leaf may have this name.
const AUTHORITY: &str = "ca";

/// Whom a leaf is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node, which is a member.
    Node(NodeName),
    /// An application, which never is.
    App(String),
}

/// A leaf to be issued.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Whom it is for.
    pub subject: Subject,
    /// Further DNS names by which applications dial this node; not for applications.
    pub dns: Vec<String>,
    /// Addresses by which applications dial this node; not for applications.
    pub ip: Vec<IpAddr>,
    /// Where its files go; made if it is not there.
    pub out_dir: PathBuf,
    /// How long it holds, though never longer than its authority: [`LEAF_DAYS_DEFAULT`] if in
    /// doubt.
    pub days: u32,
}

/// A leaf that was issued: what `[tls]` names.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority's certificate beside it.
    pub ca: PathBuf,
    /// Until when it holds.
    pub not_after: SystemTime,
}

/// Issues a leaf: `NAME.pem` and `NAME.key`, and `ca.pem` beside them. A leaf of the same subject
/// is replaced.
///
/// # Errors
/// If the authority is missing, damaged or not valid now, the subject cannot have this certificate,
/// or the directory holds files of somebody else or refuses.
pub fn issue(ca_dir: &Path, leaf: &Leaf, now: SystemTime) -> Result<Issued, Error> {
    let authority = Authority::read(ca_dir, now)?;
    let name = leaf.subject.checked_name()?;
    if leaf.days == 0 || leaf.days > LEAF_DAYS_MAX {
        return Err(refuse(name, &format!("it can hold for 1 to {LEAF_DAYS_MAX} days")));
    }
    let uri = leaf.subject.uri(&authority.domain);
    let now = whole_seconds(now);
    let not_after = (now + days(leaf.days)).min(authority.not_after);
    let mut params = params(name, now, not_after);
    params.subject_alt_names = names(leaf, name, &uri)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = leaf.subject.purposes();

    make_dir(&leaf.out_dir, 0o755)?;
    let cert = leaf.out_dir.join(format!("{name}.pem"));
    let key = leaf.out_dir.join(format!("{name}.key"));
    let ca = leaf.out_dir.join("ca.pem");
    check_replaceable(&cert, &key, &uri)?;
    let ca_draft = authority.draft_beside(&ca)?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let made = params.signed_by(&pair, &authority.issuer)?;
    let cert_draft = Draft::public(&cert, made.pem().as_bytes())?;
    let key_draft = Draft::secret(&key, pair.serialize_pem().as_bytes())?;
    if let Some(draft) = ca_draft {
        draft.create()?;
    }
    // The certificate first: it says whose the key is, should the machine stop in between.
    cert_draft.replace()?;
    key_draft.replace()?;
    draft::sync(&leaf.out_dir)?;
    Ok(Issued { cert, key, ca, not_after })
}

impl Subject {
    /// The name, if files and certificates can be called so.
    fn checked_name(&self) -> Result<&str, Error> {
        let name = match self {
            Self::Node(name) => name.as_str(),
            Self::App(name) => {
                spiffe::check_segment(name).map_err(|reason| refuse(name, reason))?;
                if name.len() > APP_NAME_BYTES_MAX || name.starts_with(['.', '-']) {
                    let reason = "an application's name has at most 63 bytes, and begins with \
                                  neither '.' nor '-'";
                    return Err(refuse(name, reason));
                }
                name
            }
        };
        if name == AUTHORITY {
            return Err(refuse(name, "its files would be the authority's; choose another name"));
        }
        Ok(name)
    }

    fn uri(&self, domain: &str) -> String {
        match self {
            Self::Node(name) => format!("spiffe://{domain}/node/{name}"),
            Self::App(name) => format!("spiffe://{domain}/app/{name}"),
        }
    }

    fn purposes(&self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            // A node answers, and dials other members.
            Self::Node(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Self::App(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

/// The alternative names of a leaf.
fn names(leaf: &Leaf, name: &str, uri: &str) -> Result<Vec<SanType>, Error> {
    let mut names = vec![SanType::URI(uri.try_into()?)];
    if let Subject::App(_) = leaf.subject {
        if !leaf.dns.is_empty() || !leaf.ip.is_empty() {
            return Err(refuse(name, "nobody dials an application, so it has no DNS names"));
        }
        return Ok(names);
    }
    if leaf.dns.len() + leaf.ip.len() > LEAF_NAMES_MAX {
        return Err(refuse(name, "it would have more than 64 names and addresses"));
    }
    let dns: BTreeSet<String> = leaf.dns.iter().map(|dns| dns.to_ascii_lowercase()).collect();
    let others = dns.iter().map(String::as_str).filter(|dns| *dns != name);
    for dns in std::iter::once(name).chain(others) {
        if DnsName::try_from(dns).is_err() {
            return Err(refuse(name, &format!("`{dns}` is not a DNS name")));
        }
        names.push(SanType::DnsName(dns.try_into()?));
    }
    let ip: BTreeSet<IpAddr> = leaf.ip.iter().copied().collect();
    names.extend(ip.into_iter().map(SanType::IpAddress));
    Ok(names)
}

/// Refuses to replace anything but a leaf of the same subject.
fn check_replaceable(cert: &Path, key: &Path, uri: &str) -> Result<(), Error> {
    if cert.symlink_metadata().is_err() {
        return match key.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => Err(taken(key, "no certificate beside it says whose it is")),
        };
    }
    let leaf = files::certificates(cert)?.into_iter().next().ok_or(Error::NoCertificate)?;
    if Facts::of(&leaf).is_ok_and(|facts| facts.uris == [uri]) {
        return Ok(());
    }
    Err(taken(cert, &format!("is not for {uri}")))
}
