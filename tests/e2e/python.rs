//! A Python client, generated from the .proto files by grpcio-tools: the promises over both doors,
//! the code of its page, and the example of the README.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::mesh::Mesh;
use crate::pages::{copy_files, lacks, page, promises, repository, succeed};

/// A Python with grpcio and grpcio-tools. `EVERMESH_PYTHON` names it.
pub(crate) fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("EVERMESH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let there =
        Command::new(&python).args(["-c", "import grpc_tools, grpc, grpc_reflection"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    lacks("python3 with grpcio, grpcio-tools and grpcio-reflection (EVERMESH_PYTHON names it)");
    None
}

/// What the page says to do before the first line of Python.
pub(crate) fn generate(python: &Path, into: &Path) {
    let proto = repository().join("proto");
    let files = std::fs::read_dir(proto.join("evermesh/v1")).unwrap();
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    command.args(["--python_out=.", "--grpc_python_out=."]).current_dir(into);
    command.args(files.map(|file| file.unwrap().path()));
    succeed(&mut command);
}

/// A mesh whose directory is as the page leaves it.
fn mesh(python: &Path, nodes: usize) -> Mesh {
    let mesh = Mesh::started(nodes);
    generate(python, &mesh.path(""));
    let files = copy_files(&page("docs/clients/python.md"), &mesh.path(""));
    assert_eq!(files, ["evermesh_cache.py", "app.py"]);
    mesh
}

fn command(python: &Path, mesh: &Mesh, script: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(script).args(arguments).current_dir(mesh.path(""));
    command.env("PYTHONPATH", mesh.path(""));
    command
}

fn hold(nodes: usize, at: impl Fn(&Mesh) -> Vec<String>) {
    let Some(python) = python() else { return };
    let mut mesh = mesh(&python, nodes);
    let arguments = at(&mesh);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let said = succeed(&mut command(&python, &mesh, &mesh.path("app.py"), &arguments));
    let expected = "the price is 10\napplied everywhere: True\nthe price is 12\n";
    assert_eq!(said, expected, "the page's own example");
    let script = repository().join("tests/e2e/python/promises.py");
    let mut script = command(&python, &mesh, &script, &arguments);
    promises(&mut script, || {
        mesh.nodes[0].end(Signal::KILL);
        mesh.nodes[0].start();
    });
}

#[test]
fn the_promises_hold_over_the_socket() {
    hold(1, |mesh| vec![mesh.nodes[0].at()]);
}

#[test]
fn the_promises_hold_over_mutual_tls() {
    hold(2, |mesh| {
        let shared = mesh.shared(0);
        let at = shared.strip_prefix("https://").unwrap().to_owned();
        [at, "ca.pem".into(), "shop.pem".into(), "shop.key".into()].into()
    });
}

#[test]
fn the_example_of_the_readme_runs() {
    let Some(python) = python() else { return };
    let readme = page("README.md");
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
