//! Rule: every reason that a refusal gives stands in the list of errors, and nothing else does.

use std::collections::BTreeMap;

use crate::source::lines;
use crate::tree::Tree;

/// The page: tables whose first cell is a reason.
pub(crate) const PAGE: &str = "docs/errors.md";

/// Where refusals are made.
const REFUSING: &[&str] = &[
    "crates/door/src/",
    "crates/event/src/",
    "crates/gate/src/",
    "crates/local/src/",
    "crates/peer/src/",
    "crates/server/src/admin/",
];

/// Where the page and the sources differ.
pub(crate) fn findings(tree: &Tree, page: &str) -> Vec<String> {
    let mut given: BTreeMap<&str, String> = BTreeMap::new();
    for file in tree.rust().filter(|file| REFUSING.iter().any(|at| file.path.starts_with(at))) {
        for line in lines(file).into_iter().filter(|line| !line.test) {
            for reason in reasons(line.code()) {
                given.entry(reason).or_insert_with(|| format!("{}:{}", file.path, line.number));
            }
        }
    }
    differences(&given, page)
}

fn differences(given: &BTreeMap<&str, String>, page: &str) -> Vec<String> {
    let listed: Vec<&str> = page.lines().filter_map(listed).collect();
    let missing = given.iter().filter(|(reason, _)| !listed.contains(reason));
    let missing =
        missing.map(|(reason, place)| format!("{PAGE}: {reason} of {place}: add its row"));
    let stale = listed.iter().filter(|reason| !given.contains_key(*reason));
    missing
        .chain(stale.map(|reason| format!("{PAGE}: nothing gives {reason}: take it out")))
        .collect()
}

/// The reason of a row of a table.
fn listed(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("| `")?;
    cell.split('`').next()
}

/// The texts of a line that are reasons: capitals and underscores, in quotes.
fn reasons(code: &str) -> impl Iterator<Item = &str> {
    let quoted = code.split('"').skip(1).step_by(2);
    quoted.filter(|text| {
        let capital = |b: u8| b.is_ascii_uppercase() || b == b'_';
        // A prefix of the wire's enums is none.
        text.len() >= 5 && text.bytes().all(capital) && !text.ends_with('_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_without_a_row_and_a_row_without_a_reason_are_named() {
        let code = r#"Refusal::new(Code::Aborted, "TAKEN_OVER", "a newer link took over")"#;
        assert_eq!(reasons(code).collect::<Vec<_>>(), ["TAKEN_OVER"]);
        let given = BTreeMap::from([("TAKEN_OVER", "a.rs:1".to_owned())]);
        let page = "| Reason | Code |\n|---|---|\n| `TAKEN_OVER` | ABORTED |\n";
        assert!(differences(&given, page).is_empty());
        assert_eq!(differences(&given, "").len(), 1);
        assert_eq!(differences(&BTreeMap::new(), page).len(), 1);
    }
}
