//! Exit codes that are not verdicts (sysexits.h), and the usage error.

/// Success.
pub const OK: u8 = 0;
/// Unknown; also every error of opsctl itself if a monitoring system reads the exit code.
pub const UNKNOWN: u8 = 3;
/// Invalid command line (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Internal or operating system error (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// Permission denied (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// Invalid configuration (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// The command line is invalid or names an object that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
