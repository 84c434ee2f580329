//! Probes: the only code that reads the system. One file per kind of source.
//!
//! Every probe has its own timeout; every call that can block in the kernel requires the [`Io`] that [`blocking::run`] provides;
//! results are plain data; external text is not changed (rendering escapes it, the engine removes secrets), but its size is
//! limited.

pub mod activity;
pub mod boot;
pub mod celery;
pub mod cgroup;
pub mod changes;
pub mod clock;
pub mod cloud_init;
pub mod command;
mod cx;
pub mod docker;
pub mod endpoint;
mod environ;
mod error;
mod executable;
pub mod file;
pub mod filesystem;
pub mod firewall;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod home;

pub mod host;
pub mod http;
pub mod identity;
pub mod image_files;
pub mod io;
pub mod kernel;
pub mod kernel_clock;
pub mod kmsg;
pub mod lag;
pub mod listeners;
mod memo;
pub mod metrics;
pub mod names;
pub mod needs;
pub mod netns;
pub mod network;
pub mod nginx;
pub mod panics;
pub mod path;
pub mod peer_groups;
pub mod process;
pub mod prometheus;
pub mod proxies;
mod redact;
pub mod servers;
pub mod setup;
pub mod systemd;
pub mod table;
pub mod tasks;
pub mod tls;
pub mod trusted;

pub use cx::{History, HistoryError, ProbeCx, ProbeOptions};
pub use environ::environment;
pub use error::{ProbeError, UNEXPECTED_FORMAT};
pub use io::{Io, blocking};
pub use memo::Memo;
pub use redact::{REDACTED, Redactor};
