//! The runbooks, one directory each. A runbook is its documentation (`RUNBOOK.md`), its checks (`probe` reads, `judge` decides),
//! its fixes (`plan` proposes) and recorded evidence with the findings expected from it (`fixtures/`).
//!
//! `docs/adding-a-runbook.md` and `docs/adding-a-check.md` describe how to add one. `mod.rs` has a `Settings` struct (the keys of `[runbooks.<name>]` in the configuration, with defaults and their sources)
//! and `pub fn runbook(settings: &Settings) -> Runbook`. Every check is a file of its own with, in this order: its codes,
//! its spec, its evidence, its `impl Check`. The framework does the rest (verdicts, deadlines, rendering, recording, the guard).

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests may block"))]

use opsctl_core::model::Runbook;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod celery;
pub mod container;
pub mod cpu;
pub mod disk;
pub mod dns;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod healthcheck;
pub mod host;
pub mod memory;
pub mod monitoring;
pub mod mtu;
pub mod network;
pub mod nginx;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
mod shared;
pub mod systemd;
pub mod time;
pub mod tls;

/// Generates the list of runbooks and their settings from one list of names, so that they cannot differ.
macro_rules! registry {
    ($($name:ident),* $(,)?) => {
        /// `[runbooks.<name>]`: limits and expectations.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $(
                #[doc = concat!("Settings of the ", stringify!($name), " runbook.")]
                pub $name: $name::Settings,
            )*
        }

        /// Names of all runbooks, in the order of reports.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// All runbooks with these settings, in the order of reports.
        #[must_use]
        pub fn all(settings: &Settings) -> Vec<Runbook> {
            vec![$($name::runbook(&settings.$name).configured(&settings.$name)),*]
        }
    };
}

registry! {
    celery,
    container,
    cpu,
    disk,
    dns,
    healthcheck,
    host,
    memory,
    monitoring,
    mtu,
    network,
    nginx,
    postgres,
    rabbitmq,
    redis,
    systemd,
    time,
    tls,
}
