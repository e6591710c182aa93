//! Rule: a package depends only on floors below its own, and on the test kit only in its tests.

use toml::{Table, Value};

/// The floors. A new package gets its line here.
const FLOORS: [(&str, u8); 13] = [
    ("evermesh-proto", 0),
    ("evermesh-event", 1),
    ("evermesh-journal", 2),
    ("evermesh-identity", 2),
    ("evermesh-telemetry", 2),
    ("evermesh-door", 3),
    ("evermesh-local", 3),
    ("evermesh-peer", 3),
    ("evermesh-gate", 3),
    ("evermesh-client", 3),
    ("evermesh-server", 4),
    ("evermesh-cli", 5),
    // It may stand on everything that it tests; nothing but tests may stand on it.
    (TESTKIT, 5),
];
/// For tests only.
const TESTKIT: &str = "evermesh-testkit";

/// Arrows that do not go down.
pub(crate) fn findings(manifests: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in manifests {
        let manifest: Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(format!("{path}: cannot be read: {error}"));
                continue;
            }
        };
        let name = manifest.get("package").and_then(|package| package.get("name"));
        let name = name.and_then(Value::as_str).unwrap_or_default();
        let Some(floor) = floor(name) else {
            findings.push(format!("{path}: {name:?} has no floor: add it in tests/tidy/floors.rs"));
            continue;
        };
        for (section, on) in arrows(&manifest) {
            findings.extend(wrong(path, (name, floor), section, &on));
        }
    }
    findings
}

/// The floor of a package.
fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// What is wrong with one arrow.
fn wrong(path: &str, (name, floor): (&str, u8), section: &str, on: &str) -> Option<String> {
    if on == TESTKIT {
        let instead = "the test kit belongs in [dev-dependencies]";
        return (section != "dev-dependencies").then(|| format!("{path}: [{section}]: {instead}"));
    }
    let Some(below) = self::floor(on) else {
        return Some(format!("{path}: {on} has no floor: add it in tests/tidy/floors.rs"));
    };
    (below >= floor).then(|| {
        format!(
            "{path}: [{section}]: {name} (floor {floor}) names {on} (floor {below}): arrows only \
             go down; move what both need to a floor below, or hand it in from above"
        )
    })
}

/// The packages of evermesh that a manifest names, with the kind of section, for every target.
fn arrows(manifest: &Table) -> Vec<(&'static str, String)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables: Vec<&Table> = std::iter::once(manifest)
        .chain(targets.filter_map(|(_, target)| target.as_table()))
        .collect();
    let mut arrows = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let named = tables.iter().filter_map(|table| table.get(section)?.as_table()).flatten();
        let packages = named.map(|(key, value)| {
            // The name in the manifest may be an alias.
            value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
        });
        let ours = packages.filter(|package| package.starts_with("evermesh-"));
        arrows.extend(ours.map(|package| (section, package)));
    }
    arrows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, sections: &str) -> Vec<String> {
        let text = format!("[package]\nname = {name:?}\n{sections}\n");
        findings(&[("crates/a/Cargo.toml", &text)])
    }

    #[test]
    fn an_arrow_up_or_sideways_is_refused_in_every_section() {
        for section in [
            "[dependencies]",
            "[dev-dependencies]",
            "[build-dependencies]",
            "[target.'cfg(unix)'.dependencies]",
        ] {
            for on in ["evermesh-server", "evermesh-peer", "evermesh-local"] {
                let found = of("evermesh-local", &format!("{section}\n{on}.workspace = true"));
                assert_eq!(found.len(), 1, "{section} {on}");
                assert!(found[0].contains(on) && found[0].contains("floor 3"), "{found:?}");
            }
        }
        let alias = "[dependencies]\nx = { package = \"evermesh-cli\", path = \"../cli\" }";
        assert_eq!(of("evermesh-server", alias).len(), 1);
    }

    #[test]
    fn the_test_kit_is_for_tests() {
        let on = "\nevermesh-testkit.workspace = true";
        assert_eq!(of("evermesh-cli", &format!("[dependencies]{on}")).len(), 1);
        assert_eq!(of("evermesh-event", &format!("[dev-dependencies]{on}")), [""; 0]);
    }

    #[test]
    fn a_package_without_a_floor_is_refused() {
        assert_eq!(of("evermesh-new", "").len(), 1);
        assert_eq!(of("evermesh-cli", "[dependencies]\nevermesh-new = \"1\"").len(), 1);
        assert_eq!(findings(&[("Cargo.toml", "[package")]).len(), 1);
    }

    #[test]
    fn arrows_down_pass() {
        let down = "[dependencies]\nevermesh-event.workspace = true\ntokio.workspace = true";
        assert_eq!(of("evermesh-local", down), [""; 0]);
    }
}
