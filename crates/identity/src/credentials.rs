//! Credentials: a node's or an application's side of TLS, made of files and checked as a whole.
//!
//! A node loads them at its start and whenever the files changed; what is refused here never
//! replaces what is in use. The own certificate is judged as the other members will judge it, so
//! that a mistake shows here and not as a refused handshake there.
//!
//! Always: TLS 1.3, client certificates required, no resumption, because resuming would
//! skip the verification of a certificate that may be revoked by then. Deliberately absent:
//! revocation lists.

mod own;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use self::own::Own;
pub(crate) use self::own::check_time;
use crate::files::{self, unusable};
use crate::member_verifier::MemberVerifier;
use crate::{Error, Identity, Naming};

/// HTTP/2, which everything but the page in a browser speaks.
const H2: &[u8] = b"h2";
/// For the page, and for clients without HTTP/2.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The files of a node's `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and what lies between it and an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that vouch for members and applications.
    pub ca: PathBuf,
}

/// A node's side of TLS.
pub struct Credentials {
    /// For the shared port.
    pub server: Arc<ServerConfig>,
    /// For dialing members: accepts any address, and members only.
    pub client: Arc<ClientConfig>,
    /// Whom the own certificate names; always a member.
    pub identity: Identity,
    /// Until when the own certificate holds.
    pub not_after: SystemTime,
    /// How the names of others become identities.
    pub naming: Naming,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .field("naming", &self.naming)
            .finish_non_exhaustive()
    }
}

/// Loads a node's credentials.
///
/// # Errors
/// If a file is missing or unusable, others may use the key, the key is another certificate's, the
/// certificate is not valid now, names no node, or would be refused by members that trust the same
/// authorities; or if a pattern in `member_names` cannot be one.
pub fn load(
    files: &TlsFiles,
    member_names: &[String],
    now: SystemTime,
) -> Result<Credentials, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let own = Own::read(&files.cert, &files.key, &provider)?;
    let roots = Arc::new(files::authorities(&files.ca)?);
    let naming = Naming::of(&own.facts, member_names).map_err(|error| own.in_file(error))?;
    let identity = Identity::from_facts(&own.facts, &naming).map_err(|error| own.in_file(error))?;
    if identity.member().is_none() {
        let (file, identity) = (files.cert.clone(), Arc::clone(identity.text()));
        return Err(Error::NotANode { file, identity });
    }
    own.check_time(now)?;
    let algorithms = provider.signature_verification_algorithms;
    let members =
        Arc::new(MemberVerifier { roots: Arc::clone(&roots), algorithms, naming: naming.clone() });
    let callers = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&files.ca, &error.to_string()))?;
    own.check_trusted(&*members, &*callers, &files.ca, now)?;

    let pair = Arc::new(SingleCertAndKey::from(own.pair));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(callers)
        .with_cert_resolver(Arc::clone(&pair) as _);
    server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(members)
        .with_client_cert_resolver(pair);
    Ok(Credentials {
        server: Arc::new(server),
        client: dialing(client),
        identity,
        not_after: own.facts.not_after,
        naming,
    })
}

/// Loads the side of an application or of the command line: the server's certificate must be for
/// the name that was dialed. `own` is a certificate file and its key file, if there is one to show.
///
/// # Errors
/// If a file is missing or unusable, others may use the key, or the key is another certificate's.
pub fn load_client(own: Option<(&Path, &Path)>, ca: &Path) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(files::authorities(ca)?);
    let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error: VerifierBuilderError| unusable(ca, &error.to_string()))?;
    let own = own.map(|(cert, key)| Own::read(cert, key, &provider)).transpose()?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers);
    Ok(dialing(match own {
        Some(own) => client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.pair))),
        None => client.with_no_client_auth(),
    }))
}

/// What every dialing side has in common.
fn dialing(mut client: ClientConfig) -> Arc<ClientConfig> {
    client.alpn_protocols = vec![H2.to_vec()];
    client.resumption = Resumption::disabled();
    Arc::new(client)
}
