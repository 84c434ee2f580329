//! What an exit code says.

/// The meaning of a container's exit code. 125 to 127 are the engine's and the shell's, 128 + n is a signal (bash(1), EXIT STATUS).
#[must_use]
pub(super) fn exit_code(code: i64) -> String {
    let meaning = match code {
        0 => "success",
        125 => "the engine could not run it",
        126 => "its command is not executable",
        127 => "its command was not found",
        129 => "SIGHUP",
        130 => "SIGINT",
        132 => "SIGILL",
        134 => "SIGABRT, it gave up itself",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL",
        139 => "SIGSEGV, it crashed",
        143 => "SIGTERM, it was asked to stop",
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} ({meaning})")
}
