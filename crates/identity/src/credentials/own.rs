//! The own certificate with its key, judged before it is shown to anybody.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys};

use crate::Error;
use crate::certificate::Facts;
use crate::files::{self, unusable};

/// The own certificate with its key.
pub(super) struct Own {
    file: PathBuf,
    pub(super) facts: Facts,
    /// The chain as it is shown, and the key.
    pub(super) pair: CertifiedKey,
}

impl Own {
    pub(super) fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, Error> {
        let chain = files::certificates(cert)?;
        let secret = files::key(key)?;
        let leaf = chain.first().ok_or(Error::NoCertificate)?;
        let facts = Facts::of(leaf).map_err(|error| in_file(cert, error))?;
        let pair =
            CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Error::Mismatch { cert: cert.to_owned(), key: key.to_owned() }
                }
                // The library's words for a key that it does not understand, without its content.
                other => unusable(key, &other.to_string()),
            })?;
        Ok(Self { file: cert.to_owned(), facts, pair })
    }

    pub(super) fn in_file(&self, error: Error) -> Error {
        in_file(&self.file, error)
    }

    pub(super) fn check_time(&self, now: SystemTime) -> Result<(), Error> {
        check_time(&self.file, &self.facts, now)
    }

    /// Judges the own certificate as others will, in both of its roles.
    pub(super) fn check_trusted(
        &self,
        members: &dyn ServerCertVerifier,
        callers: &dyn ClientCertVerifier,
        ca: &Path,
        now: SystemTime,
    ) -> Result<(), Error> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        let Some((leaf, rest)) = self.pair.cert.split_first() else {
            return Err(Error::NoCertificate);
        };
        // Members are recognised by the certificate's names, never by the address.
        let address = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
        members
            .verify_server_cert(leaf, rest, &address, &[], now)
            .map_err(|error| self.untrusted(ca, &error, "server"))?;
        callers
            .verify_client_cert(leaf, rest, now)
            .map_err(|error| self.untrusted(ca, &error, "client"))?;
        Ok(())
    }

    fn untrusted(&self, ca: &Path, error: &rustls::Error, role: &str) -> Error {
        use CertificateError as E;
        let reason = match error {
            rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
                "none of these authorities signed it (are intermediate certificates missing from \
                 its file?)"
                    .to_owned()
            }
            rustls::Error::InvalidCertificate(
                E::InvalidPurpose | E::InvalidPurposeContext { .. },
            ) => {
                format!("its extended key usage lacks {role} authentication, and a node is both")
            }
            rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
                "an authority's certificate expired".to_owned()
            }
            other => other.to_string(),
        };
        Error::Untrusted { cert: self.file.clone(), ca: ca.to_owned(), reason }
    }
}

/// Whether a certificate is valid at this time.
pub(crate) fn check_time(file: &Path, facts: &Facts, now: SystemTime) -> Result<(), Error> {
    if now < facts.not_before {
        return Err(Error::NotYetValid { file: file.to_owned(), from: facts.not_before });
    }
    if now > facts.not_after {
        return Err(Error::Expired { file: file.to_owned(), at: facts.not_after });
    }
    Ok(())
}

/// Problems of the certificate itself get its file's name; a bad pattern is not the certificate's
/// problem.
fn in_file(file: &Path, error: Error) -> Error {
    match error {
        pattern @ Error::MemberNames { .. } => pattern,
        other => Error::Names { file: file.to_owned(), reason: Box::new(other) },
    }
}
