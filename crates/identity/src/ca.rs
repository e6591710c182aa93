//! A mesh's own authority, for people who have none: `evermesh ca init` and `evermesh ca issue`.
//!
//! The authority is a directory with `ca.pem` and `ca.key`. Its certificate names the trust domain,
//! so that issuing needs nothing else. A certificate and its key are written beside each other,
//! each whole or not at all; what belongs to somebody else is never overwritten. Deliberately
//! absent: revocation, and intermediate authorities.

mod authority;
mod draft;
mod leaf;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

pub use self::leaf::{Issued, LEAF_DAYS_DEFAULT, LEAF_DAYS_MAX, Leaf, Subject, issue};

use self::draft::Draft;
use crate::error::cannot;
use crate::{Error, spiffe};

/// Ten years, with their leap days.
const AUTHORITY_DAYS: u32 = 3653;
/// For machines whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// An authority to be made.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// Where; made if it is not there, for its owner only.
    pub dir: PathBuf,
    /// The trust domain: the `mesh.internal` of `spiffe://mesh.internal/node/web-1`.
    pub trust_domain: String,
}

/// An authority that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its certificate, to be trusted.
    pub cert: PathBuf,
    /// Its key, to be kept away from every node.
    pub key: PathBuf,
    /// Until when it can issue.
    pub not_after: SystemTime,
}

/// Makes an authority: `ca.pem` and `ca.key` in its directory.
///
/// # Errors
/// If the trust domain cannot be one, either file is there already, or the directory refuses.
pub fn init(new: &NewAuthority, now: SystemTime) -> Result<Made, Error> {
    let domain = new.trust_domain.as_str();
    spiffe::check_domain(domain).map_err(|reason| refuse(domain, reason))?;
    let cert = new.dir.join("ca.pem");
    let key = new.dir.join("ca.key");
    for file in [&cert, &key] {
        if file.symlink_metadata().is_ok() {
            return Err(taken(file, "may be an authority that certificates depend on"));
        }
    }
    make_dir(&new.dir, 0o700)?;

    let now = whole_seconds(now);
    let not_after = now + days(AUTHORITY_DAYS);
    let mut params = params(&format!("evermesh authority of {domain}"), now, not_after);
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let made = params.self_signed(&pair)?;

    let key_draft = Draft::secret(&key, pair.serialize_pem().as_bytes())?;
    let cert_draft = Draft::public(&cert, made.pem().as_bytes())?;
    key_draft.create()?;
    if let Err(error) = cert_draft.create() {
        // A key without its certificate would only stand in the way of the next attempt.
        let _ = fs::remove_file(&key);
        return Err(error);
    }
    draft::sync(&new.dir)?;
    Ok(Made { cert, key, not_after })
}

/// What both kinds of certificates have in common. The serial number follows from the fresh key.
fn params(name: &str, now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATE).into();
    params.not_after = not_after.into();
    params
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(cannot("make", dir))
}

/// Certificates count in whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

const fn days(days: u32) -> Duration {
    Duration::from_secs(days as u64 * 24 * 60 * 60)
}

fn taken(file: &Path, reason: &str) -> Error {
    Error::Taken { file: file.to_owned(), reason: reason.to_owned() }
}

fn refuse(name: &str, reason: &str) -> Error {
    Error::Subject { name: name.to_owned(), reason: reason.to_owned() }
}
