//! opsctl finds out what is wrong with a Linux server, says which finding causes the others, and fixes it safely.
//!
//! # How a fact travels
//!
//! [`config`] says what is expected ([`site`] makes runbooks of a team's own files), [`discover`] says what is there. [`engine`] lets every check probe its targets
//! (evidence), judge what came back (findings) and gives the verdict. [`correlate`] says which finding causes which;
//! the result is one report, and [`render`] prints it. Beside the road: [`fix`] changes something, always through its guard,
//! [`audit`] remembers what was changed, [`state`] remembers numbers and findings between runs, [`waive`] what is known and does not
//! count for a while, [`changes`] what was changed before. On this road stand [`look`] (one look at a host, remembered), [`report`] (what is
//! new since the last one), [`respond`] (what an alert means) and [`listen`] (the same over HTTP); [`deliver`] brings what they say to
//! people, [`output`] writes the files they name. [`cli`] is thin over all of it, [`watchdog`] ends what does not end by
//! itself, and [`supervise`] ends when the run has ended.

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
pub mod discover;
pub mod engine;
pub mod fix;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod listen;
pub mod look;
pub mod output;
pub mod render;
pub mod report;
pub mod respond;
pub mod site;
pub mod state;
pub mod supervise;
pub mod waive;
pub mod watchdog;
