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
        132 => "SIGILL, illegal instruction",
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

/// The action for an exit code that names its reason by itself: a program that is killed by SIGILL logs nothing.
#[must_use]
pub(super) fn hint(code: i64) -> Option<&'static str> {
    (code == 132).then_some(
        "the processor lacks an instruction of the program: use a build for this processor (flags in /proc/cpuinfo), or expose the instruction set to the virtual machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_instruction_has_a_hint() {
        assert_eq!(exit_code(132), "exit code 132 (SIGILL, illegal instruction)");
        assert!(hint(132).is_some() && hint(1).is_none() && hint(139).is_none());
    }
}
