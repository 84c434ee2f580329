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
    /// Last time it became active.
    pub active_since: Option<Timestamp>,
    /// Last time it stopped being active.
    pub active_until: Option<Timestamp>,
    /// Last time it became inactive or failed.
    pub inactive_since: Option<Timestamp>,
    /// Last change of its state.
    pub changed: Option<Timestamp>,
    /// Result of its last run: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, `watchdog`, …
    pub result: String,
    /// Properties of a service.
    pub service: Option<Service>,
    /// Properties of a timer.
    pub timer: Option<Timer>,
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
            active_since: moment(p, "ActiveEnterTimestamp"),
            active_until: moment(p, "ActiveExitTimestamp"),
            inactive_since: moment(p, "InactiveEnterTimestamp"),
            changed: moment(p, "StateChangeTimestamp"),
            result: String::new(),
            service: None,
            timer: None,
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
        let repeats = |base: &str| base.starts_with("OnUnitActive") || base.starts_with("OnUnitInactive");
        Self {
            unit: text(p, "Unit"),
            last: moment(p, "LastTriggerUSec"),
            next: moment(p, "NextElapseUSecRealtime"),
            next_since_boot: number(p, "NextElapseUSecMonotonic").is_some_and(|n| n > 0 && n != u64::MAX),
            calendar: calendar.unwrap_or_default().into_iter().map(|(_, spec, _)| spec).collect(),
            every_s: monotonic
                .unwrap_or_default()
                .into_iter()
                .filter(|(base, ..)| repeats(base))
                .map(|(_, usec, _)| usec / 1_000_000)
                .collect(),
            random_delay_s: number(p, "RandomizedDelayUSec").unwrap_or(0) / 1_000_000,
        }
    }
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
    let usec = number(p, name).filter(|n| *n != 0 && *n != u64::MAX)?;
    Timestamp::from_microsecond(i64::try_from(usec).ok()?).ok()
}

fn invocation(p: &Properties) -> String {
    let bytes = p.get("InvocationID").and_then(|v| <Vec<u8>>::try_from(v.clone()).ok()).unwrap_or_default();
    quantity::hex(&bytes)
}

/// `ExecStart`= is an array of (path, argv, ignore, 4 times, pid, code, status).
fn programs(value: &OwnedVariant) -> Vec<String> {
    let Variant::Array(commands) = &**value else { return Vec::new() };
    let command = |item: &Variant<'_>| -> Option<String> {
        let Variant::Structure(fields) = item else { return None };
        let (Variant::Str(path), Variant::Array(argv)) = (fields.fields().first()?, fields.fields().get(1)?) else { return None };
        let arguments = argv.iter().skip(1).filter_map(|a| if let Variant::Str(s) = a { Some(s.to_string()) } else { None });
        let line = std::iter::once(path.to_string()).chain(arguments).collect::<Vec<_>>().join(" ");
        Some(Redactor::default().scrub(&line))
    };
    commands.iter().filter_map(command).collect()
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
