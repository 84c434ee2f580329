//! The only integration test binary. Tests that need a real host create one (`tests/lab/`) and are skipped if that is not
//! possible.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests may block")]

#[path = "../lab/mod.rs"]
mod lab;

#[path = "../attacks/mod.rs"]
mod attacks;

#[path = "../incidents/mod.rs"]
mod incidents;

mod cli;
mod dependencies;
mod documents;
mod fixes;
mod journal;
mod language;
mod layers;
mod layout;
mod live;
mod packaging;
mod recordings;
mod roles;
mod site;
