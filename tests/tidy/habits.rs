//! Rule: no test is skipped without a reason, nothing waits by sleeping, no port is fixed in tests.

use crate::source::lines;
use crate::tree::Tree;

/// The files that may sleep, each with what it waits for. A file that stopped sleeping must go.
const SLEEPING: &[(&str, &str)] = &[
    ("crates/client/src/backoff.rs", "backs off between tries to reach a node that is away"),
    (
        "crates/cli/src/commands/demo.rs",
        "asks for states of other processes that nothing announces",
    ),
    (
        "crates/cli/src/commands/drill/course.rs",
        "asks for states of other processes that nothing announces",
    ),
    ("crates/cli/src/commands/drill/hear.rs", "between tries to subscribe at a node that is away"),
    ("crates/cli/src/commands/drill/probe.rs", "the pace of probes"),
    ("crates/cli/src/commands/drill/publish.rs", "the pace of publishers, and between tries"),
    ("crates/cli/src/commands/drill/relay.rs", "between tries to take a port again"),
    ("crates/cli/src/commands/drill/strike.rs", "how long a fault lasts, and when the next begins"),
    ("crates/cli/src/mesh.rs", "asks for states of other processes that nothing announces"),
    ("crates/door/src/push.rs", "backs off between tries to reach a target that is away"),
    ("crates/gate/src/accept.rs", "pauses after a failed accept, which would fail again at once"),
    ("crates/local/src/deliver.rs", "a rejected event is delivered again after a delay"),
    ("crates/peer/src/link.rs", "backs off between tries to reach a node that is away"),
    ("tests/e2e/node.rs", "asks for states of other processes that nothing announces"),
    ("crates/testkit/src/app.rs", "simulated time: between tries"),
    ("crates/testkit/src/app/last_word.rs", "simulated time: between tries"),
    ("crates/testkit/src/app/publisher.rs", "simulated time: a publisher's pace, and tries"),
    ("crates/testkit/src/app/subscriber.rs", "simulated time: a subscriber's pace, and tries"),
    ("crates/testkit/src/node.rs", "simulated time: how long a node stays down"),
];

/// The test files that may name a port, each with why nothing is bound there.
const PORTS_NAMED: &[(&str, &str)] = &[
    ("crates/peer/src/dial.rs", "addresses that are only parsed"),
    ("crates/server/src/config/tests.rs", "addresses that are only parsed"),
];

/// Bad habits.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    found(tree, SLEEPING, PORTS_NAMED)
}

/// Bad habits, with these exceptions.
fn found(tree: &Tree, sleeping: &[(&str, &str)], ports: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    let (mut slept, mut named) = (Vec::new(), Vec::new());
    for file in tree.rust() {
        let path = file.path.as_str();
        for line in lines(file) {
            let (code, place) = (line.code(), format!("{path}:{}", line.number));
            if code.starts_with(concat!("#[ignore", "]")) {
                findings.push(format!("{place}: a bare ignore: say why, in the attribute"));
            }
            if sleeps(code) {
                slept.push(path);
                if !allowed(sleeping, path) {
                    findings.push(format!(
                        "{place}: sleeps: wait for what must happen; for a back-off or a pace, \
                         name the file in SLEEPING of tests/tidy/habits.rs"
                    ));
                }
            }
            if line.test && fixed_port(code) {
                named.push(path);
                if !allowed(ports, path) {
                    findings.push(format!(
                        "{place}: a fixed port: bind port 0 and ask which it became; if it is \
                         never bound, name the file in PORTS_NAMED of tests/tidy/habits.rs"
                    ));
                }
            }
        }
    }
    stale("SLEEPING", sleeping, &slept, &mut findings);
    stale("PORTS_NAMED", ports, &named, &mut findings);
    findings
}

/// Whether a file is excepted.
fn allowed(exceptions: &[(&str, &str)], path: &str) -> bool {
    exceptions.iter().any(|(allowed, _)| *allowed == path)
}

/// Exceptions that nobody needs, or that nobody explained.
fn stale(list: &str, exceptions: &[(&str, &str)], used: &[&str], findings: &mut Vec<String>) {
    for (path, reason) in exceptions {
        if !used.contains(path) {
            findings.push(format!("{list} names {path}, which does not need it: take it out"));
        }
        if reason.trim().is_empty() {
            findings.push(format!("{list} names {path} without a reason: say it"));
        }
    }
}

/// Whether the code sleeps: by a path or an imported name. A method of a clock is its own matter.
fn sleeps(code: &str) -> bool {
    let name = "sleep";
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let called = after.starts_with('(') || after.starts_with("_until(");
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        let path = before.ends_with("thread::") || before.ends_with("time::");
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        (path && (ends || called)) || (whole && called && !before.ends_with("fn "))
    })
}

/// Whether the code names a port other than 0 on this machine.
fn fixed_port(code: &str) -> bool {
    ["127.0.0.1:", "localhost:", "[::1]:"].iter().any(|host| {
        code.match_indices(host).any(|(at, _)| {
            let port = &code[at + host.len()..];
            let digits = port.len() - port.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            port[..digits].parse::<u32>().is_ok_and(|port| port != 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in one line of a test. The bad lines are put together here, or they would be
    /// found in this file.
    fn in_test(code: &str) -> usize {
        found(&Tree::planted(&[("tests/a.rs", &format!("{code}\n"))]), &[], &[]).len()
    }

    #[test]
    fn a_bare_ignore_is_refused() {
        assert_eq!(in_test(concat!("    #[ignore", "]")), 1);
        assert_eq!(in_test(concat!("    #[ignore", " = \"needs root\"]")), 0);
    }

    #[test]
    fn sleeping_is_refused_by_path_and_by_name() {
        for code in [
            concat!("std::thread::sl", "eep(second);"),
            concat!("tokio::time::sl", "eep(second).await;"),
            concat!("time::sl", "eep_until(then).await;"),
            concat!("use tokio::time::sl", "eep;"),
            concat!("    sl", "eep(second).await;"),
        ] {
            assert_eq!(in_test(code), 1, "{code}");
            let inside = format!("fn a() {{\n    {code}\n}}\n");
            let source = Tree::planted(&[("crates/a/src/a.rs", &inside)]);
            assert_eq!(found(&source, &[], &[]).len(), 1, "{code}");
            assert_eq!(found(&source, &[("crates/a/src/a.rs", "backs off")], &[]), [""; 0]);
        }
        for code in [
            concat!("clock.sl", "eep(second).await;"),
            concat!("fn sl", "eep(&self);"),
            concat!("// thread::sl", "eep(second) would be wrong"),
            concat!("let asl", "eep = oversl", "eep(second);"),
        ] {
            assert_eq!(in_test(code), 0, "{code}");
        }
    }

    #[test]
    fn a_fixed_port_is_refused_in_tests_only() {
        for code in
            [concat!("bind(\"127.0.0.1:", "7400\")"), concat!("\"http://localhost:", "80\"")]
        {
            assert_eq!(in_test(code), 1, "{code}");
            let file = ("crates/a/src/a.rs", code);
            assert_eq!(found(&Tree::planted(&[file]), &[], &[]), [""; 0]);
            let named = [("tests/a.rs", "only read, never bound")];
            assert_eq!(found(&Tree::planted(&[("tests/a.rs", code)]), &[], &named), [""; 0]);
        }
        assert_eq!(in_test("bind(\"127.0.0.1:0\")"), 0);
        assert_eq!(in_test("format!(\"127.0.0.1:{port}\")"), 0);
    }

    #[test]
    fn an_exception_that_is_not_needed_or_not_explained_is_refused() {
        let tree = Tree::planted(&[("tests/a.rs", "//! A.\n")]);
        assert_eq!(found(&tree, &[("tests/a.rs", "backs off")], &[]).len(), 1);
        assert_eq!(found(&tree, &[], &[("tests/a.rs", "")]).len(), 2);
    }
}
