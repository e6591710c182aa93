//! Tests of the configuration: the documented file and the code say the same, and every mistake is
//! named with its place.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use super::*;

/// The file that documents every option.
const DOCUMENTED: &str = include_str!("../../../../deploy/config/evermesh.toml");

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("/etc/evermesh/evermesh.toml"), &Environment::default())
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let environment = Environment::new(variables.iter().copied());
    Config::parse(text, Path::new("/etc/evermesh/evermesh.toml"), &environment)
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The documented file with every option taken out of its comment.
fn uncommented() -> String {
    let is_option = |line: &&str| {
        let name = line.split(" = ").next().unwrap_or_default();
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (named && line.contains(" = ")) || (line.starts_with('[') && line.ends_with(']'))
    };
    let bare = |line: &'static str| match line.strip_prefix("# ").filter(is_option) {
        Some(option) => option,
        None => line,
    };
    DOCUMENTED.lines().map(bare).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documented_file_is_valid_as_it_is() {
    let config = parse(DOCUMENTED).unwrap();
    assert_eq!(config.node.name.as_str(), "web-1");
    assert!(config.tls.is_none() && config.listen.shared.is_none());
}

#[test]
fn the_documented_file_has_every_key_and_no_other() {
    let text = uncommented();
    parse(&text).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut documented = BTreeSet::new();
    for (section, content) in &table {
        let content = content.as_array().map_or(content, |rules| &rules[0]);
        documented
            .extend(content.as_table().unwrap().keys().map(|key| (section.clone(), key.clone())));
    }
    let known = KEYS.iter().map(|key| (key.section.to_owned(), key.name.to_owned()));
    assert_eq!(documented, known.collect());
}

#[test]
fn the_documented_values_are_the_defaults() {
    let (written, default) = (parse(&uncommented()).unwrap(), parse(DOCUMENTED).unwrap());
    assert_eq!(written.node.data_dir, default.node.data_dir);
    assert_eq!(written.node.drain, default.node.drain);
    assert_eq!(written.listen.local, default.listen.local);
    assert_eq!(written.mesh.lease, default.mesh.lease);
    assert_eq!(written.journal.durability, default.journal.durability);
    assert_eq!(written.journal.max_bytes, default.journal.max_bytes);
    assert_eq!(written.journal.keep_at_least, default.journal.keep_at_least);
    assert_eq!(written.journal.max_age, default.journal.max_age);
    assert_eq!(written.log.format, default.log.format);
    assert_eq!(written.log.filter, default.log.filter);
    let with_tls = parse(&format!("{DOCUMENTED}\n{TLS}")).unwrap();
    assert_eq!(written.listen.shared, with_tls.listen.shared);
    assert_eq!(written.tls.unwrap().cert, Path::new("/etc/evermesh/web-1.pem"));
    assert_eq!(written.mesh.peers.len(), 2);
    assert_eq!(written.allow.len(), 1);
}

#[test]
fn memory_mode_takes_little_and_has_no_directory() {
    let memory = |more: &str| parse(&format!("[node]\nname = \"a\"\n[journal]\n{more}")).unwrap();
    let config = memory("durability = \"memory\"");
    assert_eq!(config.journal.durability, Durability::Memory);
    assert_eq!((config.node.data_dir, config.journal.max_bytes), (None, 64 << 20));
    let config = memory("durability = \"memory\"\nmax_bytes = \"1GiB\"");
    assert_eq!(config.journal.max_bytes, 1 << 30);
    let config = memory("durability = \"disk\"");
    assert_eq!(config.journal.durability, Durability::Disk);
    assert!(config.node.data_dir.is_some());
}

#[test]
fn a_directory_in_memory_mode_is_refused_where_it_stands() {
    let file = "[node]\nname = \"a\"\ndata_dir = \"data\"\n[journal]\ndurability = \"memory\"\n";
    let refused = refused(file);
    let wanted = "[node] data_dir is of no use with [journal] durability = \"memory\": nothing is \
                  kept there";
    assert!(refused.contains(wanted) && refused.contains("line 3"), "{refused}");
    let variable = [("EVERMESH_JOURNAL__DURABILITY", "memory")];
    let other = file.replace("memory", "disk");
    assert!(parse_with(&other, &variable).unwrap_err().to_string().contains(wanted));
}

#[test]
fn every_key_is_read() {
    for key in KEYS {
        let whole = "[node]\nname = \"a\"\n[tls]\ncert = \"a\"\nkey = \"b\"\nca = \"c\"\n";
        let rule = "[[allow]]\nwho = \"*\"\nacts = [\"observe\"]\n";
        let push = "[[push]]\nname = \"v\"\nurl = \"http://[::1]:1\"\nmethod = \"PURGE\"\n\
                    missed_url = \"http://localhost:1/\"\nmissed_method = \"BAN\"\n";
        let mut table: toml::Table = format!("{whole}{rule}{push}").parse().unwrap();
        let nonsense = toml::Value::Boolean(true);
        match key.section {
            "allow" | "push" => {
                let rule = table[key.section].as_array_mut().unwrap()[0].as_table_mut().unwrap();
                rule.insert(key.name.to_owned(), nonsense);
            }
            section => {
                let section = table
                    .entry(section)
                    .or_insert_with(|| toml::Value::Table(toml::Table::default()));
                section.as_table_mut().unwrap().insert(key.name.to_owned(), nonsense);
            }
        }
        let text = written(&table);
        let refused = refused(&text);
        let wanted = format!("{key} = true cannot be used: it must be {}", key.form);
        assert!(refused.contains(&wanted), "{key}: {refused}");
        assert_eq!(refused.matches(", line").count(), 1, "{refused}");
    }
}

/// A table as TOML; the crate is here without its writing half.
fn written(table: &toml::Table) -> String {
    let mut text = String::new();
    for (section, content) in table {
        let (head, content) = match content.as_array() {
            Some(rules) => (format!("[[{section}]]\n"), &rules[0]),
            None => (format!("[{section}]\n"), content),
        };
        text.push_str(&head);
        for (key, value) in content.as_table().unwrap() {
            let value = match value {
                toml::Value::Array(values) => {
                    let values: Vec<_> = values.iter().map(|v| v.as_str().unwrap()).collect();
                    format!("{values:?}")
                }
                toml::Value::String(value) => format!("{value:?}"),
                other => format!("{}", other.as_bool().unwrap()),
            };
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

#[test]
fn the_environment_stands_over_the_file() {
    let tls = [
        ("EVERMESH_TLS__CERT", "/tls/a.pem"),
        ("EVERMESH_TLS__KEY", "a.key"),
        ("EVERMESH_TLS__CA", "/tls/ca.pem"),
    ];
    let others = [
        ("EVERMESH_NODE__NAME", "web-9"),
        ("EVERMESH_MESH__PEERS", "https://a:1, https://b:2"),
        ("EVERMESH_LISTEN__ACCOUNTS", "root,33"),
        ("EVERMESH_NODE__DRAIN", ""),
        ("EVERMESH_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let config =
        parse_with("[node]\nname = \"web-1\"\ndrain = \"3s\"", &[&tls[..], &others].concat());
    let config = config.unwrap();
    assert_eq!(config.node.name.as_str(), "web-9");
    assert_eq!(config.mesh.peers, ["https://a:1", "https://b:2"]);
    assert_eq!(config.listen.accounts, [Account::User("root".to_owned()), Account::Uid(33)]);
    assert_eq!(config.node.drain, Duration::from_secs(3), "an empty variable is not set");
    assert_eq!(config.tls.unwrap().key, Path::new("/etc/evermesh/a.key"));
    let alone = parse_with("", &[("EVERMESH_NODE__NAME", "web-1")]);
    assert_eq!(alone.unwrap().node.name.as_str(), "web-1");
}

#[test]
fn a_variable_is_named_in_what_is_wrong_with_it() {
    let file = "[node]\nname = \"web-1\"";
    let refused = |name, value| parse_with(file, &[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        refused("EVERMESH_NODE__DRAIN", "soon"),
        "environment variable EVERMESH_NODE__DRAIN: \"soon\" cannot be used for [node] drain: it \
         must be a duration from \"0s\" to \"5m\", such as \"10s\" (ms, s, m, h)"
    );
    assert_eq!(
        refused("EVERMESH_NODE__NMAE", "x"),
        "environment variable EVERMESH_NODE__NMAE: unknown key `nmae` in [node]; did you mean \
         `name`?"
    );
    assert_eq!(
        refused("EVERMESH_NOD__NAME", "x"),
        "environment variable EVERMESH_NOD__NAME: unknown section `nod`; did you mean `node`?"
    );
    assert_eq!(
        refused("EVERMESH_ALLOW__WHO", "x"),
        "environment variable EVERMESH_ALLOW__WHO: rules cannot come from the environment: write \
         [[allow]] in the file"
    );
}

#[test]
fn a_problem_is_shown_where_it_is() {
    assert_eq!(
        refused("[node]\nnmae = \"web-1\"\nname = \"web-1\""),
        "/etc/evermesh/evermesh.toml, line 2: unknown key `nmae` in [node]; did you mean `name`?\n\
         \x20   2 | nmae = \"web-1\"\n      | ^^^^"
    );
    assert_eq!(
        refused("[node]\n\tname = \"Wéb 1\""),
        "/etc/evermesh/evermesh.toml, line 2: [node] name = \"Wéb 1\" cannot be used: it must be 1 \
         to 63 of a-z, 0-9, `.` and `-`, beginning and ending with a letter or digit\n\
         \x20   2 |  name = \"Wéb 1\"\n      |         ^^^^^^^"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "[node]\nname = 3\ndrain = \"1x\"\n[lisen]\n[mesh]\npeers = [\"https://a:1\"]\n";
    let problems = parse(text).unwrap_err();
    assert_eq!(problems.iter().count(), 4, "{problems}");
}

/// The first line of what is refused, without the file.
fn first(text: &str) -> String {
    let refused = refused(text);
    let line = refused.lines().next().unwrap();
    line.strip_prefix("/etc/evermesh/evermesh.toml").unwrap().to_owned()
}

const NODE: &str = "[node]\nname = \"web-1\"\n";
const TLS: &str = "[tls]\ncert = \"a\"\nkey = \"b\"\nca = \"c\"\n";

#[test]
fn what_is_missing_or_misplaced_is_said() {
    assert!(first("").starts_with(": [node] name is missing: it must be 1 to 63"));
    assert!(first("[node]").starts_with(", line 1: [node] name is missing"));
    let table = [
        ("[tls]\ncert = \"a\"\nca = \"c\"", ", line 3: [tls] key is missing: it must be a path"),
        ("[mesh]\npeers = [\"https://a:1\"]", ", line 4: [mesh] peers needs [tls]: members know"),
        ("[listen]\nshared = \"0.0.0.0:1\"", ", line 4: [listen] shared needs [tls]: only callers"),
        ("[mesh]\ndrain = \"1s\"", ", line 4: unknown key `drain` in [mesh]; it belongs to [node]"),
        ("[mash]\nx = 1", ", line 3: unknown section `mash`; did you mean `mesh`?"),
        ("[metrics]", ", line 3: unknown section `metrics`; there are node, listen, tls, mesh, "),
        ("[mesh]\nq = 1", ", line 4: unknown key `q` in [mesh]; [mesh] has peers, member_names, l"),
        ("[[mesh]]", ", line 3: `mesh` is a section: write [mesh], once"),
        ("[allow]\nwho = \"*\"", ", line 3: `allow` may stand several times: write [[allow]], wit"),
        ("[[allow]]\nwho = \"*\"", ", line 3: [[allow]] acts is missing: it must be a list of pub"),
        ("[node]", ", line 3: duplicate key"),
        ("name =", ", line 3: string values must be quoted"),
    ];
    for (text, wanted) in table {
        let first = first(&format!("{NODE}{text}"));
        assert!(first.starts_with(wanted), "{text}: {first}");
    }
    assert!(first("name = 1").starts_with(", line 1: unknown key `name`; it belongs to [node]"));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let table = [
        ("[node]\nname = \"a\"\ndrain = \"6m\"", ", line 3: [node] drain = \"6m\" cannot be used"),
        ("[mesh]\nlease = \"100ms\"", ", line 4: [mesh] lease = \"100ms\" cannot be used: it must"),
        ("[journal]\nmax_bytes = \"1GB\"", ", line 4: [journal] max_bytes = \"1GB\" cannot be use"),
        ("[journal]\nmax_bytes = \"1MiB\"", ", line 4: [journal] max_bytes = \"1MiB\" cannot be u"),
        ("[log]\nformat = \"xml\"", ", line 4: [log] format = \"xml\" cannot be used: it must be "),
        ("[log]\nfilter = \"a=b=c\"", ", line 4: [log] filter = \"a=b=c\" cannot be used"),
        ("[listen]\nlocal = \"\"", ", line 4: [listen] local = \"\" cannot be used: it must be th"),
        ("[listen]\naccounts = [\"nobody-here\"]", ", line 4: [listen] accounts: account `nobody-"),
        ("[listen]\naccounts = [-1]", ", line 4: [listen] accounts = -1 cannot be used"),
        ("[[allow]]\nwho = \"web\"\nacts = [\"call\"]", ", line 4: [[allow]] who: the allow rule "),
        ("[[allow]]\nwho = \"*\"\nacts = [\"fly\"]", ", line 5: [[allow]] acts: `fly` is not an "),
        (
            "[[allow]]\nwho = \"*\"\nacts = []",
            ", line 4: [[allow]] who: the allow rule for `*` all",
        ),
        (
            "[[allow]]\nwho = \"*\"\nacts = [\"publish\"]\nsites = [\"Ä\"]",
            ", line 6: [[allow]] sites: site: ",
        ),
    ];
    for (text, wanted) in table {
        let text =
            if text.starts_with("[node]") { text.to_owned() } else { format!("{NODE}{text}") };
        let refused = refused(&text);
        assert!(first(&text).starts_with(wanted), "{text}: {refused}");
        assert_eq!(refused.matches(", line").count(), 1, "{refused}");
    }
    let long = format!("{NODE}[listen]\nlocal = \"/{}\"", "x".repeat(107));
    assert!(first(&long).contains("has 108 bytes, and the path of a unix socket has at most 107"));
    assert!(parse(&format!("{NODE}[listen]\nlocal = \"/{}\"", "x".repeat(106))).is_ok());
}

#[test]
fn peers_are_addresses_and_nothing_more() {
    let with = |peer: &str| parse(&format!("{NODE}{TLS}[mesh]\npeers = [{peer:?}]"));
    for good in ["https://web-2:7443", "https://10.0.0.2:1/", "https://[fd00::1]:7443"] {
        assert_eq!(with(good).unwrap().mesh.peers, [good.trim_end_matches('/')]);
    }
    let bad = [
        "web-2:7443",
        "http://web-2:7443",
        "https://web-2",
        "https://web-2:0",
        "https://web-2:7443/path",
        "https://web-2:7443?x",
        "https://u@web-2:7443",
        "",
    ];
    for bad in bad {
        let refused = with(bad).unwrap_err().to_string();
        assert!(refused.contains("line 8: [mesh] peers = "), "{bad}: {refused}");
    }
    let twice = format!("{NODE}{TLS}[mesh]\npeers = [\"https://a:1\", \"https://a:1/\"]");
    assert!(first(&twice).contains("a list of different https://HOST:PORT"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let load = |path: &str| Config::load(Path::new(path), &Environment::default());
    assert_eq!(
        load("/nowhere/evermesh.toml").unwrap_err().to_string(),
        "cannot read the configuration /nowhere/evermesh.toml: No such file or directory (os error \
         2); name another with --config"
    );
    assert!(load("/dev/zero").unwrap_err().to_string().contains("more than 1 MiB"));
}

#[test]
fn a_push_goes_nowhere_but_to_this_machine_and_says_what_is_wrong_with_it() {
    let push = |more: &str| {
        let sections = "[node]\nname = \"a\"\n[[push]]\nname = \"varnish\"\nmethod = \"PURGE\"\n\
                        missed_method = \"BAN\"\n";
        format!("{sections}{more}\n")
    };
    let urls = |url: &str, missed: &str| push(&format!("url = {url:?}\nmissed_url = {missed:?}"));
    let good = parse(&urls("http://127.0.0.1:6081/{key_path}", "http://[::1]:6081")).unwrap();
    assert_eq!(good.push[0].event.authority, "127.0.0.1:6081");
    assert_eq!(good.push[0].missed.authority, "[::1]:6081");
    let here = "http://localhost:1/";
    for elsewhere in [
        "http://10.0.0.1:80/",
        "http://shop.example:80/",
        "https://127.0.0.1:1/",
        "http://127.0.0.1/",
        "http://127.0.0.1:1@shop.example:80/",
    ] {
        assert!(refused(&urls(elsewhere, here)).contains("a port of this machine"), "{elsewhere}");
    }
    assert!(refused(&urls("http://localhost:1/{kay}", here)).contains("`{kay}` is not known"));
    let fixed = refused(&urls(here, "http://localhost:1/{key}"));
    assert!(fixed.contains("there is no event"), "{fixed}");
    let header = format!("{}headers = [\"no colon\"]\n", urls(here, here));
    assert!(refused(&header).contains("a list of headers"), "{header}");
    let again = urls(here, here);
    let again = format!(
        "{again}{}",
        again.split_once("[[push]]").map_or("", |(_, p)| p).replacen("\nname", "[[push]]\nname", 1)
    );
    assert!(refused(&again).contains("`varnish` stands twice"), "{again}");
    assert!(refused(&push("")).contains("[[push]] url is missing"));
}
