//! A Python client, generated from the .proto files by grpcio-tools: the promises over both doors,
//! and the example of the README.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mesh::Mesh;

/// A Python with grpcio and grpcio-tools. `EVERMESH_PYTHON` names it.
fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("EVERMESH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let there =
        Command::new(&python).args(["-c", "import grpc_tools, grpc, grpc_reflection"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let needs =
        "python3 with grpcio, grpcio-tools and grpcio-reflection (EVERMESH_PYTHON names it)";
    assert!(std::env::var_os("EVERMESH_REQUIRE").is_none(), "needs {needs}");
    // Past the capture of the test runner, which shows nothing of a test that passes.
    let _ = writeln!(std::io::stderr(), "not run: needs {needs}");
    None
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let text = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(output.status.success(), "{text}");
    text
}

/// What the README says to do before the first line of Python.
fn generate(python: &Path, into: &Path) {
    let proto = repository().join("proto");
    let files = fs::read_dir(proto.join("evermesh/v1")).unwrap();
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    command.args(["--python_out=.", "--grpc_python_out=."]).current_dir(into);
    command.args(files.map(|file| file.unwrap().path()));
    succeed(&mut command);
}

#[test]
fn the_promises_hold_over_the_socket_and_over_mutual_tls() {
    let Some(python) = python() else { return };
    let mesh = Mesh::started(2);
    generate(&python, &mesh.path(""));
    let script = repository().join("tests/e2e/python/promises.py");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(&script).args(arguments).current_dir(mesh.path(""));
        succeed(command.env("PYTHONPATH", mesh.path("")))
    };
    assert!(run(&[&mesh.nodes[0].at()]).contains("every promise held"));
    let shared = mesh.shared(1);
    let shared = shared.strip_prefix("https://").unwrap();
    assert!(run(&[shared, "ca.pem", "shop.pem", "shop.key"]).contains("every promise held"));
}

#[test]
fn the_example_of_the_readme_runs() {
    let Some(python) = python() else { return };
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, example) = readme.split_once("```python\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    assert!(example.lines().count() <= 30, "it is meant to be short");
    let mesh = Mesh::started(1);
    generate(&python, &mesh.path(""));
    let mut command = Command::new(&python);
    command.args(["-c", example, &mesh.nodes[0].at()]).current_dir(mesh.path(""));
    let said = succeed(&mut command);
    assert!(said.contains("listening at web-1") && said.contains("drop product:42"), "{said}");
}
