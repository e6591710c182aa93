//! Models of the rules, small enough to be explored whole: every order in which things can happen,
//! not some of them. What they are and what they are not: `docs/model.md`.
//!
//! Each rule that matters can be taken back; then the checker must find the story that breaks the
//! promise, so that a model which cannot fail is noticed. Where the rule is pure code, the model
//! calls that code.
//!
//! `EVERMESH_MODEL_SIZE=2` explores larger ones, by hand: that takes long, and gigabytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod check;
mod leases;
mod numbering;
