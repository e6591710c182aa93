//! Rule: a document has a title, and the paths that it names exist.

use crate::tree::{self, Tree};

/// Where a path of the repository begins.
const TOPS: [&str; 5] = ["crates/", "proto/", "tests/", "docs/", "deploy/"];

/// Documents that are wrong about the repository.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    found(tree, &tree::exists)
}

/// Documents that are wrong, where this says what exists.
fn found(tree: &Tree, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    let documents = tree.files.iter().filter(|file| {
        file.path == "README.md" || (file.path.starts_with("docs/") && file.path.ends_with(".md"))
    });
    for file in documents {
        if !file.text.starts_with("# ") {
            findings.push(format!("{}: begins without a title: write `# …` first", file.path));
        }
        for (number, named) in paths(&file.text) {
            if !exists(named) {
                let place = format!("{}:{number}", file.path);
                findings
                    .push(format!("{place}: `{named}` does not exist: mend the path or the text"));
            }
        }
    }
    findings
}

/// The paths that are named in code spans, with their lines. Fenced blocks are examples.
fn paths(text: &str) -> Vec<(usize, &str)> {
    let (mut fenced, mut paths) = (false, Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line.split('`').skip(1).step_by(2);
            paths.extend(spans.filter_map(path).map(|path| (index + 1, path)));
        }
    }
    paths
}

/// The path that a code span names: without what follows it, and as far as it is not a pattern.
fn path(span: &str) -> Option<&str> {
    if !TOPS.iter().any(|top| span.starts_with(top)) {
        return None;
    }
    let word = span.split([' ', '#', ':', ',']).next()?;
    let plain = match word.find(['*', '<', '{', '$', '…']) {
        Some(at) => word[..at].rsplit_once('/')?.0,
        None => word,
    };
    Some(plain.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let known = |path: &str| ["docs/a.md", "crates/a/src"].contains(&path);
        found(&Tree::planted(&[("docs/a.md", text)]), &known)
    }

    #[test]
    fn a_document_without_a_title_is_refused() {
        assert_eq!(of("Text.\n").len(), 1);
        assert_eq!(of("## Too low\n").len(), 1);
        assert_eq!(of("# Title\n"), [""; 0]);
    }

    #[test]
    fn a_path_that_is_gone_is_refused() {
        let found = of("# Title\nSee `docs/b.md` and `crates/b/src/lib.rs`.\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/a.md:2: `docs/b.md`"), "{found:?}");
        assert_eq!(of("# T\n`crates/b/*.rs`\n").len(), 1);
        assert_eq!(of("# T\n`crates/gone/`\n").len(), 1);
    }

    #[test]
    fn what_exists_or_is_no_path_passes() {
        let good = "# T\n`docs/a.md#title`, `crates/a/src/`, `crates/a/src/*.rs`, `docs`, `a/b`\n\
                    ```\nls `docs/none`\n```\n";
        assert_eq!(of(good), [""; 0]);
    }
}
