//! Probes: the only code that reads the system. One file per kind of source.
//!
//! Every probe has its own timeout; every call that can block in the kernel requires the [`Io`] that [`blocking::run`] provides;
//! results are plain data; external text is not changed (rendering escapes it, the engine removes secrets), but its size is
//! limited.

pub mod changes;
mod cx;
pub mod docker;
pub mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;

pub mod io;
pub mod kernel;
pub mod lag;
pub mod logs;
mod memo;
pub mod names;
pub mod needs;
pub mod network;
pub mod nginx;
pub mod panics;
pub mod ports;
pub mod proc;
pub mod product;
pub mod proxies;
mod redact;
pub mod servers;
mod shared;
pub mod systemd;
pub mod tls;

pub use cx::{History, HistoryError, ProbeCx, ProbeOptions};
pub use error::{ProbeError, UNEXPECTED_FORMAT, needed_right};
pub use io::environment;
pub use io::{Io, blocking};
pub use memo::Memo;
pub use redact::{REDACTED, Redactor};
pub use shared::Shared;
