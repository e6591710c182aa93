//! The node's own: its credentials, its rules, the names of accounts it meets.
//!
//! Comes between the configuration and the assembly; `evermesh check` goes as far as here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use evermesh_identity::{Credentials, Identity, Rules, load, user_name};
use evermesh_peer::TlsDialer;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::config::Config;
use crate::error::Error;

/// Accounts whose name is remembered. A machine has a few that speak to a node; beyond this they
/// go by their number.
const NAMES_MAX: usize = 1024;

/// The node's side of TLS; `None` if it has none.
///
/// # Errors
/// If a file is not as it must be, or the certificate is another node's.
pub fn credentials(config: &Config, now: SystemTime) -> Result<Option<Credentials>, Error> {
    let Some(files) = &config.tls else { return Ok(None) };
    let credentials = load(files, &config.mesh.member_names, now)?;
    match credentials.identity.member() {
        Some(certified) if *certified != config.node.name => Err(Error::OtherName {
            file: files.cert.clone(),
            certified: certified.clone(),
            configured: config.node.name.clone(),
        }),
        _ => Ok(Some(credentials)),
    }
}

/// Dials the other members with the node's certificate.
pub(crate) fn dialer(credentials: &Credentials) -> TlsDialer {
    TlsDialer::new(Arc::clone(&credentials.client), credentials.naming.clone())
}

/// Who may do what here.
///
/// # Errors
/// If an account vanished since the configuration was read.
pub fn rules(config: &Config) -> Result<Rules, Error> {
    let own = rustix::process::geteuid().as_raw();
    Ok(Rules::new(config.allow.clone(), config.listen.accounts.clone(), own)?)
}

/// Who this process is: what the configuration makes it subscribe to, it hears as its own user.
#[must_use]
pub(crate) fn identity() -> Identity {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    Identity::local(uid.as_raw(), gid.as_raw(), None, None)
}

/// The names of accounts, each looked up once: the user database may be on the network.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<u32, Option<String>>>);

impl Accounts {
    /// The name of an account, if it has one.
    pub(crate) fn name(&self, uid: u32) -> Option<String> {
        let known = |names: &HashMap<u32, Option<String>>| names.get(&uid).cloned();
        if let Some(name) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return name;
        }
        // Looked up without the lock, and without holding up what else this worker carries.
        let name = match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| user_name(uid)),
            _ => user_name(uid),
        };
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(uid, name.clone());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_found_and_remembered() {
        let accounts = Accounts::default();
        for _ in 0..2 {
            assert_eq!(accounts.name(0).as_deref(), Some("root"));
            assert_eq!(accounts.name(u32::MAX - 7), None);
        }
        let names = accounts.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(names.len(), 2);
    }
}
