//! Reading: from the document to a [`Config`], key by key.
//!
//! Every key is looked at, whatever was wrong before, so that one run shows all problems. A value
//! that was refused stands as its default until the end, where nothing is given out.

mod push;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evermesh_event::{NodeName, check_site};
use evermesh_identity::{Account, Act, Allow, Rules, TlsFiles};
use evermesh_telemetry::LogFormat;
use tonic::transport::Uri;
use tracing_subscriber::EnvFilter;

use super::document::{Document, Place, Raw, Rule, Value};
use super::environment::Environment;
use super::keys::{self, Key};
use super::problem::{Problem, Problems};
use super::{
    Config, Durability, Journal, LOCAL_DEFAULT, Listen, Log, Mesh, Node, OnStop, quantity,
};

/// What the kernel takes as the path of a socket, without the final zero byte.
const SOCKET_PATH_MAX: usize = 107;
/// Peers that one node dials: a full mesh of 64 has 63; four times that leaves room.
const PEERS_MAX: usize = 256;
const FILTER_DEFAULT: &str = "info";
const DATA_DIR_DEFAULT: &str = "/var/lib/evermesh";
const SHARED_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 7443);
const DRAIN_DEFAULT: Duration = Duration::from_secs(10);
/// Longer than any orchestrator waits.
const DRAIN_MAX: Duration = Duration::from_secs(300);
const LEASE_DEFAULT: Duration = Duration::from_secs(2);
/// Pings go out four times a lease; below this they would be what a node mostly does.
const LEASE_MIN: Duration = Duration::from_millis(200);
/// An application would trust a stale cache for so long.
const LEASE_MAX: Duration = Duration::from_secs(60);
/// A node that restarts must not be forgotten.
const FORGET_MIN: Duration = Duration::from_secs(60);
const FORGET_MAX: Duration = Duration::from_secs(8760 * 60 * 60);
const FORGET_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP_MIN: Duration = Duration::ZERO;
/// Longer, and it would be a backup.
const KEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// The window in which an id is taken once.
const MAX_AGE_MIN: Duration = Duration::from_secs(10 * 60);
const MAX_AGE_MAX: Duration = Duration::from_secs(8760 * 60 * 60);
/// A member that is away over a weekend misses nothing.
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(168 * 60 * 60);
const MAX_BYTES_DEFAULT: u64 = 4 << 30;
/// What a process beside an application may well take: about a hundred thousand invalidations.
const MAX_BYTES_DEFAULT_MEMORY: u64 = 64 << 20;
/// Below it, what is kept free for received events would be most of it.
const MAX_BYTES_MIN: u64 = 64 << 20;
const MAX_BYTES_MAX: u64 = 16 << 40;

/// The configuration, or everything that is wrong with it.
pub(super) fn config(
    text: &str,
    file: &Path,
    environment: &Environment,
) -> Result<Config, Problems> {
    let mut reading = Reading {
        document: Document::new(text, file, environment)?,
        base: file.parent().unwrap_or_else(|| Path::new("")),
    };
    let name = reading.name();
    let durability = reading.durability();
    let data_dir = reading.data_dir(durability);
    let drain = reading.duration(&keys::DRAIN, Duration::ZERO, DRAIN_MAX, DRAIN_DEFAULT);
    let listen =
        Listen { shared: reading.shared(), local: reading.local(), accounts: reading.accounts() };
    let tls = reading.tls();
    let mesh = Mesh {
        peers: reading.peers(),
        member_names: reading.texts(&keys::MEMBER_NAMES),
        lease: reading.duration(&keys::LEASE, LEASE_MIN, LEASE_MAX, LEASE_DEFAULT),
        address: reading.or(&keys::ADDRESS, None, |value| value.text().and_then(peer).map(Some)),
        forget_after: reading.duration(&keys::FORGET_AFTER, FORGET_MIN, FORGET_MAX, FORGET_DEFAULT),
        on_stop: reading.on_stop(),
    };
    let journal = Journal {
        durability,
        max_bytes: reading.max_bytes(durability),
        keep_at_least: reading.duration(&keys::KEEP, KEEP_MIN, KEEP_MAX, KEEP_DEFAULT),
        max_age: reading.duration(&keys::MAX_AGE, MAX_AGE_MIN, MAX_AGE_MAX, MAX_AGE_DEFAULT),
    };
    let log = Log { format: reading.format(), filter: reading.filter() };
    let allow = reading.allow();
    let push = reading.pushes();
    match (name, reading.document.finish()) {
        (Some(name), Ok(())) => Ok(Config {
            file: file.to_owned(),
            node: Node { name, data_dir, drain },
            listen,
            tls,
            mesh,
            journal,
            log,
            allow,
            push,
        }),
        (_, Err(problems)) => Err(problems),
        (None, Ok(())) => Err(Problems::of(Problem::in_file(file, lacks(&keys::NAME)))),
    }
}

/// What is said where a key has no default.
fn lacks(key: &Key) -> String {
    format!("{key} is missing: it must be {}", key.form)
}

/// A document that is being read.
struct Reading<'a> {
    document: Document<'a>,
    /// What relative paths are relative to.
    base: &'a Path,
}

impl Reading<'_> {
    /// What a value means, or the default where there is none or it was refused.
    fn or<T>(&mut self, key: &Key, default: T, read: impl FnOnce(&Value) -> Option<T>) -> T {
        let Some(value) = self.document.get(key).cloned() else { return default };
        read(&value).unwrap_or_else(|| {
            self.document.refuse_value(key, &value);
            default
        })
    }

    fn name(&mut self) -> Option<NodeName> {
        if self.document.get(&keys::NAME).is_none() {
            let section = self.document.section("node").cloned();
            self.document.lacks(section.as_ref(), lacks(&keys::NAME));
        }
        self.or(&keys::NAME, None, |value| NodeName::new(value.text()?).ok().map(Some))
    }

    fn path(&mut self, key: &Key, default: &str) -> PathBuf {
        let base = self.base;
        self.or(key, base.join(default), |value| {
            value.text().filter(|path| !path.is_empty()).map(|path| base.join(path))
        })
    }

    fn duration(&mut self, key: &Key, min: Duration, max: Duration, default: Duration) -> Duration {
        self.or(key, default, |value| {
            quantity::duration(value.text()?).filter(|read| (min..=max).contains(read))
        })
    }

    fn on_stop(&mut self) -> OnStop {
        self.or(&keys::ON_STOP, OnStop::Stay, |value| match value.text()? {
            "stay" => Some(OnStop::Stay),
            "leave" => Some(OnStop::Leave),
            _ => None,
        })
    }

    fn durability(&mut self) -> Durability {
        self.or(&keys::DURABILITY, Durability::Disk, |value| match value.text()? {
            "disk" => Some(Durability::Disk),
            "memory" => Some(Durability::Memory),
            _ => None,
        })
    }

    /// Whoever names a directory expects something to be kept in it.
    fn data_dir(&mut self, durability: Durability) -> Option<PathBuf> {
        let path = self.path(&keys::DATA_DIR, DATA_DIR_DEFAULT);
        if durability == Durability::Disk {
            return Some(path);
        }
        if let Some(value) = self.document.get(&keys::DATA_DIR).cloned() {
            let message = format!(
                "{} is of no use with {} = \"memory\": nothing is kept there, and each start \
                 begins with an empty journal; remove it, or set durability to \"disk\"",
                keys::DATA_DIR,
                keys::DURABILITY
            );
            self.document.refuse(&value.place, message);
        }
        None
    }

    fn max_bytes(&mut self, durability: Durability) -> u64 {
        let default = match durability {
            Durability::Disk => MAX_BYTES_DEFAULT,
            Durability::Memory => MAX_BYTES_DEFAULT_MEMORY,
        };
        self.or(&keys::MAX_BYTES, default, |value| {
            let allowed = MAX_BYTES_MIN..=MAX_BYTES_MAX;
            quantity::bytes(value.text()?).filter(|read| allowed.contains(read))
        })
    }

    fn local(&mut self) -> PathBuf {
        let path = self.path(&keys::LOCAL, LOCAL_DEFAULT);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_MAX
            && let Some(value) = self.document.get(&keys::LOCAL).cloned()
        {
            let message = format!(
                "{}: {} has {length} bytes, and the path of a unix socket has at most \
                 {SOCKET_PATH_MAX}; choose a shorter one",
                keys::LOCAL,
                path.display()
            );
            self.document.refuse(&value.place, message);
        }
        path
    }

    /// The port is for those who have certificates; without `[tls]` nobody could come.
    fn shared(&mut self) -> Option<SocketAddr> {
        let value = self.document.get(&keys::SHARED).cloned();
        if self.document.section("tls").is_some() {
            return self.or(&keys::SHARED, Some(SHARED_DEFAULT), |value| {
                value.text()?.parse().ok().map(Some)
            });
        }
        if let Some(value) = value {
            let message = format!(
                "{} needs [tls]: only callers with a certificate are let in there; \
                 add [tls], or remove it and serve the local socket only",
                keys::SHARED
            );
            self.document.refuse(&value.place, message);
        }
        None
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let section = self.document.section("tls").cloned()?;
        for key in [&keys::CERT, &keys::KEY, &keys::CA] {
            if self.document.get(key).is_none() {
                self.document.lacks(Some(&section), lacks(key));
            }
        }
        Some(TlsFiles {
            cert: self.path(&keys::CERT, ""),
            key: self.path(&keys::KEY, ""),
            ca: self.path(&keys::CA, ""),
        })
    }

    fn peers(&mut self) -> Vec<String> {
        let Some(value) = self.document.get(&keys::PEERS).cloned() else { return Vec::new() };
        if self.document.section("tls").is_none() {
            let message = format!(
                "{} needs [tls]: members know each other by certificates; add [tls] with cert, \
                 key and ca (`evermesh ca` makes them), or remove it",
                keys::PEERS
            );
            self.document.refuse(&value.place, message);
        }
        let Some(values) = value.list().filter(|values| values.len() <= PEERS_MAX) else {
            self.document.refuse_value(&keys::PEERS, &value);
            return Vec::new();
        };
        let mut peers: Vec<String> = Vec::with_capacity(values.len());
        for value in &values {
            match value.text().and_then(peer).filter(|peer| !peers.contains(peer)) {
                Some(peer) => peers.push(peer),
                None => self.document.refuse_value(&keys::PEERS, value),
            }
        }
        peers
    }

    fn texts(&mut self, key: &Key) -> Vec<String> {
        let Some(value) = self.document.get(key).cloned() else { return Vec::new() };
        self.texts_of(key, &value).unwrap_or_default()
    }

    /// The texts of a list, if each of them is one and says something.
    fn texts_of(&mut self, key: &Key, value: &Value) -> Option<Vec<String>> {
        let Some(values) = value.list() else {
            self.document.refuse_value(key, value);
            return None;
        };
        let texts = values.iter().filter_map(Value::text).filter(|text| !text.is_empty());
        let texts: Vec<_> = texts.map(str::to_owned).collect();
        if texts.len() < values.len() {
            self.document.refuse_value(key, value);
            return None;
        }
        Some(texts)
    }

    fn accounts(&mut self) -> Vec<Account> {
        let Some(value) = self.document.get(&keys::ACCOUNTS).cloned() else { return Vec::new() };
        let Some(values) = value.list() else {
            self.document.refuse_value(&keys::ACCOUNTS, &value);
            return Vec::new();
        };
        let mut accounts = Vec::with_capacity(values.len());
        for value in &values {
            let account = match &value.raw {
                Raw::Text(text) => Some(Account::from(text.as_str())),
                Raw::Integer(number) => number.parse().ok().map(Account::Uid),
                _ => None,
            };
            match account {
                Some(account) => {
                    self.accept(&keys::ACCOUNTS, &value.place, Vec::new(), vec![account.clone()]);
                    accounts.push(account);
                }
                None => self.document.refuse_value(&keys::ACCOUNTS, value),
            }
        }
        // What is wrong with one was said; what is left is that there are too many.
        if self.document.is_whole() {
            self.accept(&keys::ACCOUNTS, &value.place, Vec::new(), accounts.clone());
        }
        accounts
    }

    /// Lets the rules judge what will be given to them, so that their reasons have a place.
    fn accept(&mut self, key: &Key, place: &Place, allow: Vec<Allow>, accounts: Vec<Account>) {
        if let Err(error) = Rules::new(allow, accounts, 0) {
            self.document.refuse(place, format!("{key}: {error}"));
        }
    }

    fn format(&mut self) -> LogFormat {
        self.or(&keys::FORMAT, LogFormat::Text, |value| value.text()?.parse().ok())
    }

    fn filter(&mut self) -> String {
        self.or(&keys::FILTER, FILTER_DEFAULT.to_owned(), |value| {
            let filter = value.text()?;
            EnvFilter::builder().parse(filter).ok().map(|_| filter.to_owned())
        })
    }

    fn allow(&mut self) -> Vec<Allow> {
        let rules = self.document.take_rules(keys::ALLOW);
        let allow: Vec<_> = rules.iter().filter_map(|rule| self.rule(rule)).collect();
        // What is wrong with one was said; what is left is that there are too many.
        if let Some(last) = rules.last().filter(|_| self.document.is_whole()) {
            self.accept(&keys::WHO, &last.place, allow.clone(), Vec::new());
        }
        allow
    }

    fn rule(&mut self, rule: &Rule) -> Option<Allow> {
        let mut required = |key: &Key| {
            let value = self.document.get_in(rule, key).cloned();
            if value.is_none() {
                self.document.lacks(Some(&rule.place), lacks(key));
            }
            value
        };
        let (who, acts) = (required(&keys::WHO), required(&keys::ACTS));
        let sites = self.document.get_in(rule, &keys::SITES).cloned();
        let sites = sites.map_or(Some(Vec::new()), |value| self.sites(&value));
        let acts = acts.and_then(|acts| self.acts(&acts));
        let who = who?;
        let Some(text) = who.text() else {
            self.document.refuse_value(&keys::WHO, &who);
            return None;
        };
        let allow = Allow { who: text.to_owned(), sites: sites?, acts: acts? };
        self.accept(&keys::WHO, &who.place, vec![allow.clone()], Vec::new());
        Some(allow)
    }

    /// The sites, if each of them is one, or `*`.
    fn sites(&mut self, value: &Value) -> Option<Vec<String>> {
        let sites = self.texts_of(&keys::SITES, value)?;
        let wrong =
            sites.iter().filter(|site| *site != "*").find_map(|site| check_site(site).err());
        if let Some(refusal) = wrong {
            self.document.refuse(&value.place, format!("{}: {refusal}", keys::SITES));
            return None;
        }
        Some(sites)
    }

    /// The acts, if each of them is one.
    fn acts(&mut self, value: &Value) -> Option<Vec<Act>> {
        let texts = self.texts_of(&keys::ACTS, value)?;
        let acts: Result<_, _> = texts.iter().map(|text| text.parse::<Act>()).collect();
        acts.map_err(|error| self.document.refuse(&value.place, format!("{}: {error}", keys::ACTS)))
            .ok()
    }
}

/// Where a peer is dialled, in one form: `https://HOST:PORT`.
fn peer(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let (host, port) = (authority.host(), authority.port_u16()?);
    let plain = uri.scheme_str() == Some("https")
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
        && !authority.as_str().contains('@')
        && port != 0;
    plain.then(|| format!("https://{host}:{port}"))
}
