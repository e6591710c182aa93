//! Rule: what meets in one connection is there in one version, or its types do not fit together.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// The packages whose types pass from one library to another.
const ONCE: [&str; 11] = [
    "axum",
    "h2",
    "http",
    "hyper",
    "opentelemetry",
    "prost",
    "rustls",
    "tokio",
    "tonic",
    "tower",
    "tower-http",
];

/// Packages that the lock file has twice, or not at all.
pub(crate) fn findings(lock: &str) -> Vec<String> {
    let lock: Table = match lock.parse() {
        Ok(lock) => lock,
        Err(error) => return vec![format!("Cargo.lock: cannot be read: {error}")],
    };
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key| package.get(key).and_then(Value::as_str).unwrap_or_default();
        versions.entry(text("name")).or_default().push(text("version"));
    }
    let findings = ONCE.into_iter().filter_map(|name| {
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        match found {
            [_] => None,
            [] => Some(format!("Cargo.lock: {name} is gone: take it out of ONCE")),
            _ => Some(format!(
                "Cargo.lock: {name} in versions {}: see `cargo tree -i {name}@VERSION`, and raise \
                 or drop what asks for the odd one",
                found.join(", ")
            )),
        }
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock file with these packages besides one of each.
    fn with(more: &[(&str, &str)]) -> String {
        let all = ONCE.iter().map(|name| (*name, "1.0.0")).chain(more.iter().copied());
        let package =
            |(name, version)| format!("[[package]]\nname = {name:?}\nversion = {version:?}\n");
        all.map(package).collect()
    }

    #[test]
    fn a_second_version_is_refused() {
        let found = findings(&with(&[("http", "0.2.12")]));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("http in versions 1.0.0, 0.2.12"), "{found:?}");
    }

    #[test]
    fn one_of_each_passes_and_none_is_refused() {
        assert_eq!(findings(&with(&[("syn", "1.0.0"), ("syn", "2.0.0")])), [""; 0]);
        assert_eq!(findings("").len(), ONCE.len());
        assert_eq!(findings("[[package").len(), 1);
    }
}
