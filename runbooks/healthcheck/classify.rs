//! Reasons of a failed health test: the service, or the test itself.

use opsctl_core::probe::docker::HealthEntry;

use super::command::Command;

/// The reason of a failed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// This program does not exist in the image, or cannot be run.
    CommandMissing(String),
    /// The test did not end within its timeout.
    Timeout,
    /// The test could not be started in time: the engine or the disk is slow.
    SlowStart,
    /// The service rejected the request for missing credentials.
    Auth,
    /// Connection refused or failed.
    Refused,
    /// Any other reason, attributed to the service.
    Other,
}

/// Classifies one failed run. The messages are those of runc 1.0 to 1.2 and of the shells.
pub(super) fn class(entry: &HealthEntry, command: &Command) -> Class {
    let out = entry.output.as_str();
    if out.contains("timed out starting health check") {
        return Class::SlowStart;
    }
    if out.contains("Health check exceeded timeout") {
        return Class::Timeout;
    }
    if let Some(program) = missing_program(entry, command) {
        return Class::CommandMissing(program);
    }
    let auth = [
        "NOAUTH",
        "WRONGPASS",
        " 401",
        " 403",
        "401 Unauthorized",
        "403 Forbidden",
        "returned error: 401",
        "returned error: 403",
    ];
    if auth.iter().any(|a| out.contains(a)) {
        return Class::Auth;
    }
    let refused = ["onnection refused", "can't connect", "Couldn't connect", "Failed to connect", "could not connect"];
    if refused.iter().any(|r| out.contains(r)) {
        return Class::Refused;
    }
    Class::Other
}

fn missing_program(entry: &HealthEntry, command: &Command) -> Option<String> {
    let out = entry.output.as_str();
    let first = || command.one_of.first().or(command.needs.first()).cloned().unwrap_or_default();
    // exec form: an error of the runtime; older runc adds a prefix
    if out.contains("executable file not found") || (out.contains("exec: \"") && out.contains("no such file or directory")) {
        return Some(quoted(out).unwrap_or_else(first));
    }
    if matches!(entry.exit_code, 126 | -1) && out.contains("ermission denied") && (out.contains("exec") || entry.exit_code == 126)
    {
        return Some(quoted(out).unwrap_or_else(first));
    }
    // shell form: `/bin/sh: curl: not found`, `sh: 1: curl: not found`, `bash: line 1: curl: command not found`; behind `|| exit 1`
    // the exit code is no longer 127, so the message has to contain a program of the test
    let named = command
        .one_of
        .iter()
        .find(|p| out.contains(&format!("{p}: not found")) || out.contains(&format!("{p}: command not found")));
    if let Some(program) = named {
        return Some(program.clone());
    }
    (entry.exit_code == 127).then(first)
}

/// The program in `exec: "curl": executable file not found`.
fn quoted(out: &str) -> Option<String> {
    let rest = out.split("exec: \"").nth(1)?;
    let program = rest.split('"').next()?;
    (!program.is_empty() && program.len() < 200).then(|| program.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(exit_code: i64, output: &str) -> HealthEntry {
        HealthEntry { exit_code, output: output.to_owned(), ..HealthEntry::default() }
    }

    #[test]
    fn known_failure_messages_are_classified() {
        let shell = Command::parse(&["CMD-SHELL".into(), "curl -f http://localhost/ || exit 1".into()]);
        let missing = |p: &str| Class::CommandMissing(p.to_owned());
        for (code, output, class_) in [
            (
                -1,
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"wget\": executable file not found in $PATH: unknown",
                missing("wget"),
            ),
            (
                -1,
                "OCI runtime exec failed: exec failed: container_linux.go:380: starting container process caused: exec: \"curl\": executable file not found in $PATH: unknown",
                missing("curl"),
            ),
            (
                -1,
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown",
                missing("/bin/sh"),
            ),
            (127, "/bin/sh: curl: not found", missing("curl")),
            (1, "/bin/sh: 1: curl: not found", missing("curl")),
            (1, "/bin/bash: line 1: curl: command not found", missing("curl")),
            (
                126,
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/app/check\": permission denied: unknown",
                missing("/app/check"),
            ),
            (-1, "Health check exceeded timeout (1s)", Class::Timeout),
            (-1, "timed out starting health check for container x", Class::SlowStart),
            (22, "curl: (22) The requested URL returned error: 401", Class::Auth),
            (7, "curl: (7) Failed to connect to localhost port 80: Connection refused", Class::Refused),
            (1, "wget: can't connect to remote host: Connection refused", Class::Refused),
            (1, "not found", Class::Other),
            (22, "curl: (22) The requested URL returned error: 404 Not Found", Class::Other),
        ] {
            assert_eq!(class(&entry(code, output), &shell), class_, "{output}");
        }
    }
}
