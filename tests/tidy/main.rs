//! The tidy test: reads the repository and refuses what the house rules refuse, naming the place
//! and what to do about it.
//!
//! One file for each kind of rule. A rule is a pure function from texts to findings, and each is
//! tried on a planted bad text beside it, so that a rule that can no longer fail is noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod documents;
mod floors;
mod habits;
mod naming;
mod reasons;
mod services;
mod size;
mod source;
mod tree;
mod versions;
mod wire;

use tree::Tree;

/// Fails with every finding, one a line.
fn refuse(findings: &[String]) {
    assert!(findings.is_empty(), "{} found:\n  {}\n", findings.len(), findings.join("\n  "));
}

#[test]
fn dependencies_only_go_down() {
    refuse(&floors::findings(&Tree::read().manifests()));
}

#[test]
fn files_functions_and_lines_are_small() {
    refuse(&size::findings(&Tree::read()));
}

#[test]
fn files_say_what_they_are_and_have_names_of_their_own() {
    refuse(&naming::findings(&Tree::read()));
}

#[test]
fn tests_are_not_skipped_and_wait_for_events_and_bind_free_ports() {
    refuse(&habits::findings(&Tree::read()));
}

#[test]
fn documents_have_titles_and_name_what_exists() {
    refuse(&documents::findings(&Tree::read()));
}

#[test]
fn every_call_is_in_the_api_status() {
    let tree = Tree::read();
    let text = tree.text(services::PAGE).unwrap_or_default();
    refuse(&services::findings(text, &wire::described()));
}

#[test]
fn every_reason_is_in_the_list_of_errors() {
    let tree = Tree::read();
    let text = tree.text(reasons::PAGE).unwrap_or_default();
    refuse(&reasons::findings(&tree, text));
}

#[test]
fn the_wire_is_commented_and_named_by_the_standard() {
    refuse(&wire::findings(&wire::described()));
}

#[test]
fn what_meets_on_the_wire_has_one_version() {
    refuse(&versions::findings(&tree::root_file("Cargo.lock")));
}
