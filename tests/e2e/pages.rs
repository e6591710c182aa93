//! Pages whose code is run as it stands there, and scripts that ask for a kill.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A page of the repository.
pub(crate) fn page(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// Writes the files of a page: fenced blocks whose first line is a comment with the file's name.
/// What people copy is what is run.
pub(crate) fn copy_files(page: &str, into: &Path) -> Vec<String> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let mut names = Vec::new();
    for block in blocks {
        let Some((_, code)) = block.split_once('\n') else { continue };
        let first = code.lines().next().unwrap_or_default();
        let name = first.trim_start_matches(['#', '/', ' ']);
        if first.starts_with(['#', '/']) && name.contains('.') && !name.contains(' ') {
            fs::write(into.join(name), format!("{code}\n")).unwrap();
            names.push(name.to_owned());
        }
    }
    names
}

/// Where a tool is not: fails if everything is required, and says what is not run else.
pub(crate) fn lacks(needs: &str) {
    assert!(std::env::var_os("EVERMESH_REQUIRE").is_none(), "needs {needs}");
    // Past the capture of the test runner, which shows nothing of a test that passes.
    let _ = writeln!(std::io::stderr(), "not run: needs {needs}");
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let text = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(output.status.success(), "{text}");
    text
}

/// Runs a script that prints `kill` where its node is to be killed and started again, and must end
/// with every promise held.
pub(crate) fn promises(command: &mut Command, mut kill: impl FnMut()) {
    let errors = tempfile::tempfile().unwrap();
    let stderr = errors.try_clone().unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let mut last = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        last = line.unwrap();
        if last == "kill" {
            kill();
            child.stdin.as_mut().unwrap().write_all(b"done\n").unwrap();
        }
    }
    let ended = child.wait().unwrap();
    let mut errors = errors;
    let mut said = String::new();
    std::io::Seek::rewind(&mut errors).unwrap();
    std::io::Read::read_to_string(&mut errors, &mut said).unwrap();
    assert!(ended.success() && last == "every promise held", "{last}\n{said}");
}
