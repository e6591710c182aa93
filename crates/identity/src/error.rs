//! What can be wrong with certificates, keys, patterns and rules, in words for the operator.
//!
//! Each message names the file or the rule, what is wrong, and what to do where that is not
//! obvious. None contains anything of a private key.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Why an identity, a pair of files or a rule was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    #[error("cannot {doing} {}: {source}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// What was attempted: a verb.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file without what it is named for.
    #[error("{} has no {what} in it: it must be in PEM form", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A file that holds something unusable.
    #[error("{} cannot be used: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that is not its owner's alone.
    #[error(
        "key file {} has mode {mode:04o}, so others than its owner may use it; run `chmod 600 {}`",
        file.display(), file.display()
    )]
    Exposed {
        /// The key file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key of another certificate.
    #[error("key {} does not belong to certificate {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("certificate {} expired at {}", file.display(), date(*at))]
    Expired {
        /// The certificate file.
        file: PathBuf,
        /// Its end.
        at: SystemTime,
    },
    /// Its time has not begun.
    #[error(
        "certificate {} is valid only from {}; is this machine's clock right?",
        file.display(), date(*from)
    )]
    NotYetValid {
        /// The certificate file.
        file: PathBuf,
        /// Its beginning.
        from: SystemTime,
    },
    /// Other members would refuse this node.
    #[error(
        "members that trust {} would refuse certificate {}: {reason}", ca.display(), cert.display()
    )]
    Untrusted {
        /// The certificate file.
        cert: PathBuf,
        /// The file with the authorities.
        ca: PathBuf,
        /// Why.
        reason: String,
    },
    /// A node's certificate that names no node.
    #[error(
        "certificate {} names {identity}, which is not a node: a node needs \
         spiffe://DOMAIN/node/NAME, or a DNS name that matches [mesh] member_names",
        file.display()
    )]
    NotANode {
        /// The certificate file.
        file: PathBuf,
        /// Whom it names.
        identity: Arc<str>,
    },
    /// What is wrong with the names in a certificate of ours.
    #[error("certificate {}: {reason}", file.display())]
    Names {
        /// The certificate file.
        file: PathBuf,
        /// Which of the problems below.
        reason: Box<Self>,
    },
    /// The other end is somebody, but no member.
    #[error("{0} answers there, which is not a member of this mesh")]
    NotAMember(Arc<str>),
    /// The other end showed no certificate.
    #[error("the other end showed no certificate")]
    NoCertificate,
    /// A certificate that cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// More than one URI name: who of them is calling would be a guess.
    #[error("the certificate has {0} URI names, and a SPIFFE certificate has exactly one")]
    Uris(usize),
    /// A malformed SPIFFE id.
    #[error("the certificate's URI name {uri:?} is not a SPIFFE id: {reason}")]
    Spiffe {
        /// The name, shortened.
        uri: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// DNS names of several nodes in one certificate.
    #[error("the certificate is for several nodes at once: {0} and {1}")]
    Ambiguous(String, String),
    /// Nothing that could be an identity.
    #[error("the certificate has neither a SPIFFE id nor a DNS name among its alternative names")]
    NoName,
    /// A pattern of `[mesh] member_names` that cannot be one.
    #[error("`{pattern}` cannot be a pattern of member names: {reason}")]
    MemberNames {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: &'static str,
    },
    /// An allow rule that cannot be one.
    #[error("the allow rule for `{who}` {reason}")]
    Rule {
        /// Its pattern of identities.
        who: String,
        /// Why.
        reason: String,
    },
    /// An account that this machine does not know.
    #[error("account `{0}` is unknown on this machine; name an existing user, or give its number")]
    Account(String),
    /// More than is taken.
    #[error("{count} {what} are more than the {max} that are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many at most.
        max: usize,
    },
    /// An act that does not exist.
    #[error(
        "`{0}` is not an act: publish, subscribe, replicate, register, call, observe and operate \
         are"
    )]
    Act(String),
    /// Something is there already that must not be overwritten.
    #[error("{} is there already and {reason}; evermesh leaves it as it is", file.display())]
    Taken {
        /// The file.
        file: PathBuf,
        /// What it is.
        reason: String,
    },
    /// A subject that cannot have a certificate.
    #[error("cannot make a certificate for `{name}`: {reason}")]
    Subject {
        /// Who.
        name: String,
        /// Why.
        reason: String,
    },
    /// The cryptographic library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate library refused.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// A point in time as people and logs write it, in UTC.
fn date(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| "a time beyond reckoning".to_owned(), |at| at.to_string())
}

/// For `map_err`: which file, and what was attempted.
pub(crate) fn cannot(
    doing: &'static str,
    file: &std::path::Path,
) -> impl FnOnce(io::Error) -> Error {
    let file = file.to_owned();
    move |source| Error::File { file, doing, source }
}
