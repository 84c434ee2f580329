//! Parse, run, map to an exit code. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(opsctl::cli::main(std::env::args_os()))
}
