//! What a wrong configuration is answered with: the whole text, because operators read the whole
//! text.
//!
//! `DIR` stands for the temporary directory.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::node::{Node, evermesh, failure, run};

const NODE: &str = "[node]\nname = \"web-1\"\n";

/// Exit code 78 and the text of `check` for this configuration.
#[track_caller]
fn refused(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("evermesh.toml"), text).unwrap();
    check(directory.path(), &[])
}

#[track_caller]
fn check(directory: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = evermesh();
    command.envs(variables.iter().copied());
    let config = directory.join("evermesh.toml");
    let (code, text) = failure(command.arg("check").arg("--config").arg(config));
    assert_eq!(code, 78, "{text}");
    text.replace(directory.to_str().unwrap(), "DIR")
}

#[test]
fn an_unknown_key() {
    assert_eq!(
        refused("[node]\nname = \"web-1\"\ndrian = \"10s\"\n"),
        "evermesh: DIR/evermesh.toml, line 3: unknown key `drian` in [node]; did you mean `drain`?
    3 | drian = \"10s\"
      | ^^^^^
"
    );
}

#[test]
fn an_unknown_section() {
    assert_eq!(
        refused(&format!("{NODE}[jornal]\nmax_bytes = \"1GiB\"\n")),
        "evermesh: DIR/evermesh.toml, line 3: unknown section `jornal`; did you mean `journal`?
    3 | [jornal]
      |  ^^^^^^
"
    );
}

#[test]
fn a_key_in_the_wrong_section() {
    assert_eq!(
        refused(&format!("{NODE}lease = \"2s\"\n")),
        "evermesh: DIR/evermesh.toml, line 3: unknown key `lease` in [node]; it belongs to [mesh]
    3 | lease = \"2s\"
      | ^^^^^
"
    );
}

#[test]
fn a_wrong_type() {
    assert_eq!(
        refused(&format!("{NODE}[mesh]\nmember_names = \"*.mesh.internal\"\n")),
        "evermesh: DIR/evermesh.toml, line 4: [mesh] member_names = \"*.mesh.internal\" cannot be \
         used: it must be a list of DNS names, such as [\"*.mesh.internal\"]
    4 | member_names = \"*.mesh.internal\"
      |                ^^^^^^^^^^^^^^^^^
"
    );
}

#[test]
fn a_required_key_that_is_missing() {
    assert_eq!(
        refused("[log]\nformat = \"text\"\n"),
        "evermesh: DIR/evermesh.toml: [node] name is missing: it must be 1 to 63 of a-z, 0-9, `.` \
         and `-`, beginning and ending with a letter or digit\n"
    );
}

#[test]
fn a_bad_name() {
    assert_eq!(
        refused("[node]\nname = \"Web 1\"\n"),
        "evermesh: DIR/evermesh.toml, line 2: [node] name = \"Web 1\" cannot be used: it must be 1 \
         to 63 of a-z, 0-9, `.` and `-`, beginning and ending with a letter or digit
    2 | name = \"Web 1\"
      |        ^^^^^^^
"
    );
}

#[test]
fn a_bad_duration_and_a_bad_size_at_once() {
    assert_eq!(
        refused(&format!("{NODE}drain = \"10\"\n[journal]\nmax_bytes = \"4GB\"\n")),
        "evermesh: DIR/evermesh.toml, line 3: [node] drain = \"10\" cannot be used: it must be a \
         duration from \"0s\" to \"5m\", such as \"10s\" (ms, s, m, h)
    3 | drain = \"10\"
      |         ^^^^
DIR/evermesh.toml, line 5: [journal] max_bytes = \"4GB\" cannot be used: it must be a size from \
         \"64MiB\" to \"16TiB\", such as \"4GiB\" (KiB, MiB, GiB, TiB)
    5 | max_bytes = \"4GB\"
      |             ^^^^^
"
    );
}

#[test]
fn a_bad_peer_without_certificates() {
    assert_eq!(
        refused(&format!("{NODE}[mesh]\npeers = [\"web-2:7443\"]\n")),
        "evermesh: DIR/evermesh.toml, line 4: [mesh] peers needs [tls]: members know each other by \
         certificates; add [tls] with cert, key and ca (`evermesh ca` makes them), or remove it
    4 | peers = [\"web-2:7443\"]
      |         ^^^^^^^^^^^^^^
DIR/evermesh.toml, line 4: [mesh] peers = \"web-2:7443\" cannot be used: it must be a list of \
         different https://HOST:PORT, such as [\"https://web-2.internal:7443\"]
    4 | peers = [\"web-2:7443\"]
      |          ^^^^^^^^^^^^
"
    );
}

#[test]
fn a_shared_port_without_certificates() {
    assert_eq!(
        refused(&format!("{NODE}[listen]\nshared = \"0.0.0.0:7443\"\n")),
        "evermesh: DIR/evermesh.toml, line 4: [listen] shared needs [tls]: only callers with a \
         certificate are let in there; add [tls], or remove it and serve the local socket only
    4 | shared = \"0.0.0.0:7443\"
      |          ^^^^^^^^^^^^^^
"
    );
}

#[test]
fn a_socket_path_that_is_too_long() {
    let long = "x".repeat(120);
    assert_eq!(
        refused(&format!("{NODE}[listen]\nlocal = \"/{long}\"\n")),
        format!(
            "evermesh: DIR/evermesh.toml, line 4: [listen] local: /{long} has 121 bytes, and the \
             path of a unix socket has at most 107; choose a shorter one
    4 | local = \"/{}
      |         {}
",
            "x".repeat(110),
            "^".repeat(112)
        )
    );
}

#[test]
fn an_unknown_account_and_a_rule_for_nobody() {
    let text = format!(
        "{NODE}[listen]\naccounts = [\"no-such-user\"]\n[[allow]]\nwho = \"shop\"\n\
         acts = [\"publish\"]\n"
    );
    assert_eq!(
        refused(&text),
        "evermesh: DIR/evermesh.toml, line 4: [listen] accounts: account `no-such-user` is unknown \
         on this machine; name an existing user, or give its number
    4 | accounts = [\"no-such-user\"]
      |             ^^^^^^^^^^^^^^
DIR/evermesh.toml, line 6: [[allow]] who: the allow rule for `shop` matches nobody: identities are \
         spiffe://…, dns:… and local:…
    6 | who = \"shop\"
      |       ^^^^^^
"
    );
}

#[test]
fn a_file_that_is_no_toml() {
    assert_eq!(
        refused("[node]\nname = web-1\n"),
        "evermesh: DIR/evermesh.toml, line 2: string values must be quoted, expected literal string
    2 | name = web-1
      |        ^^^^^
"
    );
}

#[test]
fn a_file_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        check(directory.path(), &[]),
        "evermesh: cannot read the configuration DIR/evermesh.toml: No such file or directory (os \
         error 2); name another with --config\n"
    );
}

#[test]
fn a_variable() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("evermesh.toml"), NODE).unwrap();
    assert_eq!(
        check(directory.path(), &[("EVERMESH_MESH__LEASE", "soon")]),
        "evermesh: environment variable EVERMESH_MESH__LEASE: \"soon\" cannot be used for [mesh] \
         lease: it must be a duration from \"200ms\" to \"1m\", such as \"2s\" (ms, s, m, h)\n"
    );
    assert_eq!(
        check(directory.path(), &[("EVERMESH_MESH__LEAES", "2s")]),
        "evermesh: environment variable EVERMESH_MESH__LEAES: unknown key `leaes` in [mesh]; did \
         you mean `lease`?\n"
    );
}

/// An authority and a certificate for `web-1`, and the configuration that names them.
fn with_certificate(directory: &Path, name: &str) {
    let ca = directory.join("ca");
    let ca = ca.to_str().unwrap();
    for arguments in [
        &["ca", "init", "--dir", ca, "--trust-domain", "mesh.internal"][..],
        &["ca", "issue", "--dir", ca, "--node", "web-1", "--out", directory.to_str().unwrap()][..],
    ] {
        let made = run(evermesh().args(arguments));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let text = format!(
        "[node]\nname = \"{name}\"\ndata_dir = \"data\"\n[listen]\nlocal = \"node.sock\"\n\
         [tls]\ncert = \"web-1.pem\"\nkey = \"web-1.key\"\nca = \"ca.pem\"\n"
    );
    fs::write(directory.join("evermesh.toml"), text).unwrap();
}

#[test]
fn a_valid_one_is_described() {
    let directory = tempfile::tempdir().unwrap();
    with_certificate(directory.path(), "web-1");
    let config = directory.path().join("evermesh.toml");
    let checked = run(evermesh().arg("check").arg("--config").arg(config));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = String::from_utf8(checked.stdout).unwrap();
    let text = text.replace(directory.path().to_str().unwrap(), "DIR");
    let (before, rest) = text.split_once(", until 20").unwrap();
    assert_eq!(
        before,
        "DIR/evermesh.toml is valid\n  node     web-1, data in DIR/data\n  local    DIR/node.sock\n\
         \x20 shared   0.0.0.0:7443\n  tls      spiffe://mesh.internal/node/web-1"
    );
    let (_, after) = rest.split_once('\n').unwrap();
    assert_eq!(
        after,
        "  peers    none\n  journal  at most 4096 MiB\n  log      text, info\n  \
         rules    0, besides the defaults\n"
    );
}

#[test]
fn a_certificate_of_another_node() {
    let directory = tempfile::tempdir().unwrap();
    with_certificate(directory.path(), "web-2");
    assert_eq!(
        check(directory.path(), &[]),
        "evermesh: certificate DIR/web-1.pem is for the node `web-1`, but [node] name is `web-2`; \
         use the certificate of `web-2`, or change the name\n"
    );
}

#[test]
fn a_key_that_others_may_read() {
    let directory = tempfile::tempdir().unwrap();
    with_certificate(directory.path(), "web-1");
    let key = directory.path().join("web-1.key");
    fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        check(directory.path(), &[]),
        "evermesh: key file DIR/web-1.key has mode 0644, so others than its owner may use it; run \
         `chmod 600 DIR/web-1.key`\n"
    );
}

#[test]
fn a_certificate_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    with_certificate(directory.path(), "web-1");
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    assert_eq!(
        check(directory.path(), &[]),
        "evermesh: cannot read DIR/ca.pem: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_port_in_use() {
    let directory = tempfile::tempdir().unwrap();
    with_certificate(directory.path(), "web-1");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let mut serve = evermesh();
    serve.arg("serve").arg("--config").arg(directory.path().join("evermesh.toml"));
    let (code, text) = failure(serve.env("EVERMESH_LISTEN__SHARED", &address));
    assert_eq!(code, 69, "{text}");
    let expected = format!(
        "evermesh: cannot listen on {address} ([listen] shared): another process listens there; \
         stop it (`ss -ltnp` names it), or choose another port\n"
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn what_stands_at_the_path_of_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::new(directory.path(), "web-1", "");
    fs::write(node.socket(), "precious").unwrap();
    let (code, text) = failure(&mut node.serve());
    assert_eq!(code, 73, "{text}");
    let expected = format!(
        "evermesh: {} ([listen] local) is there already and no socket; evermesh leaves it as it \
         is, so remove it or choose another path\n",
        node.socket().display()
    );
    assert!(text.ends_with(&expected), "{text}");
    assert_eq!(fs::read_to_string(node.socket()).unwrap(), "precious");
}

#[test]
fn wrong_usage() {
    let (code, text) = failure(evermesh().args(["serve", "--confg", "x"]));
    assert_eq!(code, 64);
    assert!(text.starts_with("evermesh: unexpected argument '--confg' found"), "{text}");
    let (code, text) = failure(evermesh().args(["health", "--at", "web-1:7443"]));
    assert_eq!(code, 64);
    assert!(text.starts_with("evermesh: --at web-1:7443: "), "{text}");
}
