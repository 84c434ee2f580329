//! What opsctl is about and how it looks: the two lower floors of the house.
//!
//! [`model`] is pure data and the traits a runbook implements; [`probe`] is the only code that reads
//! the machine. Neither knows a runbook, the engine, a renderer or the guard.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests may block"))]

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod model;
pub mod probe;
