//! What a certificate says: its names and its time. Parsing only; who vouches for it was checked
//! before.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::Error;

/// Names that one certificate may have, so that a strange one costs nothing. Public authorities
/// stop at 100.
const NAMES_MAX: usize = 256;

/// The part of a certificate that matters here.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Alternative names that are URIs, in their order.
    pub(crate) uris: Vec<String>,
    /// Alternative names that are DNS names, in their order.
    pub(crate) dns: Vec<String>,
    /// Its time.
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Whether it may vouch for others.
    pub(crate) authority: bool,
    /// Its public key, without the algorithm.
    pub(crate) public_key: Vec<u8>,
}

impl Facts {
    /// Reads a certificate in DER.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let unreadable = |reason: &dyn ToString| Error::Unreadable(reason.to_string());
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| unreadable(&e))?;
        if !rest.is_empty() {
            return Err(unreadable(&"something follows its end"));
        }
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        let names = cert.subject_alternative_name().map_err(|e| unreadable(&e))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::Invalid(..) => {
                    return Err(unreadable(&"one of its alternative names is malformed"));
                }
                _ => {}
            }
            if uris.len() + dns.len() > NAMES_MAX {
                return Err(unreadable(&"it has more than 256 alternative names"));
            }
        }
        let authority = cert.basic_constraints().map_err(|e| unreadable(&e))?;
        Ok(Self {
            uris,
            dns,
            not_before: time(cert.validity().not_before)?,
            not_after: time(cert.validity().not_after)?,
            authority: authority.is_some_and(|basic| basic.value.ca),
            public_key: cert.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// A certificate's time as the system's.
fn time(at: ASN1Time) -> Result<SystemTime, Error> {
    let distance = Duration::from_secs(at.timestamp().unsigned_abs());
    let time = if at.timestamp() < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or_else(|| Error::Unreadable("its time is beyond reckoning".to_owned()))
}
