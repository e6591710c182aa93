//! Certificates, identities and rules: who is calling, and what it may do (P10).
//!
//! - Who: [`Identity`], from a verified certificate under [`Naming`] or from a socket's peer
//!   credentials.
//! - With what: [`load`] makes a node's [`Credentials`], [`load_client`] an application's side of
//!   TLS.
//! - What it may do: [`Rules`] answer whether an [`Identity`] is permitted an [`Act`].
//! - For people who have no authority of their own: [`ca`].
//!
//! An identity never comes from a message. Everything here is synchronous; the time is an argument.
//! Opening connections, watching files and closing what expired are the business of those who hold
//! the connections.

mod account;
pub mod ca;
mod certificate;
mod credentials;
mod error;
mod files;
#[cfg(test)]
mod fixture;
mod identity;
mod member_verifier;
mod naming;
mod rules;
mod spiffe;

pub use account::{Account, user_name};
pub use credentials::{Credentials, TlsFiles, load, load_client};
pub use error::Error;
pub use identity::{Identity, Principal, peer_identity};
pub use naming::Naming;
pub use rules::{Act, Allow, Denied, Rules, Sites};
