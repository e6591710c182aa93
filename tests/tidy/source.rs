//! What the rules know of Rust text, as rustfmt leaves it: which lines are tests or comments.

use crate::tree::File;

/// A line of a file: its number from 1, its text, and whether it belongs to a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    pub(crate) test: bool,
}

impl<'a> Line<'a> {
    /// The code of the line: nothing, if it is a comment.
    pub(crate) fn code(self) -> &'a str {
        let text = self.text.trim();
        if text.starts_with("//") { "" } else { text }
    }
}

/// Whether the whole file is for tests: by its folder, or as a test module in its own file.
pub(crate) fn is_test(path: &str) -> bool {
    let mut folders = path.split('/');
    let name = folders.next_back().unwrap_or_default();
    name == "tests.rs" || folders.any(|folder| folder == "tests" || folder == "benches")
}

/// The lines of a file. A module at the left margin under `#[cfg(test)]` is a test to its end.
pub(crate) fn lines(file: &File) -> Vec<Line<'_>> {
    let whole = is_test(&file.path);
    let (mut marked, mut inside) = (false, false);
    let each = file.text.lines().enumerate().map(|(index, text)| {
        if text.starts_with("#[cfg(test)]") {
            marked = true;
        } else if marked && !text.starts_with('#') {
            inside = text.contains("mod ") && text.ends_with('{');
            marked = false;
        }
        let test = whole || marked || inside;
        if inside && text == "}" {
            inside = false;
        }
        Line { number: index + 1, text, test }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests_of(path: &str, text: &str) -> Vec<usize> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        lines(&file).iter().filter(|line| line.test).map(|line| line.number).collect()
    }

    #[test]
    fn test_modules_are_told_from_the_rest() {
        let module = "#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\n";
        let text = format!("//! A.\nfn a() {{}}\n{module}fn c() {{}}\n");
        assert_eq!(tests_of("crates/a/src/a.rs", &text), [3, 4, 5, 6, 7]);
        assert_eq!(tests_of("crates/a/src/a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n"), [1]);
        assert_eq!(tests_of("crates/a/src/a/tests.rs", "//! A.\nfn a() {}\n"), [1, 2]);
        assert_eq!(tests_of("crates/a/tests/a.rs", "//! A.\n"), [1]);
        assert_eq!(tests_of("crates/testkit/src/a.rs", "//! A.\n"), [0; 0]);
    }
}
