//! Properties of a systemd unit.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zbus::wire::{OwnedVariant, Variant};

use super::super::Redactor;
use crate::model::quantity;

/// A unit: common properties and those of its type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unit {
    /// Full name: `nginx.service`.
    pub name: String,
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    /// Error of loading it.
    pub load_error: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// Substate.
    pub sub: String,
    /// State of its unit file: `enabled`, `disabled`, `static`, `masked`, `generated`, …; empty without one.
    pub file_state: String,
    /// Path of its unit file.
    pub fragment: String,
    /// Invocation id of the last run, 32 hex digits; empty if it never ran.
    pub invocation: String,
    /// Its unit file is newer than the loaded one.
    pub need_reload: bool,
    /// Created at runtime (`systemd-run`) without a unit file.
    pub transient: bool,
    /// Result of its last condition check; `None` if its conditions were never checked.
    pub condition: Option<bool>,
    /// Units it requires (Requires=, Requisite=, `BindsTo`=).
    pub requires: Vec<String>,
    /// Units that want or require it.
    pub wanted_by: Vec<String>,
    /// Timers, sockets and paths that start it.
    pub triggered_by: Vec<String>,
    /// The units that it starts, for a socket, path or timer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// Last time it became active.
    pub active_since: Option<Timestamp>,
    /// Last time it stopped being active.
    pub active_until: Option<Timestamp>,
    /// Last time it became inactive or failed.
    pub inactive_since: Option<Timestamp>,
    /// Last change of its state.
    pub changed: Option<Timestamp>,
    /// Last time it left the inactive or failed state: the begin of its last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_since: Option<Timestamp>,
    /// Result of its last run: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, `watchdog`, …
    pub result: String,
    /// Commands that failed in its last run, in the order in which systemd runs them. Those of a reload do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_commands: Vec<UnitCommand>,
    /// Timeout of the commands of a mount, swap or socket in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// Properties of a service.
    pub service: Option<Service>,
    /// Properties of a timer.
    pub timer: Option<Timer>,
    /// Prerequisites of a service; read on the host, not recorded.
    #[serde(skip)]
    pub context: Context,
}

/// A command of a unit, with the result of its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitCommand {
    /// Its setting: `ExecStartPre`.
    pub setting: String,
    /// Program and arguments, secrets redacted.
    pub line: String,
    /// As [`Service::exit_code_kind`].
    pub exit_code_kind: i64,
    /// Exit status, or signal.
    pub exit_status: i64,
}

impl UnitCommand {
    /// Its program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

/// Files, directories and accounts that a service needs to start (systemd.exec(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// `EnvironmentFile=`, paths or patterns, without optional ones.
    pub environment_files: Vec<String>,
    /// `WorkingDirectory=`; empty if it is optional or a home directory.
    pub working_directory: String,
    /// `User=`; empty for root and for a dynamic user.
    pub user: String,
    /// `Group=`; empty for the group of the user and for a dynamic user.
    pub group: String,
    /// It has another root directory: its paths are not those of this host.
    pub own_root: bool,
    /// Settings with paths that must exist in its file system view, without optional ones: `ReadWritePaths`, `/srv/data`.
    pub sandbox_paths: Vec<(String, String)>,
    /// `LoadCredential=`: name and absolute path.
    pub credentials: Vec<(String, String)>,
    /// Directories that systemd creates before the start: `/run/app`, `/var/lib/app`.
    pub created: Vec<String>,
    /// `RequiresMountsFor=`, with the paths that systemd adds.
    pub mounts_for: Vec<String>,
    /// `PGDATA` in `Environment=`.
    pub pgdata: Option<String>,
    /// `Environment=`.
    pub environment: UnitEnvironment,
    /// `EnvironmentFile=`, paths or patterns, with optional ones.
    pub all_environment_files: Vec<String>,
}

/// Entries of `Environment=`, which may contain secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UnitEnvironment(Vec<String>);

impl UnitEnvironment {
    /// The entries: `NAME=value`.
    pub(in crate::probe) fn entries(&self) -> &[String] {
        &self.0
    }
}

impl std::fmt::Debug for UnitEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries", self.0.len())
    }
}

/// Properties of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `simple`, `exec`, `forking`, `oneshot`, `dbus`, `notify`, `idle`.
    pub kind: String,
    /// As [`Unit::result`].
    pub result: String,
    /// Restart=.
    pub restart: String,
    /// Number of automatic restarts since it was last started.
    pub restarts: u64,
    /// It stays active after its process has exited.
    pub remain_after_exit: bool,
    /// Exit of its main process: 1 exited, 2 killed, 3 dumped (`si_code` of `waitid(2)`); 0 not yet.
    pub exit_code_kind: i64,
    /// Exit status, or signal.
    pub exit_status: i64,
    /// PID of its main process; 0 without one.
    pub main_pid: i64,
    /// Commands of `ExecStart`=, with arguments, secrets redacted.
    pub exec_start: Vec<String>,
    /// User=; empty for root.
    pub user: String,
    /// Current number of tasks.
    pub tasks: Option<u64>,
    /// Limit of tasks.
    pub tasks_max: Option<u64>,
    /// `TimeoutStartSec`= in seconds; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_start_s: Option<u64>,
    /// `TimeoutStopSec`= in seconds; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_stop_s: Option<u64>,
    /// `RuntimeMaxSec`= in seconds; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_max_s: Option<u64>,
    /// `WatchdogSec`= in seconds; `None` without a watchdog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_s: Option<u64>,
    /// `PIDFile`=; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid_file: String,
    /// `BusName`=; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bus_name: String,
    /// The command that runs now beside the main process (`ControlPID`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<UnitCommand>,
    /// The last reload of its last run, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_reload: Option<FailedReload>,
}

/// A failed reload. systemd forgets it at the next reload and at the next start (`ReloadResult`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedReload {
    /// As [`Unit::result`].
    pub result: String,
    /// The command of `ExecReload=` that failed; `None` for a service that is reloaded by a signal, or if none was run.
    pub command: Option<UnitCommand>,
    /// Start of that command.
    pub began: Option<Timestamp>,
    /// Its end.
    pub ended: Option<Timestamp>,
}

/// Properties of a timer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timer {
    /// Unit it starts.
    pub unit: String,
    /// Last time it elapsed.
    pub last: Option<Timestamp>,
    /// Next time it elapses, by wall clock; `None` if it is relative to boot or not scheduled.
    pub next: Option<Timestamp>,
    /// It elapses at a time relative to boot.
    pub next_since_boot: bool,
    /// `OnCalendar`= as normalized by systemd: `*-*-* 06:00:00`.
    pub calendar: Vec<String>,
    /// `OnUnitActiveSec`= and `OnUnitInactiveSec`=, in seconds.
    pub every_s: Vec<u64>,
    /// `RandomizedDelaySec`= in seconds.
    pub random_delay_s: u64,
    /// It also elapses without a run of its unit: `OnBootSec`=, `OnStartupSec`=, `OnActiveSec`=, `OnClockChange`=,
    /// `OnTimezoneChange`=.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub starts_by_itself: bool,
}

type Properties = HashMap<String, OwnedVariant>;

impl Unit {
    pub(super) fn from_properties(p: &Properties) -> Self {
        let (_, load_error) = p.get("LoadError").and_then(|v| <(String, String)>::try_from(v.clone()).ok()).unwrap_or_default();
        let checked = number(p, "ConditionTimestamp").is_some_and(|t| t > 0);
        Self {
            name: text(p, "Id"),
            load: text(p, "LoadState"),
            load_error,
            active: text(p, "ActiveState"),
            sub: text(p, "SubState"),
            file_state: text(p, "UnitFileState"),
            fragment: text(p, "FragmentPath"),
            invocation: invocation(p),
            need_reload: flag(p, "NeedDaemonReload"),
            transient: flag(p, "Transient"),
            condition: checked.then(|| flag(p, "ConditionResult") && flag(p, "AssertResult")),
            requires: ["Requires", "Requisite", "BindsTo"].iter().flat_map(|n| list(p, n)).collect(),
            wanted_by: ["WantedBy", "RequiredBy", "BoundBy", "UpheldBy"].iter().flat_map(|n| list(p, n)).collect(),
            triggered_by: list(p, "TriggeredBy"),
            triggers: list(p, "Triggers"),
            active_since: moment(p, "ActiveEnterTimestamp"),
            active_until: moment(p, "ActiveExitTimestamp"),
            inactive_since: moment(p, "InactiveEnterTimestamp"),
            changed: moment(p, "StateChangeTimestamp"),
            starting_since: moment(p, "InactiveExitTimestamp"),
            ..Self::default()
        }
    }

    /// Adds the properties of its type; `kind` is the suffix of its name. `general` are the common ones.
    pub(super) fn add_own(&mut self, kind: &str, general: &Properties, own: &Properties) {
        match kind {
            "service" => {
                self.service = Some(Service::from_properties(own));
                self.failed_commands = failed_commands(own, SERVICE_COMMANDS);
                self.context = Context::from_properties(general, own);
            }
            "timer" => {
                self.timer = Some(Timer::from_properties(own));
                self.result = text(own, "Result");
            }
            // every type that can fail has a Result property; others need none
            _ => {
                self.result = text(own, "Result");
                self.failed_commands = failed_commands(own, OTHER_COMMANDS);
                self.timeout_s = seconds(own, "TimeoutUSec");
            }
        }
    }

    /// Result of its last run, for every type of unit.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.service.as_ref().map_or(&self.result, |s| &s.result)
    }
}

impl Service {
    pub(super) fn from_properties(p: &Properties) -> Self {
        Self {
            kind: text(p, "Type"),
            result: text(p, "Result"),
            restart: text(p, "Restart"),
            restarts: number(p, "NRestarts").unwrap_or(0),
            remain_after_exit: flag(p, "RemainAfterExit"),
            exit_code_kind: signed(p, "ExecMainCode"),
            exit_status: signed(p, "ExecMainStatus"),
            main_pid: number(p, "MainPID").and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
            exec_start: p.get("ExecStart").map(programs).unwrap_or_default(),
            user: text(p, "User"),
            tasks: number(p, "TasksCurrent").filter(|n| *n != u64::MAX),
            tasks_max: number(p, "TasksMax").filter(|n| *n != u64::MAX),
            timeout_start_s: seconds(p, "TimeoutStartUSec"),
            timeout_stop_s: seconds(p, "TimeoutStopUSec"),
            runtime_max_s: seconds(p, "RuntimeMaxUSec"),
            watchdog_s: seconds(p, "WatchdogUSec"),
            pid_file: text(p, "PIDFile"),
            bus_name: text(p, "BusName"),
            control: control_command(p),
            failed_reload: failed_reload(p),
        }
    }

    /// The program of the first `ExecStart`=.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.exec_start.first().map(|c| c.split(' ').next().unwrap_or(c))
    }
}

impl Timer {
    pub(super) fn from_properties(p: &Properties) -> Self {
        let calendar = p.get("TimersCalendar").and_then(|v| <Vec<(String, String, u64)>>::try_from(v.clone()).ok());
        let monotonic = p.get("TimersMonotonic").and_then(|v| <Vec<(String, u64, u64)>>::try_from(v.clone()).ok());
        let monotonic = monotonic.unwrap_or_default();
        let repeats = |base: &str| base.starts_with("OnUnitActive") || base.starts_with("OnUnitInactive");
        let starts_by_itself =
            monotonic.iter().any(|(base, ..)| !repeats(base)) || flag(p, "OnClockChange") || flag(p, "OnTimezoneChange");
        Self {
            unit: text(p, "Unit"),
            last: moment(p, "LastTriggerUSec"),
            next: moment(p, "NextElapseUSecRealtime"),
            next_since_boot: number(p, "NextElapseUSecMonotonic").is_some_and(|n| n > 0 && n != u64::MAX),
            calendar: calendar.unwrap_or_default().into_iter().map(|(_, spec, _)| spec).collect(),
            every_s: monotonic.into_iter().filter(|(base, ..)| repeats(base)).map(|(_, usec, _)| usec / 1_000_000).collect(),
            random_delay_s: number(p, "RandomizedDelayUSec").unwrap_or(0) / 1_000_000,
            starts_by_itself,
        }
    }
}

/// Settings with paths in the file system view of a service.
const SANDBOX_LISTS: &[&str] = &["ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths"];
const SANDBOX_BINDS: &[&str] = &["BindPaths", "BindReadOnlyPaths"];

/// Settings with directories that systemd creates, and where.
const CREATED: &[(&str, &str)] = &[
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];

impl Context {
    fn from_properties(general: &Properties, p: &Properties) -> Self {
        let dynamic = flag(p, "DynamicUser");
        let account = |name: &str| if dynamic { String::new() } else { text(p, name) };
        let mut sandbox_paths = Vec::new();
        for setting in SANDBOX_LISTS {
            sandbox_paths.extend(list(p, setting).into_iter().map(|path| ((*setting).to_owned(), path)));
        }
        for setting in SANDBOX_BINDS {
            sandbox_paths.extend(binds(p, setting).into_iter().map(|path| ((*setting).to_owned(), path)));
        }
        // `-`: it may be missing; `+`: relative to the root directory of the service
        sandbox_paths.retain(|(_, path)| path.starts_with('/'));
        let mut created = Vec::new();
        for (setting, parent) in CREATED {
            created.extend(list(p, setting).into_iter().map(|directory| format!("{parent}/{directory}")));
        }
        let mut credentials = credentials(p);
        credentials.retain(|(_, path)| path.starts_with('/'));
        // `!`: it may be missing; `~`: the home directory of the user
        let directory = text(p, "WorkingDirectory");
        Self {
            environment_files: environment_files(p),
            working_directory: if directory.starts_with('/') { directory } else { String::new() },
            user: account("User"),
            group: account("Group"),
            own_root: !text(p, "RootDirectory").is_empty() || !text(p, "RootImage").is_empty(),
            sandbox_paths,
            credentials,
            created,
            mounts_for: list(general, "RequiresMountsFor"),
            all_environment_files: all_environment_files(p).into_iter().map(|(path, _)| path).collect(),
            environment: UnitEnvironment(list(p, "Environment")),
            pgdata: list(p, "Environment").into_iter().find_map(|v| v.strip_prefix("PGDATA=").map(str::to_owned)),
        }
    }
}

/// Commands of a service in the order of a run; `ExecReload` is none of a start.
const SERVICE_COMMANDS: &[&str] = &["ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecStop", "ExecStopPost"];

/// Commands of mounts, swaps and sockets.
const OTHER_COMMANDS: &[&str] = &[
    "ExecMount",
    "ExecRemount",
    "ExecUnmount",
    "ExecActivate",
    "ExecDeactivate",
    "ExecStartPre",
    "ExecStartPost",
    "ExecStopPre",
    "ExecStopPost",
];

/// `si_code` of a process that exited, and of processes terminated by a signal (`waitid(2)`).
const EXITED: i64 = 1;
const TERMINATED: [i64; 2] = [2, 3];

fn has_failed(command: &UnitCommand) -> bool {
    (command.exit_code_kind == EXITED && command.exit_status != 0) || TERMINATED.contains(&command.exit_code_kind)
}

/// The commands that failed in the last run, without those with a failure that systemd ignores (`-`).
fn failed_commands(p: &Properties, settings: &[&str]) -> Vec<UnitCommand> {
    let all = settings.iter().flat_map(|setting| commands(p, setting));
    all.filter(|parsed| !parsed.ignored && has_failed(&parsed.command)).map(|parsed| parsed.command).collect()
}

/// The command that runs as `ControlPID`, also of a reload.
fn control_command(p: &Properties) -> Option<UnitCommand> {
    let pid = number(p, "ControlPID").filter(|pid| *pid > 0)?;
    let mut all = SERVICE_COMMANDS.iter().chain(&["ExecReload"]).flat_map(|setting| commands(p, setting));
    all.find(|parsed| parsed.pid == pid).map(|parsed| parsed.command)
}

/// The last reload, if it failed. A running or successful one has the result `success`; systemd before 244 reports none.
fn failed_reload(p: &Properties) -> Option<FailedReload> {
    let result = text(p, "ReloadResult");
    if result.is_empty() || result == "success" {
        return None;
    }
    // an entry after the failed one has the result of an earlier reload
    let failed = commands(p, "ExecReload").into_iter().filter(|parsed| !parsed.ignored && has_failed(&parsed.command));
    let last = failed.max_by_key(|parsed| parsed.ended);
    let (began, ended) = last.as_ref().map(|parsed| (parsed.began, parsed.ended)).unwrap_or_default();
    Some(FailedReload { result, command: last.map(|parsed| parsed.command), began, ended })
}

/// An entry of `ExecStart` and similar properties.
struct ParsedCommand {
    command: UnitCommand,
    /// Its failure is ignored.
    ignored: bool,
    pid: u64,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// An array of (path, argv, ignore, start and end by wall clock and by monotonic clock, pid, code, status).
fn commands(p: &Properties, setting: &str) -> Vec<ParsedCommand> {
    let Some(Variant::Array(items)) = p.get(setting).map(|v| &**v) else { return Vec::new() };
    let parsed = |item: &Variant<'_>| -> Option<ParsedCommand> {
        let Variant::Structure(fields) = item else { return None };
        let fields = fields.fields();
        let signed = |at: usize| if let Some(Variant::I32(n)) = fields.get(at) { i64::from(*n) } else { 0 };
        let command = UnitCommand {
            setting: setting.to_owned(),
            line: command_line(item)?,
            exit_code_kind: signed(8),
            exit_status: signed(9),
        };
        let ignored = matches!(fields.get(2), Some(Variant::Bool(true)));
        let pid = if let Some(Variant::U32(pid)) = fields.get(7) { u64::from(*pid) } else { 0 };
        let time = |at: usize| if let Some(Variant::U64(usec)) = fields.get(at) { time_of(*usec) } else { None };
        Some(ParsedCommand { command, ignored, pid, began: time(3), ended: time(5) })
    };
    items.iter().filter_map(parsed).collect()
}

/// Required files of `EnvironmentFile=`.
fn environment_files(p: &Properties) -> Vec<String> {
    all_environment_files(p).into_iter().filter(|(_, optional)| !optional).map(|(path, _)| path).collect()
}

/// Files of `EnvironmentFile=`: an array of (path, optional).
fn all_environment_files(p: &Properties) -> Vec<(String, bool)> {
    p.get("EnvironmentFiles").and_then(|v| <Vec<(String, bool)>>::try_from(v.clone()).ok()).unwrap_or_default()
}

/// `LoadCredential=`: an array of (name, path).
fn credentials(p: &Properties) -> Vec<(String, String)> {
    p.get("LoadCredential").and_then(|v| <Vec<(String, String)>>::try_from(v.clone()).ok()).unwrap_or_default()
}

/// Sources of bind mounts that must exist: an array of (source, destination, optional, flags).
fn binds(p: &Properties, name: &str) -> Vec<String> {
    let all = p.get(name).and_then(|v| <Vec<(String, String, bool, u64)>>::try_from(v.clone()).ok()).unwrap_or_default();
    all.into_iter().filter(|(.., optional, _)| !optional).map(|(source, ..)| source).collect()
}

/// A duration in microseconds as seconds, rounded up; 0 and all ones are no limit.
fn seconds(p: &Properties, name: &str) -> Option<u64> {
    number(p, name).filter(|n| *n != 0 && *n != u64::MAX).map(|usec| usec.div_ceil(1_000_000))
}

pub(super) fn text(p: &Properties, name: &str) -> String {
    match p.get(name).map(|v| &**v) {
        Some(Variant::Str(s)) => s.to_string(),
        _ => String::new(),
    }
}

pub(super) fn number(p: &Properties, name: &str) -> Option<u64> {
    match p.get(name).map(|v| &**v)? {
        Variant::U64(n) => Some(*n),
        Variant::U32(n) => Some(u64::from(*n)),
        _ => None,
    }
}

fn signed(p: &Properties, name: &str) -> i64 {
    match p.get(name).map(|v| &**v) {
        Some(Variant::I32(n)) => i64::from(*n),
        _ => 0,
    }
}

fn flag(p: &Properties, name: &str) -> bool {
    matches!(p.get(name).map(|v| &**v), Some(Variant::Bool(true)))
}

fn list(p: &Properties, name: &str) -> Vec<String> {
    p.get(name).and_then(|v| <Vec<String>>::try_from(v.clone()).ok()).unwrap_or_default()
}

/// Microseconds since 1970; 0 is never, all ones is infinity.
pub(super) fn moment(p: &Properties, name: &str) -> Option<Timestamp> {
    number(p, name).and_then(time_of)
}

fn time_of(usec: u64) -> Option<Timestamp> {
    let usec = Some(usec).filter(|n| *n != 0 && *n != u64::MAX)?;
    Timestamp::from_microsecond(i64::try_from(usec).ok()?).ok()
}

fn invocation(p: &Properties) -> String {
    let bytes = p.get("InvocationID").and_then(|v| <Vec<u8>>::try_from(v.clone()).ok()).unwrap_or_default();
    quantity::hex(&bytes)
}

/// The command lines of `ExecStart`=.
fn programs(value: &OwnedVariant) -> Vec<String> {
    let Variant::Array(commands) = &**value else { return Vec::new() };
    commands.iter().filter_map(command_line).collect()
}

/// Program and arguments of an entry of `ExecStart`= (see [`commands`]), secrets redacted.
fn command_line(item: &Variant<'_>) -> Option<String> {
    let Variant::Structure(fields) = item else { return None };
    let (Variant::Str(path), Variant::Array(argv)) = (fields.fields().first()?, fields.fields().get(1)?) else { return None };
    let arguments = argv.iter().skip(1).filter_map(|a| if let Variant::Str(s) = a { Some(s.to_string()) } else { None });
    let line = std::iter::once(path.to_string()).chain(arguments).collect::<Vec<_>>().join(" ");
    Some(Redactor::default().scrub(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(list: &[(&str, Variant<'_>)]) -> Properties {
        list.iter().filter_map(|(k, v)| Some(((*k).to_owned(), OwnedVariant::try_from(v).ok()?))).collect()
    }

    #[test]
    fn unchecked_condition_is_none() {
        let never = properties(&[("ConditionTimestamp", 0_u64.into()), ("ConditionResult", false.into())]);
        assert_eq!(Unit::from_properties(&never).condition, None);
        let no =
            properties(&[("ConditionTimestamp", 5_u64.into()), ("ConditionResult", false.into()), ("AssertResult", true.into())]);
        assert_eq!(Unit::from_properties(&no).condition, Some(false));
    }

    #[test]
    fn zero_and_infinity_are_no_timestamps() {
        let p = properties(&[("a", 0_u64.into()), ("b", u64::MAX.into()), ("c", 1_000_000_u64.into())]);
        assert_eq!((moment(&p, "a"), moment(&p, "b"), moment(&p, "d")), (None, None, None));
        assert_eq!(moment(&p, "c").map(Timestamp::as_second), Some(1));
    }

    /// An entry of `ExecStartPre`.
    type Entry = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

    fn entry(program: &str, ignored: bool, pid: u32, code: i32, status: i32) -> Entry {
        (program.to_owned(), vec![program.to_owned(), "-t".to_owned()], ignored, 0, 0, 0, 0, pid, code, status)
    }

    #[test]
    fn failed_commands_have_their_setting_and_status() {
        let pre = vec![entry("/usr/bin/test", false, 0, 1, 0), entry("/usr/sbin/nginx", false, 0, 1, 1)];
        let post = vec![entry("/bin/ignored", true, 0, 1, 1), entry("/bin/killed", false, 0, 2, 9)];
        let reload = vec![entry("/bin/reload", false, 77, 1, 1)];
        let p = properties(&[
            ("ExecStartPre", pre.into()),
            ("ExecStartPost", post.into()),
            ("ExecReload", reload.into()),
            ("ControlPID", 77_u32.into()),
        ]);
        let failed = failed_commands(&p, SERVICE_COMMANDS);
        let failed: Vec<(&str, &str, i64)> =
            failed.iter().map(|c| (c.setting.as_str(), c.line.as_str(), c.exit_status)).collect();
        assert_eq!(failed, [("ExecStartPre", "/usr/sbin/nginx -t", 1), ("ExecStartPost", "/bin/killed -t", 9)]);
        assert_eq!(control_command(&p).map(|c| c.setting), Some("ExecReload".to_owned()));
    }

    #[test]
    fn failed_reload_names_the_last_failed_command() {
        let times = |mut entry: Entry, usec: u64| {
            (entry.3, entry.5) = (usec, usec + 500_000);
            entry
        };
        let reload = vec![
            times(entry("/usr/sbin/haproxy", false, 0, 1, 1), 9_000_000),
            // it was not run by the last reload
            times(entry("/bin/kill", false, 0, 1, 1), 2_000_000),
        ];
        let of =
            |result: &str| failed_reload(&properties(&[("ExecReload", reload.clone().into()), ("ReloadResult", result.into())]));
        let failed = of("exit-code").unwrap_or_default();
        assert_eq!(failed.command.map(|c| c.line).as_deref(), Some("/usr/sbin/haproxy -t"));
        assert_eq!(failed.began.map(Timestamp::as_second), Some(9));
        assert_eq!((of("success"), of("")), (None, None));
    }

    #[test]
    fn failed_reload_without_a_command() {
        let failed = failed_reload(&properties(&[("ReloadResult", "timeout".into())])).unwrap_or_default();
        assert_eq!((failed.result.as_str(), failed.command, failed.ended), ("timeout", None, None));
    }

    #[test]
    fn context_has_required_files_only() {
        let files = vec![("/etc/app.env".to_owned(), false), ("/etc/default/app".to_owned(), true)];
        let binds =
            vec![("/srv/in".to_owned(), "/in".to_owned(), false, 0_u64), ("/srv/out".to_owned(), "/out".to_owned(), true, 0)];
        let p = properties(&[
            ("EnvironmentFiles", files.into()),
            ("WorkingDirectory", "!/srv/app".into()),
            ("User", "app".into()),
            ("ReadWritePaths", vec!["/srv/data".to_owned(), "-/srv/cache".to_owned()].into()),
            ("BindPaths", binds.into()),
            ("StateDirectory", vec!["app".to_owned()].into()),
        ]);
        let context = Context::from_properties(&Properties::new(), &p);
        assert_eq!((context.environment_files, context.working_directory.as_str()), (vec!["/etc/app.env".to_owned()], ""));
        let paths: Vec<&str> = context.sandbox_paths.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!((paths, context.created), (vec!["/srv/data", "/srv/in"], vec!["/var/lib/app".to_owned()]));
        let dynamic = properties(&[("DynamicUser", true.into()), ("User", "app".into())]);
        assert_eq!(Context::from_properties(&Properties::new(), &dynamic).user, "");
    }

    #[test]
    fn timer_with_a_start_of_its_own() {
        let of = |base: &str| {
            let timers = vec![(base.to_owned(), 60_000_000_u64, 0_u64)];
            Timer::from_properties(&properties(&[("TimersMonotonic", timers.into())]))
        };
        let repeats = of("OnUnitActiveUSec");
        assert_eq!((repeats.every_s, repeats.starts_by_itself), (vec![60], false));
        assert!(of("OnBootUSec").starts_by_itself);
    }

    #[test]
    fn properties_of_unexpected_type_are_ignored() {
        let p = properties(&[
            ("Id", 5_u64.into()),
            ("NRestarts", "many".into()),
            ("ExecStart", "x".into()),
            ("Requires", 1_u32.into()),
        ]);
        let (unit, service) = (Unit::from_properties(&p), Service::from_properties(&p));
        assert_eq!((unit.name.as_str(), unit.requires.len(), service.restarts, service.exec_start.len()), ("", 0, 0, 0));
    }
}
