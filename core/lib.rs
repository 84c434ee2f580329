//! Data model and probes: the lower two layers of opsctl.
//!
//! [`model`] contains plain data and the traits that a runbook implements; [`probe`] is the only code that reads the machine.
//! Neither depends on a runbook, the engine, a renderer or the guard.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests may block"))]

#[cfg(any(test, feature = "fuzz"))]
pub mod corpus;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod model;
pub mod probe;
