//! The tree: every text file of the repository that the rules look at.
//!
//! Build output and what test tools leave behind are no part of it.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that are read.
const FOLDERS: [&str; 4] = ["crates", "proto", "tests", "docs"];
/// The files at the top that are read.
const FILES: [&str; 3] = ["Cargo.toml", "README.md", "build.rs"];
/// The kinds of files that are read.
const KINDS: [&str; 4] = ["rs", "proto", "md", "toml"];
/// Folders that nobody wrote.
const MADE: [&str; 4] = ["target", "node_modules", "__pycache__", ".venv"];

/// A file: its path from the top, with slashes, and its text.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The files, in the order of their paths.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads the repository that this test was built from.
    pub(crate) fn read() -> Self {
        let mut paths: Vec<PathBuf> = FILES.iter().map(|name| root().join(name)).collect();
        paths.retain(|path| path.exists());
        for folder in FOLDERS {
            walk(&root().join(folder), &mut paths);
        }
        paths.sort();
        let files = paths.iter().filter_map(|path| {
            let text = match fs::read_to_string(path) {
                Ok(text) => text,
                // Somebody may be editing beside us; what is gone is not judged.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            Some(File { path, text })
        });
        let tree = Self { files: files.collect() };
        assert!(tree.text("tests/tidy/tree.rs").is_some(), "read the wrong tree: {:?}", root());
        assert!(tree.text("proto/lib.rs").is_some(), "read the wrong tree: {:?}", root());
        tree
    }

    /// A tree for trying a rule.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        Self { files: files.iter().map(file).collect() }
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The manifests of the workspace's packages: path and text. Fuzzing is its own workspace.
    pub(crate) fn manifests(&self) -> Vec<(&str, &str)> {
        let manifest = |file: &&File| {
            let parts: Vec<&str> = file.path.split('/').collect();
            matches!(parts[..], ["Cargo.toml"] | ["crates", _, "Cargo.toml"])
        };
        let files = self.files.iter().filter(manifest);
        files.map(|file| (file.path.as_str(), file.text.as_str())).collect()
    }
}

/// Whether something of this path is in the repository.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// A file at the top.
pub(crate) fn root_file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The top: the manifest of this test's package lies there.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds the files below a folder.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !MADE.iter().any(|made| name == *made) {
                walk(&path, paths);
            }
        } else if path.extension().is_some_and(|kind| KINDS.iter().any(|known| kind == *known)) {
            paths.push(path);
        }
    }
}
