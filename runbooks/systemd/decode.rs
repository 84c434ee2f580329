//! Meaning of systemd's results and exit statuses (systemd.exec(5), "Process Exit Codes" and `$SERVICE_RESULT`).

use jiff::SignedDuration;
use opsctl_core::model::{ends, quantity::duration};
use opsctl_core::probe::systemd::{FailedReload, JournalLine, Service, Unit, UnitCommand};
use serde::{Deserialize, Serialize};

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

/// `si_code` of a process that exited, and of processes terminated by a signal (`waitid(2)`).
pub(super) const EXITED: i64 = 1;
const KILLED: i64 = 2;
const DUMPED: i64 = 3;

/// Characters of a command in a message.
const MAX_COMMAND: usize = 100;

/// The operation of systemd that timed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TimedOut {
    /// Unknown, or none did.
    #[default]
    Unknown,
    /// `ExecCondition=`, `ExecStartPre=`.
    StartPre,
    /// `ExecStart=`, until the unit counts as started.
    Start,
    /// `ExecStartPost=`.
    StartPost,
    /// `ExecStop=`, or the end of its processes.
    Stop,
    /// `RuntimeMaxSec=`.
    Runtime,
}

impl TimedOut {
    /// The first operation that timed out in these lines of one run, from systemd's own lines.
    pub(super) fn of(lines: &[JournalLine]) -> Self {
        let own = lines.iter().filter(|l| l.by_systemd);
        own.map(|l| Self::of_line(&l.text)).find(|found| *found != Self::Unknown).unwrap_or_default()
    }

    /// `app.service: start operation timed out. Terminating.`, `app.service: State 'stop-sigterm' timed out. Killing.`,
    /// `data.mount: Mounting timed out. Terminating.`
    fn of_line(text: &str) -> Self {
        let text = text.to_lowercase();
        let text = text.split_once(": ").map_or(text.as_str(), |(_, text)| text);
        if text.contains("runtime time limit") {
            return Self::Runtime;
        }
        let Some((operation, _)) = text.split_once(" timed out") else { return Self::Unknown };
        match operation.trim_end_matches(" operation").trim_start_matches("state ").trim_matches('\'') {
            "condition" | "start-pre" => Self::StartPre,
            "start" | "starting" | "mounting" | "activation" | "activating" => Self::Start,
            "start-post" | "start-chown" => Self::StartPost,
            stop if ["stop", "final", "unmounting", "deactivat"].iter().any(|name| stop.starts_with(name)) => Self::Stop,
            _ => Self::Unknown,
        }
    }
}

/// Whether an exit is the one that a result of systemd stands for.
fn fits(result: &str, exit_code_kind: i64, exit_status: i64) -> bool {
    match result {
        "exit-code" => exit_code_kind == EXITED && exit_status != 0,
        "signal" => exit_code_kind == KILLED,
        "core-dump" => exit_code_kind == DUMPED,
        _ => false,
    }
}

/// The command with the failure that is the result of the last run; `None` if it is the main process of a service. A failed
/// `ExecStartPre=` prevents the start of the main process; its exit status is then 0 or that of an earlier run.
pub(super) fn failed_command(unit: &Unit) -> Option<&UnitCommand> {
    let mut failed = unit.failed_commands.iter().filter(|c| fits(unit.outcome(), c.exit_code_kind, c.exit_status));
    let main = unit.service.as_ref().is_some_and(|s| fits(&s.result, s.exit_code_kind, s.exit_status));
    let first = failed.clone().find(|c| matches!(c.setting.as_str(), "ExecCondition" | "ExecStartPre"));
    match first {
        None if main => None,
        None => failed.find(|c| c.setting != "ExecStart"),
        first => first,
    }
}

/// The exit status with which systemd reports that it could not start a process, with its name: `(217, "USER")`.
pub(super) fn set_up_status(unit: &Unit) -> Option<(i64, &'static str)> {
    let status = match (failed_command(unit), &unit.service) {
        (Some(command), _) if command.exit_code_kind == EXITED => command.exit_status,
        (None, Some(s)) if s.exit_code_kind == EXITED && s.result == "exit-code" => s.exit_status,
        _ => return None,
    };
    SET_UP.iter().find(|(known, ..)| *known == status).map(|(status, name, _)| (*status, *name))
}

/// The meaning of a status of [`SET_UP`].
fn set_up_meaning(status: i64) -> Option<(&'static str, &'static str)> {
    SET_UP.iter().find(|(known, ..)| *known == status).map(|(_, name, meaning)| (*name, *meaning))
}

/// The result of a unit's last run, as a phrase.
pub(super) fn outcome(unit: &Unit, program_missing: bool, timed_out: TimedOut) -> String {
    if let Some(command) = failed_command(unit) {
        return of_command(command);
    }
    let Some(s) = &unit.service else { return of_other(unit, timed_out) };
    if s.result == "exit-code"
        && s.exit_code_kind == EXITED
        && let Some((name, meaning)) = set_up_meaning(s.exit_status)
    {
        return match s.program().filter(|_| name == "EXEC" && program_missing) {
            Some(program) => format!("its program {program} does not exist (203/EXEC)"),
            None => format!("{meaning} ({}/{name})", s.exit_status),
        };
    }
    match s.result.as_str() {
        "exit-code" if s.exit_code_kind != EXITED || s.exit_status == 0 => "one of its commands failed".to_owned(),
        "exit-code" => exited("it", s.exit_status),
        "signal" if s.exit_code_kind == KILLED || s.exit_code_kind == DUMPED => {
            format!("it was killed by {}", signal(s.exit_status))
        }
        "signal" => "it was killed by a signal".to_owned(),
        "core-dump" => format!("it crashed with {}", signal(s.exit_status)),
        "timeout" => of_timeout(unit, s, timed_out),
        "watchdog" => match s.watchdog_s {
            Some(limit) => format!("it did not report to systemd's watchdog for {}", limit_of(limit)),
            None => "it did not report to systemd's watchdog in time".to_owned(),
        },
        "oom-kill" => "the kernel killed it for memory".to_owned(),
        "start-limit-hit" => "it was started too often in too short a time".to_owned(),
        "resources" => "systemd could not set up its start".to_owned(),
        "protocol" => of_protocol(s),
        "exec-condition" => "its ExecCondition= failed".to_owned(),
        "success" => "success".to_owned(),
        "" => "no reason given".to_owned(),
        other => format!("its result is {other}"),
    }
}

fn exited(subject: &str, status: i64) -> String {
    if status > 128 && status < 128 + 65 {
        format!("{subject} exited with {status}: something it ran was killed by {}", signal(status - 128))
    } else {
        format!("{subject} exited with {status}")
    }
}

/// The failure of a command beside the main process.
fn of_command(command: &UnitCommand) -> String {
    let shown = ends(&command.line, MAX_COMMAND);
    // the settings of mounts and swaps are internal names
    let internal =
        ["ExecMount", "ExecRemount", "ExecUnmount", "ExecActivate", "ExecDeactivate"].contains(&command.setting.as_str());
    let subject = if internal { format!("`{shown}`") } else { format!("its {}= {shown}", command.setting) };
    match command.exit_code_kind {
        EXITED => match set_up_meaning(command.exit_status) {
            Some((name, meaning)) => format!("{subject} was not run: {meaning} ({}/{name})", command.exit_status),
            None => exited(&subject, command.exit_status),
        },
        DUMPED => format!("{subject} crashed with {}", signal(command.exit_status)),
        _ => format!("{subject} was killed by {}", signal(command.exit_status)),
    }
}

/// The failure of the last reload of a service.
pub(super) fn reload(service: &Service, failed: &FailedReload) -> String {
    // systemd.service(5): TimeoutStartSec= also limits a reload
    match (&failed.command, failed.result.as_str()) {
        (_, "timeout") => format!("it did not end {}", within(service.timeout_start_s)),
        (Some(command), _) => of_command(command),
        (None, "resources") => "systemd could not set it up".to_owned(),
        (None, other) => format!("its result is {other}"),
    }
}

/// A time limit in seconds: `90 s`, `30 min`.
fn limit_of(seconds: u64) -> String {
    if seconds < 600 {
        format!("{seconds} s")
    } else {
        duration(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }
}

fn within(limit: Option<u64>) -> String {
    limit.map_or_else(|| "in time".to_owned(), |limit| format!("within {}", limit_of(limit)))
}

/// A service that exceeded a time limit of systemd.
fn of_timeout(unit: &Unit, s: &Service, timed_out: TimedOut) -> String {
    // without a line of systemd: it became active in its last run, so the start was complete
    let was_up = unit.starting_since.map(|begin| unit.active_since.is_some_and(|up| up >= begin));
    let start = within(s.timeout_start_s);
    let unfinished = |setting: &str| format!("its {setting}= did not end {start}");
    match (timed_out, was_up) {
        (TimedOut::StartPre, _) => unfinished("ExecStartPre"),
        (TimedOut::StartPost, _) => unfinished("ExecStartPost"),
        (TimedOut::Runtime, _) => match s.runtime_max_s {
            Some(limit) => format!("it ran longer than its RuntimeMaxSec= of {}", limit_of(limit)),
            None => "it ran longer than its RuntimeMaxSec=".to_owned(),
        },
        (TimedOut::Stop, _) | (TimedOut::Unknown, Some(true)) => match s.timeout_stop_s {
            Some(limit) => format!("it was still stopping after {}", limit_of(limit)),
            None => "it did not stop in time".to_owned(),
        },
        (TimedOut::Start, _) | (TimedOut::Unknown, Some(false)) => match s.kind.as_str() {
            "notify" | "notify-reload" => format!("it never reported readiness {start} (Type={})", s.kind),
            "forking" if !s.pid_file.is_empty() => {
                format!(
                    "its start did not complete {start}: its PID file {} never appeared, or its command did not exit",
                    s.pid_file
                )
            }
            "forking" => format!("its start command did not exit {start} (Type=forking)"),
            "dbus" => format!("it never acquired its bus name {} {start}", s.bus_name),
            _ => unfinished("ExecStart"),
        },
        (TimedOut::Unknown, None) => "it did not start or stop in time".to_owned(),
    }
}

/// A service that did not take the steps that its `Type=` requires.
fn of_protocol(s: &Service) -> String {
    match s.kind.as_str() {
        "notify" | "notify-reload" => format!("it exited before it reported readiness (Type={})", s.kind),
        "forking" if !s.pid_file.is_empty() => format!("its PID file {} never appeared, or names no process of it", s.pid_file),
        "forking" => "no process of it remained after its start command (Type=forking)".to_owned(),
        "dbus" => format!("it exited before it acquired its bus name {}", s.bus_name),
        _ => "it did not follow the protocol of its Type=".to_owned(),
    }
}

/// The result of a mount, swap, socket, path, timer, automount or scope.
fn of_other(unit: &Unit, timed_out: TimedOut) -> String {
    let kind = unit.name.rsplit('.').next().unwrap_or_default();
    let limit = within(unit.timeout_s);
    match (unit.result.as_str(), kind) {
        ("", _) => "no reason given".to_owned(),
        ("exit-code" | "signal" | "core-dump", "mount") => "its mount command failed".to_owned(),
        ("exit-code" | "signal" | "core-dump", "swap") => "its swap command failed".to_owned(),
        ("exit-code" | "signal" | "core-dump", _) => "one of its commands failed".to_owned(),
        ("timeout", "mount") if timed_out == TimedOut::Stop => format!("it was not unmounted {limit}"),
        ("timeout", "mount") => format!("it was not mounted {limit}"),
        ("timeout", "swap") => format!("it was not activated {limit}"),
        ("timeout", _) => format!("one of its commands did not end {limit}"),
        ("protocol", "mount") => "its mount command succeeded, and nothing is mounted".to_owned(),
        ("resources", "timer" | "path") => "the unit that it starts could not be started".to_owned(),
        ("resources", "socket") => "systemd could not open it".to_owned(),
        ("resources", _) => "systemd could not set up its start".to_owned(),
        ("start-limit-hit", _) => "it was started too often in too short a time".to_owned(),
        ("trigger-limit-hit", "socket") => "it was triggered too often in too short a time: systemd closed the socket".to_owned(),
        ("trigger-limit-hit", _) => "it was triggered too often in too short a time".to_owned(),
        ("service-start-limit-hit", _) => {
            "its service was started too often in too short a time: systemd closed the socket".to_owned()
        }
        ("unit-start-limit-hit", _) => "the unit that it starts was started too often in too short a time".to_owned(),
        ("mount-start-limit-hit", _) => "its mount was started too often in too short a time".to_owned(),
        ("unmounted", _) => "it was unmounted".to_owned(),
        ("oom-kill", _) => "the kernel killed one of its processes for memory".to_owned(),
        ("success", _) => "success".to_owned(),
        (other, _) => format!("its result is {other}"),
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

    fn plain(unit: &Unit) -> String {
        outcome(unit, false, TimedOut::Unknown)
    }

    #[test]
    fn every_service_result_has_a_description() {
        for (result, kind, status, expected) in [
            ("exit-code", 1, 203, "its program /usr/local/sbin/gone.sh does not exist (203/EXEC)"),
            ("exit-code", 1, 217, "its user does not exist (217/USER)"),
            ("exit-code", 1, 137, "it exited with 137: something it ran was killed by SIGKILL"),
            ("exit-code", 1, 3, "it exited with 3"),
            ("exit-code", 1, 0, "one of its commands failed"),
            ("exit-code", 0, 0, "one of its commands failed"),
            ("signal", 2, 9, "it was killed by SIGKILL"),
            ("timeout", 2, 15, "it did not start or stop in time"),
            ("core-dump", 3, 11, "it crashed with SIGSEGV"),
            ("oom-kill", 2, 9, "the kernel killed it for memory"),
            ("watchdog", 2, 6, "it did not report to systemd's watchdog in time"),
            ("resources", 0, 0, "systemd could not set up its start"),
            ("start-limit-hit", 0, 0, "it was started too often in too short a time"),
            ("exec-condition", 1, 1, "its ExecCondition= failed"),
            ("protocol", 0, 0, "it did not follow the protocol of its Type="),
            ("new-in-systemd-300", 0, 0, "its result is new-in-systemd-300"),
        ] {
            assert_eq!(outcome(&unit(result, kind, status), true, TimedOut::Unknown), expected);
        }
        assert_eq!(plain(&unit("exit-code", 1, 203)), "its program could not be started (203/EXEC)");
    }

    fn command(setting: &str, line: &str, exit_code_kind: i64, exit_status: i64) -> UnitCommand {
        UnitCommand { setting: setting.into(), line: line.into(), exit_code_kind, exit_status }
    }

    #[test]
    fn failed_command_before_the_main_process() {
        let mut nginx = unit("exit-code", 0, 0);
        nginx.failed_commands = vec![command("ExecStartPre", "/usr/sbin/nginx -t", 1, 1)];
        assert_eq!(plain(&nginx), "its ExecStartPre= /usr/sbin/nginx -t exited with 1");
        // the status of the main process is that of an earlier run
        let mut stale = unit("exit-code", 1, 2);
        stale.failed_commands = nginx.failed_commands.clone();
        assert_eq!(plain(&stale), "its ExecStartPre= /usr/sbin/nginx -t exited with 1");
        nginx.failed_commands = vec![command("ExecStartPre", "/opt/check", 1, 203)];
        assert_eq!(plain(&nginx), "its ExecStartPre= /opt/check was not run: its program could not be started (203/EXEC)");
        assert_eq!(set_up_status(&nginx), Some((203, "EXEC")));
    }

    #[test]
    fn failed_command_after_the_main_process() {
        // a failed ExecStartPost= ends the main process by SIGTERM
        let mut post = unit("exit-code", 2, 15);
        post.failed_commands = vec![command("ExecStartPost", "/bin/wait-port", 1, 4)];
        assert_eq!(plain(&post), "its ExecStartPost= /bin/wait-port exited with 4");
        // the main process failed first
        let mut main = unit("exit-code", 1, 3);
        main.failed_commands = vec![command("ExecStart", "/bin/app", 1, 3), command("ExecStopPost", "/bin/clean", 1, 1)];
        assert_eq!(plain(&main), "it exited with 3");
    }

    #[test]
    fn timeout_names_the_operation() {
        let service = |kind: &str, pid_file: &str| {
            let mut unit = unit("timeout", 2, 15);
            if let Some(s) = unit.service.as_mut() {
                (s.kind, s.pid_file) = (kind.into(), pid_file.into());
                (s.timeout_start_s, s.timeout_stop_s) = (Some(90), Some(1800));
            }
            unit
        };
        for (kind, pid_file, timed_out, expected) in [
            ("notify", "", TimedOut::Start, "it never reported readiness within 90 s (Type=notify)"),
            ("forking", "", TimedOut::Start, "its start command did not exit within 90 s (Type=forking)"),
            ("oneshot", "", TimedOut::Start, "its ExecStart= did not end within 90 s"),
            ("notify", "", TimedOut::StartPre, "its ExecStartPre= did not end within 90 s"),
            ("simple", "", TimedOut::Stop, "it was still stopping after 30 min"),
            ("simple", "", TimedOut::Runtime, "it ran longer than its RuntimeMaxSec="),
        ] {
            assert_eq!(outcome(&service(kind, pid_file), false, timed_out), expected);
        }
        assert!(
            outcome(&service("forking", "/run/a.pid"), false, TimedOut::Start).contains("its PID file /run/a.pid never appeared")
        );
    }

    #[test]
    fn failed_reloads() {
        let service = Service { timeout_start_s: Some(90), ..Service::default() };
        let of = |result: &str, command: Option<UnitCommand>| {
            reload(&service, &FailedReload { result: result.into(), command, ..FailedReload::default() })
        };
        let test = command("ExecReload", "/usr/sbin/sshd -t", 1, 255);
        assert_eq!(of("exit-code", Some(test)), "its ExecReload= /usr/sbin/sshd -t exited with 255");
        let killed = command("ExecReload", "/usr/bin/slow", 2, 15);
        assert_eq!(of("timeout", Some(killed)), "it did not end within 90 s");
        assert_eq!(of("resources", None), "systemd could not set it up");
    }

    #[test]
    fn operation_that_timed_out_is_read_from_the_journal() {
        for (text, expected) in [
            ("app.service: start operation timed out. Terminating.", TimedOut::Start),
            ("app.service: start-pre operation timed out. Terminating.", TimedOut::StartPre),
            ("app.service: State 'stop-sigterm' timed out. Killing.", TimedOut::Stop),
            ("app.service: State 'final-sigterm' timed out. Killing.", TimedOut::Stop),
            ("app.service: Stopping timed out. Terminating.", TimedOut::Stop),
            ("app.service: Service reached runtime time limit. Stopping.", TimedOut::Runtime),
            ("data.mount: Mounting timed out. Terminating.", TimedOut::Start),
            ("app.service: Failed with result 'timeout'.", TimedOut::Unknown),
        ] {
            assert_eq!(TimedOut::of_line(text), expected, "{text}");
        }
    }

    #[test]
    fn results_of_other_types() {
        for (name, result, expected) in [
            ("data.mount", "exit-code", "its mount command failed"),
            ("data.mount", "timeout", "it was not mounted in time"),
            ("data.mount", "protocol", "its mount command succeeded, and nothing is mounted"),
            ("app.socket", "trigger-limit-hit", "it was triggered too often in too short a time: systemd closed the socket"),
            (
                "app.socket",
                "service-start-limit-hit",
                "its service was started too often in too short a time: systemd closed the socket",
            ),
            ("app.path", "unit-start-limit-hit", "the unit that it starts was started too often in too short a time"),
            ("app.timer", "resources", "the unit that it starts could not be started"),
            ("dev-sdb1.swap", "exit-code", "its swap command failed"),
            ("old.target", "", "no reason given"),
        ] {
            let unit = Unit { name: name.into(), result: result.into(), ..Unit::default() };
            assert_eq!(plain(&unit), expected);
        }
        let mount = Unit {
            name: "data.mount".into(),
            result: "exit-code".into(),
            failed_commands: vec![command("ExecMount", "/bin/mount /dev/sdz1 /data", 1, 32)],
            ..Unit::default()
        };
        assert_eq!(plain(&mount), "`/bin/mount /dev/sdz1 /data` exited with 32");
    }
}
