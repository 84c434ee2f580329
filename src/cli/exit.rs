//! Exit codes that are not verdicts (sysexits.h), and the error that means wrong usage.

/// Done.
pub const OK: u8 = 0;
/// Nobody knows; also every error of opsctl itself where a monitoring system reads the exit code.
pub const UNKNOWN: u8 = 3;
/// The command line is wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Something in opsctl or below it failed (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// This user may not (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// The command line names something that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
