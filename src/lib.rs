//! opsctl diagnoses a Linux server, names the finding that causes the others, and fixes it safely.
//!
//! # Data flow
//!
//! [`config`] contains the limits and expectations ([`site`] turns custom files into runbooks), [`discover`] finds the targets. [`engine`] lets
//! every check probe its targets (evidence) and judge the evidence (findings), and returns the verdict. [`correlate`] links findings to their
//! causes; the result is one report, which [`render`] formats.
//!
//! [`fix`] applies changes, always through its guard; [`audit`] is the journal of these changes. [`state`] stores samples and findings between
//! runs, [`waive`] the waivers; [`changes`] lists earlier changes to the host. [`diagnosis`] (one stored run), [`report`] (changes since the
//! last report), [`respond`] (the diagnosis of an alert) and [`listen`] (the same over HTTP) build on these modules; [`deliver`] sends their
//! output and [`output`] writes files. [`cli`] is a thin layer over all of it, [`watchdog`] terminates commands that exceed their limits, and
//! [`supervise`] exits with the run.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests may block"))]

/// The allocator of `main.rs`, for the tests.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: watchdog::memory::Allocator = watchdog::memory::Allocator;

pub mod audit;
pub mod catalog;
pub mod changes;
pub mod cli;
pub mod config;
pub mod correlate;
pub mod deliver;
pub mod diagnosis;
pub mod discover;
pub mod engine;
mod failpoint;
pub mod fix;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod image;
pub mod listen;
pub mod output;
pub mod render;
pub mod report;
pub mod respond;
pub mod site;
pub mod state;
pub mod supervise;
pub mod waive;
pub mod watchdog;
