//! Rule: every file says in its first line what it is, and its name says it too.

use crate::tree::Tree;

/// Names that say nothing: whatever has no place gathers there.
const EMPTY_NAMES: [&str; 7] =
    ["common", "helper", "helpers", "manager", "managers", "util", "utils"];

/// Files that do not say what they are.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let path = &file.path;
        let first = file.text.lines().next().unwrap_or_default();
        if first.strip_prefix("//!").is_none_or(|doc| doc.trim().is_empty()) {
            findings.push(format!("{path}: begins without `//!`: say first what this file is"));
        }
        for part in path.trim_end_matches(".rs").split('/') {
            if is_empty_name(part) {
                findings
                    .push(format!("{path}: `{part}` says nothing: name it by the noun it holds"));
            }
        }
        if path.ends_with("/mod.rs") {
            findings
                .push(format!("{path}: move it to the folder's name with .rs beside the folder"));
        }
        for line in file.text.lines() {
            if let Some(name) = module(line).filter(|name| is_empty_name(name)) {
                findings.push(format!("{path}: `mod {name}` says nothing: name it by its noun"));
            }
        }
    }
    findings
}

/// Whether a name is one of those, alone or at the end. `common_name` is a noun.
fn is_empty_name(name: &str) -> bool {
    EMPTY_NAMES.iter().any(|empty| {
        name.strip_suffix(empty).is_some_and(|before| before.is_empty() || before.ends_with('_'))
    })
}

/// The name of the module that this line declares.
fn module(line: &str) -> Option<&str> {
    let declared = line.trim_start();
    let declared = match declared.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => declared,
    };
    declared.strip_prefix("mod ")?.split([' ', ';', '{']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_its_doc_is_refused() {
        for text in ["", "use a;\n", "#![allow(x)]\n//! A.\n", "//!\n//! A.\n"] {
            let found = findings(&Tree::planted(&[("tests/e2e/a.rs", text)]));
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert!(found[0].starts_with("tests/e2e/a.rs: "), "{found:?}");
        }
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for path in ["crates/a/src/util.rs", "crates/common/src/a.rs", "crates/a/src/b_helpers.rs"]
        {
            assert_eq!(findings(&Tree::planted(&[(path, "//! A.\n")])).len(), 1, "{path}");
        }
        for declared in ["mod utils;", "pub mod manager {", "    pub(crate) mod helper;"] {
            let text = format!("//! A.\n{declared}\n");
            assert_eq!(findings(&Tree::planted(&[("a.rs", &text)])).len(), 1, "{declared}");
        }
        let old = findings(&Tree::planted(&[("crates/a/src/b/mod.rs", "//! A.\n")]));
        assert_eq!(old.len(), 1, "{old:?}");
    }

    #[test]
    fn good_ones_pass() {
        let good = "//! A.\nmod common_name;\npub mod lease;\n// mod util is not declared here\n";
        assert_eq!(findings(&Tree::planted(&[("crates/a/src/common_name.rs", good)])), [""; 0]);
    }
}
