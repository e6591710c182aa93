//! Identities: who is at the other end of a connection.
//!
//! Made once for each connection, after the handshake or from the socket's peer credentials, and
//! cheap to clone from then on. It never comes from a message. Whether the certificate can be
//! believed was decided before, by the handshake; what the identity may do is decided after, by
//! [`crate::Rules`].

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use evermesh_event::NodeName;
use rustls::pki_types::CertificateDer;

use crate::certificate::Facts;
use crate::{Error, Naming};

/// Who is calling. Comes only from TLS or from peer credentials; never from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    principal: Principal,
    text: Arc<str>,
    not_after: Option<SystemTime>,
}

/// What kind of caller it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A node of this mesh.
    Member(NodeName),
    /// An application of the own trust domain, by its name; never a member.
    Application(String),
    /// Any other SPIFFE id: another trust domain, or another path. The whole URI.
    Spiffe(String),
    /// A certificate without a SPIFFE id: its first DNS name.
    Dns(String),
    /// A process on this machine, over the local socket.
    Local {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its process, if the system told.
        pid: Option<i32>,
        /// Its user's name, if the system knows one.
        user: Option<String>,
    },
}

impl Identity {
    /// What kind of caller it is.
    #[must_use]
    pub fn kind(&self) -> &Principal {
        &self.inner.principal
    }

    /// The identity as text: `spiffe://…`, `dns:NAME` or `local:uid=N`. Two callers have the same
    /// text exactly if they are the same for logs, rules and deduplication.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.inner.text
    }

    /// The member's name, if it is one.
    #[must_use]
    pub fn member(&self) -> Option<&NodeName> {
        match self.kind() {
            Principal::Member(name) => Some(name),
            _ => None,
        }
    }

    /// Until when its certificate holds; `None` without a certificate.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.inner.not_after
    }

    /// A process on this machine, from what the kernel says of its socket.
    #[must_use]
    pub fn local(uid: u32, gid: u32, pid: Option<i32>, user: Option<&str>) -> Self {
        let principal = Principal::Local { uid, gid, pid, user: user.map(str::to_owned) };
        Self::new(principal, format!("local:uid={uid}").into(), None)
    }

    /// A member without a certificate: for tests and simulated networks only.
    #[must_use]
    pub fn member_named(name: NodeName) -> Self {
        let text = format!("spiffe://simulated.invalid/node/{name}").into();
        Self::new(Principal::Member(name), text, None)
    }

    /// Whom a certificate names. The caller has verified its chain and time before.
    ///
    /// # Errors
    /// If it cannot be read, or names nobody, or more than one.
    pub fn from_certificate(leaf: &CertificateDer<'_>, naming: &Naming) -> Result<Self, Error> {
        Self::from_facts(&Facts::of(leaf)?, naming)
    }

    pub(crate) fn from_facts(facts: &Facts, naming: &Naming) -> Result<Self, Error> {
        let (principal, text) = naming.principal(facts)?;
        Ok(Self::new(principal, text, Some(facts.not_after)))
    }

    fn new(principal: Principal, text: Arc<str>, not_after: Option<SystemTime>) -> Self {
        Self { inner: Arc::new(Inner { principal, text, not_after }) }
    }
}

/// Who the other end of a completed handshake is, on either side.
///
/// # Errors
/// If it showed no certificate, or one that names nobody, or more than one.
pub fn peer_identity(
    certs: Option<&[CertificateDer<'_>]>,
    naming: &Naming,
) -> Result<Identity, Error> {
    let leaf = certs.and_then(<[_]>::first).ok_or(Error::NoCertificate)?;
    Identity::from_certificate(leaf, naming)
}
