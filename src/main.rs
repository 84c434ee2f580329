//! Parse, run, map to an exit code. Nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: opsctl::watchdog::memory::Allocator = opsctl::watchdog::memory::Allocator;

fn main() -> ExitCode {
    ExitCode::from(opsctl::cli::main(std::env::args_os()))
}
