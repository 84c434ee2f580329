//! The one integration binary. What needs a real host makes one (`tests/lab/`) and is left out where that is not possible.
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
mod journal;
mod layers;
mod live;
mod readme;
mod recordings;
mod site;
