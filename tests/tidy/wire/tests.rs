//! The rules of the wire, tried on files that break each.

use super::*;

/// The findings in one file.
fn of(body: &str) -> Vec<String> {
    findings(&[planted(body)])
}

/// A file that breaks none.
const GOOD: &str = "
// A.
service AService {
  // A.
  rpc Get(GetRequest) returns (stream GetResponse);
}
// A.
message GetRequest {
  // A.
  map<string, string> some_names = 1;
  oneof which_one {
    // A.
    bool yes = 2;
  }
}
// A.
message GetResponse {
  // A.
  enum HowMuch {
    // A.
    HOW_MUCH_UNSPECIFIED = 0;
    // A.
    HOW_MUCH_2_MANY = 1;
  }
}";

#[test]
fn a_good_file_passes() {
    assert_eq!(of(GOOD), [""; 0]);
    assert_eq!(of(&GOOD.replace("AService", GIVEN)), [""; 0]);
}

#[test]
fn every_comment_is_needed() {
    let places: Vec<usize> = GOOD.match_indices("// A.").map(|(at, _)| at).collect();
    assert_eq!(places.len(), 9);
    for at in places {
        let bare = format!("{}{}", &GOOD[..at], &GOOD[at + "// A.".len()..]);
        let found = of(&bare);
        assert_eq!(found.len(), 1, "{bare}: {found:?}");
        assert!(found[0].contains("needs a comment"), "{found:?}");
    }
}

#[test]
fn names_that_break_the_standard_are_refused() {
    for (good, bad, expected) in [
        ("AService", "AServer", "ends in Service"),
        ("AService", "a_Service", "PascalCase"),
        ("rpc Get(", "rpc get(", "PascalCase"),
        ("GetRequest", "Get", "Get must be named GetRequest"),
        ("GetResponse", "Answer", "Answer must be named GetResponse"),
        ("some_names", "someNames", "lower_snake_case"),
        ("which_one", "whichOne", "lower_snake_case"),
        ("HOW_MUCH_UNSPECIFIED", "HOW_MUCH_NONE", "_UNSPECIFIED"),
        ("HOW_MUCH_2_MANY", "TWO", "begins with HOW_MUCH_"),
        ("HOW_MUCH_2_MANY", "HOW_MUCH_many", "UPPER_SNAKE_CASE"),
        ("enum HowMuch", "enum howMuch", "PascalCase"),
    ] {
        let found = of(&GOOD.replace(good, bad));
        assert!(found.iter().any(|line| line.contains(expected)), "{bad}: {found:?}");
    }
}

#[test]
fn a_shared_message_is_refused() {
    let shared = GOOD.replace("stream GetResponse", "GetRequest");
    assert!(of(&shared).iter().any(|line| line.contains("used by two calls")), "{:?}", of(&shared));
}

#[test]
fn a_file_in_the_wrong_place_or_package_is_refused() {
    let mut file = planted(GOOD);
    file.name = Some("evermesh/Planted.proto".to_owned());
    assert_eq!(findings(&[file]).len(), 1);
    let mut file = planted(GOOD);
    file.package = Some("evermesh".to_owned());
    assert_eq!(findings(&[file]).len(), 1);
    let mut file = planted(GOOD);
    file.public_dependency = vec![0];
    assert_eq!(findings(&[file]).len(), 1);
}

#[test]
fn language_options_that_differ_are_refused() {
    let mut other = planted("");
    let go_package = Some("elsewhere".to_owned());
    other.options = Some(prost_types::FileOptions { go_package, ..Default::default() });
    let found = findings(&[planted(GOOD), other]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("language options"), "{found:?}");
}
