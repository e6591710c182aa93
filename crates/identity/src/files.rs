//! PEM files: certificates, authorities and keys, read whole and checked before anything is made of
//! them.
//!
//! What is read from a key file appears in no error.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;
use crate::certificate::Facts;
use crate::error::cannot;

/// A bundle of all public authorities has about 250 KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The certificates in a file, at least one, in their order.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates_in(&content(file)?, file)
}

/// The content of a file that holds no secret.
pub(crate) fn content(file: &Path) -> Result<Vec<u8>, Error> {
    read(&open(file)?, file)
}

/// The certificates in what was read from a file, at least one, in their order.
pub(crate) fn certificates_in(
    content: &[u8],
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let certs = certs.map_err(|error| unusable(file, &describe(&error)))?;
    if certs.is_empty() {
        return Err(Error::Empty { file: file.to_owned(), what: "certificate" });
    }
    Ok(certs)
}

/// The authorities in a file, at least one.
///
/// Whatever is in here may vouch for members, so a certificate that is no authority is refused:
/// trusted, its key could make others.
pub(crate) fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(file)? {
        let facts = Facts::of(&cert).map_err(|error| unusable(file, &error.to_string()))?;
        if !facts.authority {
            return Err(unusable(file, "it holds a certificate that is not an authority's"));
        }
        roots.add(cert).map_err(|error| unusable(file, &error.to_string()))?;
    }
    Ok(roots)
}

/// The private key in a file that only its owner may use.
pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = secret(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if text.windows(9).any(|part| part == b"ENCRYPTED") => unusable(
            file,
            "the key is encrypted, and nobody is there to give the password; decrypt it with \
             `openssl pkey`",
        ),
        PemError::NoItemsFound => Error::Empty { file: file.to_owned(), what: "private key" },
        // The library's words may quote the file.
        _ => unusable(file, "it is damaged: not well-formed PEM"),
    })
}

/// The content of a file that only its owner may use.
pub(crate) fn secret(file: &Path) -> Result<Vec<u8>, Error> {
    let open = open(file)?;
    let mode = open.metadata().map_err(cannot("read", file))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { file: file.to_owned(), mode });
    }
    read(&open, file)
}

/// For what a file holds that cannot be used.
pub(crate) fn unusable(file: &Path, reason: &str) -> Error {
    Error::Unusable { file: file.to_owned(), reason: reason.to_owned() }
}

fn open(file: &Path) -> Result<File, Error> {
    File::open(file).map_err(cannot("read", file))
}

fn read(open: &File, file: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let read = open.take(PEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(cannot("read", file))?;
    if read as u64 > PEM_BYTES_MAX {
        return Err(unusable(file, "it is larger than 1 MiB, which no certificate or key is"));
    }
    Ok(text)
}

/// What is wrong with a PEM file that holds no secret.
fn describe(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "it ends within a certificate".to_owned(),
        PemError::IllegalSectionStart { .. } => "a BEGIN line in it is malformed".to_owned(),
        other => other.to_string(),
    }
}
