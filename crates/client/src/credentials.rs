//! Credentials: the files that an application shows and trusts, made into its side of TLS.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

use crate::{Address, Error};

/// The files for `https`. A unix socket needs none: there the kernel says who is calling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate to show. The shared port requires one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authorities to trust.
    pub ca: Option<PathBuf>,
}

impl Credentials {
    /// What TLS needs, or nothing on a unix socket.
    pub(crate) fn load(&self, address: &Address) -> Result<Option<Arc<ClientConfig>>, Error> {
        let lacks = |lacks| Error::Incomplete { address: address.clone(), lacks };
        let own = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => return Err(lacks("the private key of that certificate")),
            (None, Some(_)) => return Err(lacks("the certificate of that private key")),
        };
        if matches!(address, Address::Unix(_)) {
            return Ok(None);
        }
        let ca = self.ca.as_ref().ok_or_else(|| lacks("the authorities to trust (ca)"))?;
        Ok(Some(evermesh_identity::load_client(own, ca)?))
    }
}
