//! The dialing side's judgement of who answers: a member of this mesh, whatever the address was.
//!
//! Chain, time and purpose are verified as for any server. In place of the host name, which may be
//! an IP address or the name of a service, the certificate must name a member. Which member it is,
//! is for the caller to read with [`crate::peer_identity`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use crate::{Error, Identity, Naming};

/// Verifies that who answers is a member.
#[derive(Debug)]
pub(crate) struct MemberVerifier {
    /// Whom this node trusts to vouch for members.
    pub(crate) roots: Arc<RootCertStore>,
    /// The provider's.
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    /// What makes a member of a name.
    pub(crate) naming: Naming,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let identity = Identity::from_certificate(leaf, &self.naming).map_err(refused)?;
        match identity.member() {
            Some(_) => Ok(ServerCertVerified::assertion()),
            None => Err(refused(Error::NotAMember(Arc::clone(identity.text())))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Our reason, in the shape that ends a handshake.
fn refused(reason: Error) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(Refused(reason)))).into()
}

/// Our reason, also where the library prints what it was given for debugging.
#[derive(thiserror::Error)]
#[error(transparent)]
struct Refused(Error);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
