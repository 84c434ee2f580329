//! Parse, run, map to an exit code. Nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: opsctl::watchdog::memory::Allocator = opsctl::watchdog::memory::Allocator;

fn main() -> ExitCode {
    ExitCode::from(opsctl::supervise::run(std::env::args_os().collect(), opsctl::cli::main))
}
