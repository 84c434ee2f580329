//! Meaning of exit codes.

/// The meaning of a container's exit code. 125 to 127 are the engine's and the shell's, 128 + n is a signal (bash(1), EXIT STATUS).
#[must_use]
pub(super) fn exit_code(code: i64) -> String {
    let meaning = match code {
        0 => "success",
        125 => "the engine could not run the container",
        126 => "command not executable",
        127 => "command not found",
        129 => "SIGHUP",
        130 => "SIGINT",
        132 => "SIGILL",
        134 => "SIGABRT, aborted by itself",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL",
        139 => "SIGSEGV, crashed",
        143 => "SIGTERM, stop requested",
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} ({meaning})")
}
