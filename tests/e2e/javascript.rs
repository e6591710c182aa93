//! A Node client that reads the .proto files itself: the promises over both doors, and the code of
//! its page.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::mesh::Mesh;
use crate::pages::{copy_files, lacks, page, promises, repository, succeed};

/// Whether there is a Node, with the packages of `tests/e2e/node_js`.
pub(crate) fn is_there() -> bool {
    let packages = repository().join("tests/e2e/node_js/node_modules/@grpc/grpc-js").exists();
    let node = Command::new("node").arg("--version").output();
    if packages && node.is_ok_and(|output| output.status.success()) {
        return true;
    }
    lacks("node, and `npm ci` in tests/e2e/node_js");
    false
}

/// `node`, where the page's files are, with the packages and the wire beside them.
pub(crate) fn node(directory: &Path) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", repository().join("tests/e2e/node_js/node_modules"));
    command.env("EVERMESH_PROTO", repository().join("proto")).current_dir(directory);
    command
}

/// Writes the page's files.
pub(crate) fn prepare(directory: &Path) {
    let files = copy_files(&page("docs/clients/node.md"), directory);
    assert_eq!(files, ["evermesh.js", "app.js"]);
}

fn hold(nodes: usize, at: impl Fn(&Mesh) -> Vec<String>) {
    if !is_there() {
        return;
    }
    let mut mesh = Mesh::started(nodes);
    prepare(&mesh.path(""));
    let arguments = at(&mesh);
    let said = succeed(node(&mesh.path("")).arg("app.js").args(&arguments));
    let expected = "the price is 10\napplied everywhere: true\nthe price is 12\n";
    assert_eq!(said, expected, "the page's own example");
    let mut script = node(&mesh.path(""));
    script.arg(repository().join("tests/e2e/node_js/promises.js")).args(&arguments);
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
        let at = shared.strip_prefix("https://").unwrap().replace("127.0.0.1", "localhost");
        [at, "ca.pem".into(), "shop.pem".into(), "shop.key".into()].into()
    });
}
