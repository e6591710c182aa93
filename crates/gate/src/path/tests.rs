//! Tricks one by one, and at random.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

#[test]
fn plain_paths_name_their_service() {
    for (path, name) in [
        ("/evermesh.v1.EventReplication/Publish", "evermesh.v1.EventReplication"),
        ("/shop.v1.Cart/", "shop.v1.Cart"),
        ("/metrics", "metrics"),
        ("/", ""),
        ("/a/b.c/..d/e..", "a"),
        ("/a/caf%C3%A9", "a"),
    ] {
        assert_eq!(service(path), Ok(name), "{path}");
    }
}

#[test]
fn tricks_are_refused() {
    for path in [
        "",
        "*",
        "a/b",
        "//",
        "//a/b",
        "/a//b",
        "/a/b//",
        "/..",
        "/../a/b",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/a/..;x/b",
        "/a/.;/b",
        "/a%2fb",
        "/a%2Fb",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/%5cb",
        "/a/%252e/b",
        "/a/%3bx",
        "/a/%00",
        "/a/%7f",
        "/a/%",
        "/a/%2",
        "/a/%zz",
        "/a/%+1",
        "/a\\b",
        "/a/..\\b",
        "/caf\u{e9}/b",
        "/a b/c",
        "/a\u{0}/b",
    ] {
        assert!(service(path).is_err(), "{path:?}");
    }
}

#[test]
fn an_excerpt_is_short_and_printable() {
    let long = format!("/{}", "\u{e9}\n".repeat(9_000));
    let text = excerpt(&long);
    assert!(text.len() <= EXCERPT_MAX + 3, "{}", text.len());
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    assert_eq!(excerpt("/a.v1.B/C"), "/a.v1.B/C");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is let through has one spelling: decoding and resolving it changes no segment.
    #[test]
    fn what_passes_has_one_reading(path in "[/a.%25efEFcC;\\\\\u{e9}]{0,24}") {
        if let Ok(name) = service(&path) {
            prop_assert!(path.starts_with('/') && path.is_ascii());
            prop_assert!(!name.contains('/'));
            let decoded = decode(&path);
            let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
            prop_assert_eq!(slashes(&decoded), slashes(path.as_bytes()));
            for segment in decoded.split(|byte| *byte == b'/') {
                prop_assert!(segment != b"." && segment != b"..");
            }
            prop_assert!(!decoded.contains(&b'\\'));
        }
    }

    #[test]
    fn nothing_makes_it_panic(path in ".*") {
        let _ = service(&path);
        let _ = excerpt(&path);
    }
}

/// What a server that decodes escapes would read.
fn decode(path: &str) -> Vec<u8> {
    let mut pieces = path.split('%');
    let mut decoded = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at(2);
        decoded.push(u8::from_str_radix(hex, 16).unwrap());
        decoded.extend_from_slice(rest.as_bytes());
    }
    decoded
}
