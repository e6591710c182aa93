//! Every key of the configuration, in one table.
//!
//! Reading, suggestions, overrides by the environment and the test of the documented file all come
//! from here; a key that is not here cannot be read.

use std::fmt;

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The section that it stands in.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its value must be, to follow "it must be" in a message.
    pub form: &'static str,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, name, .. } = self;
        if REPEATED.contains(section) {
            write!(f, "[[{section}]] {name}")
        } else {
            write!(f, "[{section}] {name}")
        }
    }
}

/// The sections that may stand several times.
pub(super) const REPEATED: [&str; 2] = [ALLOW, PUSH];
pub(super) const ALLOW: &str = "allow";
pub(super) const PUSH: &str = "push";

const LOCAL_URL: &str =
    "http:// and a port of this machine, such as \"http://127.0.0.1:6081/{key_path}\"";
const METHOD: &str = "a method of HTTP, such as \"PURGE\"";
const HEADERS: &str = "a list of headers, such as [\"Host: shop.example\", \"xkey: {key}\"]";
const PATH: &str = "a path, relative to this file or absolute";

macro_rules! keys {
    ($($constant:ident = $section:literal $name:literal: $form:expr;)*) => {
        $(pub(super) const $constant: Key =
            Key { section: $section, name: $name, form: $form };)*

        /// Every key, in the order of the documented file.
        pub const KEYS: &[Key] = &[$($constant),*];
    };
}

keys! {
    NAME = "node" "name":
        "1 to 63 of a-z, 0-9, `.` and `-`, beginning and ending with a letter or digit";
    DATA_DIR = "node" "data_dir": PATH;
    DRAIN = "node" "drain": "a duration from \"0s\" to \"5m\", such as \"10s\" (ms, s, m, h)";
    SHARED = "listen" "shared":
        "an IP address and a port, such as \"0.0.0.0:7443\" or \"[::]:7443\"";
    LOCAL = "listen" "local": "the path of a unix socket, relative to this file or absolute";
    ACCOUNTS = "listen" "accounts": "a list of user names or numbers, such as [\"www-data\", 33]";
    CERT = "tls" "cert": PATH;
    KEY = "tls" "key": PATH;
    CA = "tls" "ca": PATH;
    PEERS = "mesh" "peers":
        "a list of different https://HOST:PORT, such as [\"https://web-2.internal:7443\"]";
    MEMBER_NAMES = "mesh" "member_names":
        "a list of DNS names, such as [\"*.mesh.internal\"]";
    LEASE = "mesh" "lease": "a duration from \"200ms\" to \"1m\", such as \"2s\" (ms, s, m, h)";
    ADDRESS = "mesh" "address":
        "https://HOST:PORT, such as \"https://web-1.internal:7443\"";
    FORGET_AFTER = "mesh" "forget_after":
        "a duration from \"1m\" to \"8760h\", such as \"24h\" (ms, s, m, h)";
    ON_STOP = "mesh" "on_stop": "\"stay\" or \"leave\"";
    DURABILITY = "journal" "durability": "\"disk\" or \"memory\"";
    MAX_BYTES = "journal" "max_bytes":
        "a size from \"64MiB\" to \"16TiB\", such as \"4GiB\" (KiB, MiB, GiB, TiB)";
    KEEP = "journal" "keep_at_least":
        "a duration from \"0s\" to \"24h\", such as \"10m\" (ms, s, m, h)";
    MAX_AGE = "journal" "max_age":
        "a duration from \"10m\" to \"8760h\", such as \"168h\" (ms, s, m, h)";
    FORMAT = "log" "format": "\"text\" or \"json\"";
    FILTER = "log" "filter":
        "a filter of log lines, such as \"info\" or \"warn,evermesh_peer=debug\"";
    WHO = "allow" "who":
        "an identity in which `*` may stand, such as \"spiffe://mesh.internal/app/shop\"";
    SITES = "allow" "sites": "a list of sites, such as [\"shop\"], or [\"*\"] for all";
    ACTS = "allow" "acts":
        "a list of publish, subscribe, replicate, register, call, observe, operate";
    PUSH_NAME = "push" "name": "1 to 128 bytes of printable ASCII, and no other push's";
    PUSH_SITES = "push" "sites": "a list of sites, such as [\"shop\"]";
    PUSH_TYPES = "push" "types": "a list of types, such as [\"cache.invalidate\"]";
    PUSH_URL = "push" "url": LOCAL_URL;
    PUSH_METHOD = "push" "method": METHOD;
    PUSH_HEADERS = "push" "headers": HEADERS;
    PUSH_BODY = "push" "body": "a text, in which {key} and other places may stand";
    PUSH_MISSED_URL = "push" "missed_url": LOCAL_URL;
    PUSH_MISSED_METHOD = "push" "missed_method": METHOD;
    PUSH_MISSED_HEADERS = "push" "missed_headers": HEADERS;
    PUSH_TIMEOUT = "push" "timeout":
        "a duration from \"100ms\" to \"1m\", such as \"5s\" (ms, s, m, h)";
}

/// The key of this name in this section.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// Whether there is such a section.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section == name)
}

/// For a name that is no section: the nearest one.
pub(super) fn section_like(name: &str) -> String {
    nearest(name, KEYS.iter().map(|key| key.section)).map_or_else(
        || {
            let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
            sections.dedup();
            format!("; there are {}", sections.join(", "))
        },
        |section| format!("; did you mean `{section}`?"),
    )
}

/// For a name that is no key of this section: where it belongs, the nearest one, or all there are.
pub(super) fn key_like(section: Option<&str>, name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("; it belongs to [{}]", key.section);
    }
    let here = KEYS.iter().filter(|key| section.is_none_or(|section| section == key.section));
    if let Some(near) = nearest(name, here.clone().map(|key| key.name)) {
        return format!("; did you mean `{near}`?");
    }
    let Some(section) = section else { return "; keys stand in a section".to_owned() };
    let names: Vec<_> = here.map(|key| key.name).collect();
    format!("; [{section}] has {}", names.join(", "))
}

/// The most similar name, if one is similar at all: a third of the letters may be wrong.
fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    names
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
