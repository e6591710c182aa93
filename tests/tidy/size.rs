//! Rule: files, functions and lines stay small enough to be read at once.

use crate::source::{Line, lines};
use crate::tree::{File, Tree};

/// The most lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 600;
/// The most lines of a function: a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// The most columns of a line.
const COLUMNS_MAX: usize = 100;

/// What is too big.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let lines = lines(file);
        long_file(file, &lines, &mut findings);
        long_functions(file, &lines, &mut findings);
    }
    for file in &tree.files {
        long_lines(file, &mut findings);
    }
    findings
}

/// A file that is several.
fn long_file(file: &File, lines: &[Line<'_>], findings: &mut Vec<String>) {
    let count = lines.iter().filter(|line| !line.test).count();
    if count > FILE_LINES_MAX {
        let path = &file.path;
        findings
            .push(format!("{path}: {count} lines, at most {FILE_LINES_MAX}: split it by nouns"));
    }
}

/// A function that does not fit a screen. Formatted, it ends with the brace at its own indent.
fn long_functions(file: &File, lines: &[Line<'_>], findings: &mut Vec<String>) {
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function(line.text) else { continue };
        let rest = &lines[index..];
        let opened = rest.iter().position(|line| {
            let code = line.text.split(" // ").next().unwrap_or_default().trim_end();
            code.ends_with('{') || code.ends_with(';') || code.ends_with('}')
        });
        // A declaration without a body, or one on a single line, has nothing to count.
        let Some(opened) = opened.filter(|at| rest[*at].text.contains('{')) else { continue };
        if rest[opened].text.trim_end().ends_with('}') {
            continue;
        }
        let indent = line.text.len() - line.text.trim_start().len();
        let end = format!("{}}}", &line.text[..indent]);
        let closed = rest.iter().position(|line| line.text == end);
        let count = closed.map_or(rest.len(), |at| at + 1);
        if count > FUNCTION_LINES_MAX {
            findings.push(format!(
                "{}:{}: `{name}` has {count} lines, at most {FUNCTION_LINES_MAX}: draw out steps",
                file.path, line.number
            ));
        }
    }
}

/// The name of the function that begins on this line.
fn function(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    loop {
        let (word, rest) = words.split_once(' ')?;
        if word == "fn" {
            return rest.split(['(', '<']).next();
        }
        let before = ["pub", "async", "const", "unsafe", "default", "extern", "\"C\""];
        if !before.contains(&word) && !word.starts_with("pub(") {
            return None;
        }
        words = rest;
    }
}

/// A line that runs out of the window. The comments of `.proto` files are prose of their own.
fn long_lines(file: &File, findings: &mut Vec<String>) {
    let proto = file.path.ends_with(".proto");
    if !proto && !file.path.ends_with(".rs") {
        return;
    }
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !(proto && line.trim_start().starts_with("//")) {
            let place = format!("{}:{}", file.path, index + 1);
            findings.push(format!("{place}: {columns} columns, at most {COLUMNS_MAX}: wrap it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        findings(&Tree::planted(&[(path, text)]))
    }

    #[test]
    fn a_long_file_is_refused_without_its_tests() {
        let code = "// A line.\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // A line.\n".repeat(700));
        assert_eq!(found("crates/a/src/a.rs", &format!("{code}{tests}")), [""; 0]);
        let found = found("crates/a/src/a.rs", &format!("{code}fn a() {{}}\n{tests}"));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("crates/a/src/a.rs: 601 lines"), "{found:?}");
    }

    #[test]
    fn a_long_function_is_refused_however_it_is_declared() {
        let steps = |count| "        step();\n".repeat(count);
        for head in [
            "    fn walk() {\n",
            "    pub(crate) async fn walk<T>(from: T) -> u8 {\n",
            concat!(
                "    pub const fn walk(\n        from: u8,\n    ) -> u8\n",
                "    where\n        u8: Copy,\n    {\n"
            ),
        ] {
            let used = head.lines().count() + 1;
            let long = |count| format!("impl A {{\n{head}{}    }}\n}}\n", steps(count));
            let fits = FUNCTION_LINES_MAX - used;
            assert_eq!(found("crates/a/src/a.rs", &long(fits)), [""; 0], "{head}");
            let found = found("crates/a/src/a.rs", &long(fits + 1));
            assert_eq!(found.len(), 1, "{head}: {found:?}");
            assert!(found[0].contains("a.rs:2: `walk` has 71 lines"), "{found:?}");
        }
    }

    #[test]
    fn what_has_no_body_is_not_counted_into_what_follows() {
        let after = "    // A line.\n".repeat(100);
        for head in
            ["    fn a();\n", "    fn a() {}\n", "    fn a(\n        b: u8,\n    ) -> u8;\n"]
        {
            let text = format!("trait A {{\n{head}{after}}}\n");
            assert_eq!(found("crates/a/src/a.rs", &text), [""; 0], "{head}");
        }
    }

    #[test]
    fn a_long_line_is_refused_except_in_a_wire_comment() {
        let long = "x".repeat(101);
        assert_eq!(found("crates/a/src/a.rs", &format!("// {long}\n")).len(), 1);
        assert_eq!(found("proto/a.proto", &format!("message {long} {{}}\n")).len(), 1);
        assert_eq!(found("proto/a.proto", &format!("  // {long}\n")), [""; 0]);
        assert_eq!(found("docs/a.md", &long), [""; 0]);
        assert_eq!(found("crates/a/src/a.rs", &"ü".repeat(100)), [""; 0]);
    }
}
