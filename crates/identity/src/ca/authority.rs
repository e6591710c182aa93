//! An authority's directory, read and checked before it issues anything.

use std::path::Path;
use std::time::SystemTime;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

use super::draft::Draft;
use super::taken;
use crate::certificate::Facts;
use crate::credentials::check_time;
use crate::files::{self, unusable};
use crate::{Error, spiffe};

/// An authority's files, read and checked.
pub(super) struct Authority {
    /// The whole file: during a change of authorities it has more than one certificate, its own
    /// first.
    content: Vec<u8>,
    cert: CertificateDer<'static>,
    pub(super) domain: String,
    pub(super) not_after: SystemTime,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn read(dir: &Path, now: SystemTime) -> Result<Self, Error> {
        let (file, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        let content = files::content(&file)?;
        let certs = files::certificates_in(&content, &file)?;
        let cert = certs.into_iter().next().ok_or(Error::NoCertificate)?;
        let facts = Facts::of(&cert)
            .map_err(|reason| Error::Names { file: file.clone(), reason: Box::new(reason) })?;
        let domain = match facts.uris.as_slice() {
            [uri] if facts.authority => uri.strip_prefix("spiffe://"),
            _ => None,
        };
        let Some(domain) = domain.filter(|domain| spiffe::check_domain(domain).is_ok()) else {
            return Err(unusable(&file, "it is not an authority that `evermesh ca init` made"));
        };
        check_time(&file, &facts, now)?;
        let pem = files::secret(&key_file)?;
        let pair = std::str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let pair = pair.ok_or_else(|| unusable(&key_file, "it holds no private key"))?;
        if pair.public_key_raw() != facts.public_key {
            return Err(Error::Mismatch { cert: file, key: key_file });
        }
        let issuer = Issuer::from_ca_cert_der(&cert, pair)?;
        let domain = domain.to_owned();
        Ok(Self { content, cert, domain, not_after: facts.not_after, issuer })
    }

    /// The certificate for beside a leaf, unless what is there already trusts this authority.
    pub(super) fn draft_beside(&self, file: &Path) -> Result<Option<Draft>, Error> {
        if file.symlink_metadata().is_err() {
            return Draft::public(file, &self.content).map(Some);
        }
        if files::certificates(file)?.contains(&self.cert) {
            return Ok(None);
        }
        Err(taken(file, "is of another authority; remove it, or choose another directory"))
    }
}
