//! Rule: every call of the wire stands in the API status, as served or not, and nothing else does.

use std::collections::BTreeMap;

use prost_types::FileDescriptorProto;

/// The page: a table with the columns service, call, status, and what it answers.
pub(crate) const PAGE: &str = "docs/api-status.md";

/// What a status may be.
const SERVED: &str = "served";
const UNIMPLEMENTED: &str = "unimplemented";
/// The reason that a call which is not served must answer with.
const REASON: &str = "NOT_YET";

/// Where the page and the wire differ.
pub(crate) fn findings(page: &str, wire: &[FileDescriptorProto]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for [service, call, status, answer] in table(page) {
        let name = format!("{service}/{call}");
        match status {
            SERVED => {}
            UNIMPLEMENTED if answer.contains(REASON) => {}
            UNIMPLEMENTED => findings.push(format!("{PAGE}: {name}: say that it answers {REASON}")),
            other => findings.push(format!(
                "{PAGE}: {name}: status {other:?}: write {SERVED} or {UNIMPLEMENTED}"
            )),
        }
        *rows.entry(name).or_default() += 1;
    }
    for call in calls(wire) {
        match rows.remove(&call) {
            Some(1) => {}
            Some(_) => findings.push(format!("{PAGE}: {call} stands twice: keep one row")),
            None => findings.push(format!("{PAGE}: {call} is missing: add its row")),
        }
    }
    findings.extend(rows.into_keys().map(|row| format!("{PAGE}: {row} is no call: take it out")));
    findings
}

/// The rows of the page's tables whose first two cells are code.
fn table(page: &str) -> Vec<[&str; 4]> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().strip_prefix('|')?.split('|').map(str::trim).collect();
        let [service, call, status, answer, ..] = cells[..] else { return None };
        Some([unquoted(service)?, unquoted(call)?, status, answer])
    });
    rows.collect()
}

/// What stands in a code span.
fn unquoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// Every call of the wire, as `Service/Call`.
fn calls(wire: &[FileDescriptorProto]) -> Vec<String> {
    let services = wire.iter().flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(|call| format!("{}/{}", service.name(), call.name()))
    });
    calls.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::planted;

    const HEAD: &str = "# API\n\n| service | call | status | answers |\n|---|---|---|---|\n";
    const GET: &str = "| `AService` | `Get` | served | |\n";
    const PUT: &str = "| `AService` | `Put` | unimplemented | reason `NOT_YET` |\n";

    fn of(rows: &[&str]) -> Vec<String> {
        let wire = planted(
            "service AService { rpc Get(M) returns (M); rpc Put(M) returns (M); } message M {}",
        );
        findings(&format!("{HEAD}{}", rows.concat()), &[wire])
    }

    #[test]
    fn a_page_that_agrees_passes() {
        assert_eq!(of(&[GET, PUT]), [""; 0]);
    }

    #[test]
    fn a_page_that_differs_is_refused() {
        for (rows, expected) in [
            (vec![GET], "AService/Put is missing"),
            (vec![GET, GET, PUT], "AService/Get stands twice"),
            (vec![GET, PUT, "| `AService` | `Pop` | served | |\n"], "AService/Pop is no call"),
            (vec![GET, "| `AService` | `Put` | planned | |\n"], "status \"planned\""),
            (vec![GET, "| `AService` | `Put` | unimplemented | |\n"], "say that it answers"),
        ] {
            let found = of(&rows);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }
}
