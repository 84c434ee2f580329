//! Meaning of systemd's results and exit statuses (systemd.exec(5), "Process Exit Codes"; systemd.service(5), `$SERVICE_RESULT`).

use opsctl_core::probe::systemd::{Service, Unit};

/// Exit statuses of systemd for a program that it cannot start: name and meaning.
const SET_UP: &[(i64, &str, &str)] = &[
    (200, "CHDIR", "its working directory does not exist or is not accessible"),
    (201, "NICE", "its priority could not be set"),
    (202, "FDS", "its descriptors could not be set up"),
    (203, "EXEC", "its program could not be started"),
    (204, "MEMORY", "there was no memory to start it"),
    (205, "LIMITS", "its resource limits could not be set"),
    (208, "STDIN", "its standard input could not be set up"),
    (209, "STDOUT", "its standard output could not be set up"),
    (214, "SETSCHEDULER", "its scheduling could not be set"),
    (216, "GROUP", "its group does not exist"),
    (217, "USER", "its user does not exist"),
    (218, "CAPABILITIES", "its capabilities could not be set"),
    (219, "CGROUP", "its control group could not be set up"),
    (222, "STDERR", "its standard error could not be set up"),
    (223, "CHROOT", "its root directory could not be entered"),
    (224, "PAM", "its PAM session could not be opened"),
    (226, "NAMESPACE", "its file system view could not be set up: a path in its sandbox settings does not exist"),
    (227, "NO_NEW_PRIVILEGES", "its privileges could not be limited"),
    (228, "SECCOMP", "its system call filter could not be set"),
    (233, "RUNTIME_DIRECTORY", "its directory in /run could not be created"),
    (238, "STATE_DIRECTORY", "its directory in /var/lib could not be created"),
    (239, "CACHE_DIRECTORY", "its directory in /var/cache could not be created"),
    (240, "LOGS_DIRECTORY", "its directory in /var/log could not be created"),
    (241, "CONFIGURATION_DIRECTORY", "its directory in /etc could not be created"),
    (243, "CREDENTIALS", "its credentials could not be read"),
];

/// The reason if systemd could not start the program: `(name, meaning)`.
fn set_up_error(service: &Service) -> Option<(&'static str, &'static str)> {
    let found = SET_UP.iter().find(|(status, ..)| *status == service.exit_status)?;
    (service.exit_code_kind == EXITED && service.result == "exit-code").then_some((found.1, found.2))
}

/// `si_code` of a process that exited, and of processes terminated by a signal (`waitid(2)`).
pub(super) const EXITED: i64 = 1;
const KILLED: i64 = 2;
const DUMPED: i64 = 3;

/// The result of a unit's last run, as a phrase.
pub(super) fn outcome(unit: &Unit, program_missing: bool) -> String {
    let Some(s) = &unit.service else {
        return match unit.result.as_str() {
            "" => "no reason given".to_owned(),
            result => result.to_owned(),
        };
    };
    if let Some((name, meaning)) = set_up_error(s) {
        return match s.program().filter(|_| name == "EXEC" && program_missing) {
            Some(program) => format!("its program {program} does not exist (203/EXEC)"),
            None => format!("{meaning} ({}/{name})", s.exit_status),
        };
    }
    match s.result.as_str() {
        "exit-code" if s.exit_status > 128 && s.exit_status < 128 + 65 => {
            format!("it exited with {}: something it ran was killed by {}", s.exit_status, signal(s.exit_status - 128))
        }
        "exit-code" => format!("it exited with {}", s.exit_status),
        "signal" if s.exit_code_kind == KILLED || s.exit_code_kind == DUMPED => {
            format!("it was killed by {}", signal(s.exit_status))
        }
        "signal" => "it was killed by a signal".to_owned(),
        "core-dump" => format!("it crashed with {}", signal(s.exit_status)),
        "timeout" => "it did not start or stop in time".to_owned(),
        "watchdog" => "it did not report to systemd's watchdog in time".to_owned(),
        "oom-kill" => "the kernel killed it for memory".to_owned(),
        "start-limit-hit" => "it was started too often in too short a time".to_owned(),
        "resources" => "systemd had no resources to start it".to_owned(),
        "protocol" => "it did not follow the protocol of its Type=".to_owned(),
        "exec-condition" => "its ExecCondition= failed".to_owned(),
        other => other.to_owned(),
    }
}

/// The name of a signal (signal(7); the same numbers on x86 and ARM).
fn signal(number: i64) -> String {
    const NAMES: &[(i64, &str)] = &[
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    NAMES.iter().find(|(n, _)| *n == number).map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(result: &str, kind: i64, status: i64) -> Unit {
        let service = Service {
            result: result.into(),
            exit_code_kind: kind,
            exit_status: status,
            exec_start: vec!["/usr/local/sbin/gone.sh --now".into()],
            ..Service::default()
        };
        Unit { service: Some(service), ..Unit::default() }
    }

    #[test]
    fn every_service_result_has_a_description() {
        for (result, kind, status, expected) in [
            ("exit-code", 1, 203, "its program /usr/local/sbin/gone.sh does not exist (203/EXEC)"),
            ("exit-code", 1, 217, "its user does not exist (217/USER)"),
            ("exit-code", 1, 137, "it exited with 137: something it ran was killed by SIGKILL"),
            ("exit-code", 1, 3, "it exited with 3"),
            ("signal", 2, 9, "it was killed by SIGKILL"),
            ("timeout", 2, 15, "it did not start or stop in time"),
            ("core-dump", 3, 11, "it crashed with SIGSEGV"),
            ("oom-kill", 2, 9, "the kernel killed it for memory"),
            ("watchdog", 2, 6, "it did not report to systemd's watchdog in time"),
            ("new-in-systemd-300", 0, 0, "new-in-systemd-300"),
        ] {
            assert_eq!(outcome(&unit(result, kind, status), true), expected);
        }
        assert_eq!(outcome(&unit("exit-code", 1, 203), false), "its program could not be started (203/EXEC)");
        let mount = Unit { result: "exit-code".into(), ..Unit::default() };
        assert_eq!(outcome(&mount, false), "exit-code");
    }
}
