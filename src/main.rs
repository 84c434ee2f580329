//! Entry point: parse, run, map to an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: opsctl::watchdog::memory::Allocator = opsctl::watchdog::memory::Allocator;

fn main() -> ExitCode {
    ExitCode::from(opsctl::supervise::run(std::env::args_os().collect(), opsctl::cli::main))
}
