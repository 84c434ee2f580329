//! The state of one unit, compared with its expected state.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Cited, Code, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Kind, MountRef, Object, Plan,
    Refusal, Risk, Role, Sample, Severity, quantity::percent,
};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::kmsg::OomKill;
use opsctl_core::probe::logs::{LogEvidence, journal_of};
use opsctl_core::probe::systemd::{self, JournalLine, Listed, Unit};
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::data_directory::data_directory;
use super::decode::TimedOut;
use super::fault::Fault;
use super::reload::{self, RELOAD_FAILED, Reload};
use super::{Settings, failed, inactive, names, plans, prerequisites, restarting, run, stuck};
use crate::shared::dependencies::{NEEDED, NEEDED_TO_START, NO_ROOM};
use crate::shared::log_reason::{because, with_log};
use crate::shared::obstacle::{Failed, Obstacle, of_log};
use crate::shared::servers::READ_TIMEOUT;

pub(super) const FAILED: Code = Code {
    id: "systemd.unit-failed",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a unit failed (warn; crit for essential units: engine, network, firewall, databases, time, backups; info for units that fail on healthy hosts)",
    hint: "find the cause in its journal: `journalctl -u UNIT -b`; fix it, then restart the unit",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Unit, "unit failed"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "unit failed"),
    ],
    depends_on: &[NO_ROOM, NEEDED_TO_START, NEEDED],
};
pub(super) const RESTART_LOOP: Code = Code {
    id: "systemd.restart-loop",
    severities: &[Severity::Warn, Severity::Crit],
    when: "systemd restarted a service {restarts_1min} times in a minute, over {restarts_5min} times in 5 min or {restarts_hour} times in an hour, or the service is down and waits for a restart (warn; crit after the third time, or for an essential unit)",
    hint: "`systemctl --failed` does not list it: read the journal of its last run; another restart does not help",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Unit, "unit restarts repeatedly"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "unit restarts repeatedly"),
    ],
    depends_on: &[NO_ROOM, NEEDED_TO_START, NEEDED],
};
pub(super) const STUCK: Code = Code {
    id: "systemd.stuck",
    severities: &[Severity::Warn],
    when: "a service other than a oneshot job has been starting or stopping for over {stuck_min}",
    hint: "its journal shows the last step: `journalctl -u UNIT -b`; `systemctl list-jobs` lists the jobs that wait for it",
    impacts: &[Impact::confirmed(Role::Down, KeyKind::Unit, "unit does not complete its start or stop")],
    ..Code::BASE
};
pub(super) const ENABLED_INACTIVE: Code = Code {
    id: "systemd.enabled-inactive",
    severities: &[Severity::Info, Severity::Warn],
    when: "a service, socket, path, mount or swap is enabled in an active unit and is inactive: a required unit is not active, it was stopped, it was never started, or an ordering cycle removed its start from the boot (info if it exited with 0 and is of a type that may, or if it is no service and was never started since its package was installed)",
    hint: "start it, or disable it if it is meant to be inactive",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Unit, "unit is not started"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "unit is not started"),
    ],
    ..Code::BASE
};
pub(super) const BAD_UNIT: Code = Code {
    id: "systemd.bad-unit",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a unit file cannot be loaded, or a unit that should start at boot has no unit file (crit for essential units)",
    hint: "`systemd-analyze verify UNIT` shows the faulty line; `systemctl --failed` does not list the unit",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Unit, "unit cannot be loaded"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "unit cannot be loaded"),
    ],
    ..Code::BASE
};
pub(super) const MASKED: Code = Code {
    id: "systemd.masked",
    severities: &[Severity::Warn],
    when: "an essential unit is masked, and no alternative is active",
    hint: "`systemctl unmask UNIT` if this is not intended",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Unit, "unit is masked"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "unit is masked"),
    ],
    ..Code::BASE
};
pub(super) const NEED_RELOAD: Code = Code {
    id: "systemd.need-reload",
    severities: &[Severity::Warn],
    when: "a unit file was changed after systemd loaded it: its next start will use the new file",
    hint: "`systemctl daemon-reload`; then restart it when that is safe",
    ..Code::BASE
};
pub(super) const TASKS: Code = Code {
    id: "systemd.tasks",
    severities: &[Severity::Warn],
    when: "a service uses {tasks_warn_percent} of its limit of processes and threads (TasksMax=)",
    hint: "find the thread or process leak, or raise TasksMax=",
    ..Code::BASE
};

pub(super) const RESTART: FixSpec = FixSpec { id: "systemd.restart", risk: Risk::R2, title: "restart the unit" };
pub(super) const RESET_FAILED: FixSpec =
    FixSpec { id: "systemd.reset-failed", risk: Risk::R1, title: "clear the failed state of the unit; nothing is started" };
pub(super) const START: FixSpec = FixSpec { id: "systemd.start-enabled", risk: Risk::R2, title: "start the unit" };
pub(super) const RELOAD: FixSpec = FixSpec { id: "systemd.daemon-reload", risk: Risk::R1, title: "reload all unit files" };

pub(super) static SPEC: CheckSpec = CheckSpec {
    id: "systemd.unit",
    title: "systemd units are in their expected state",
    codes: &[FAILED, RESTART_LOOP, STUCK, ENABLED_INACTIVE, RELOAD_FAILED, BAD_UNIT, MASKED, NEED_RELOAD, TASKS],
    fixes: &[RESTART, RESET_FAILED, START, RELOAD],
    timeout: Duration::from_secs(9),
};

/// A service that has run longer than this is not in a restart loop.
const STABLE_RUN: SignedDuration = SignedDuration::from_hours(1);

/// Lines of the journal in the evidence; more are read, and their reason is part of it.
const RECORDED_LINES: usize = 20;

pub(super) struct UnitCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    pub(super) unit: Unit,
    /// The pending job: `start`, `restart`; empty without one.
    pub(super) job: String,
    /// The boot its restart counter belongs to; empty for a unit that does not restart.
    pub(super) boot_id: String,
    /// States of the units it requires or starts, that want or trigger it, or that do the same job.
    pub(super) others: BTreeMap<String, String>,
    /// Its last log lines in this boot, if the unit is suspicious.
    pub(super) journal: Vec<JournalLine>,
    /// The lines that give the reason of the end of its last run, from its journal and from the log file of its server.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) log: LogEvidence,
    /// The operation of systemd that timed out in its last run.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) timed_out: TimedOut,
    /// Faults of its prerequisites, in the order of a start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) faults: Vec<Fault>,
    /// The reason in its log, checked again now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_obstacle: Option<Obstacle>,
    /// The units of the ordering cycle for which systemd removed its start from the boot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cycle: Vec<String>,
    /// The reason of a failed reload of a service that runs.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) reload: Reload,
    /// Automatic restarts by systemd in the last hour.
    pub(super) restarts: Vec<Timestamp>,
    /// Its restart counter at the oldest run of opsctl in the last hour; a manual restart resets it to 0.
    pub(super) before: Option<Sample>,
    /// Why the journal could not be read.
    pub(super) journal_gap: Option<String>,
    /// The program of its `ExecStart=` does not exist.
    pub(super) program_missing: bool,
    /// The unit is linked in a `.wants` or `.requires` directory in /etc.
    pub(super) wanted_here: bool,
    /// Rules of the container engine in the packet filter, if the unit is a failed firewall.
    pub(super) engine_rules: Vec<String>,
    /// Why these rules could not be read.
    pub(super) engine_rules_gap: Option<String>,
    /// Whether opsctl was started by a unit that is still starting.
    pub(super) caller: Caller,
    /// The last OOM kill in its control group, if the unit failed by a signal.
    pub(super) oom: Option<OomKill>,
    /// Filesystems, if its journal reports a full one, in recordings from before [`Evidence::log`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<MountRef>,
}

/// Whether the last run ended with an error of its own: the last error in the log of a unit that was stopped or killed is no reason
/// of its end.
pub(super) fn ended_with_error(unit: &Unit) -> bool {
    !matches!(unit.outcome(), "success" | "signal" | "oom-kill" | "watchdog")
        && (unit.active == "failed" || !unit.outcome().is_empty())
}

/// Whether a part of the evidence is absent.
fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

/// The unit that runs opsctl. opsctl cannot wait for a unit that waits for opsctl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Caller {
    /// opsctl was not started by a starting unit.
    #[default]
    Nobody,
    /// By another unit: a waiting job may wait for that unit, and so for opsctl.
    AnotherUnit,
    /// By this unit.
    Itself,
}

impl Check for UnitCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.unit_targets(|u| u.kind() != "timer" || u.active == "failed")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let systemd = cx.systemd()?;
        let unit = (*systemd.unit(&target.name).await?).clone();
        let listed = systemd.units().await?;
        let job = listed.iter().find(|l| l.name == unit.name).map(|l| l.job.clone()).unwrap_or_default();
        let mut e = Evidence { unit, job, ..Evidence::default() };
        let own = host::own_units().await?;
        e.caller = if own.contains(&e.unit.name) {
            Caller::Itself
        } else if listed.iter().any(|l| !l.job.is_empty() && own.contains(&l.name)) {
            Caller::AnotherUnit
        } else {
            Caller::Nobody
        };
        e.others = others(&e.unit, &listed);
        let known = cx.inventory.systemd.iter().flat_map(|s| &s.units).find(|u| u.name == e.unit.name);
        e.wanted_here = e.unit.load != "loaded" && known.is_some_and(|u| u.file_state == "enabled");
        if is_restarting(&e.unit, clock::now()) {
            e.boot_id = host::read_info().await.boot_id;
            e.before = cx.history.oldest(&object(&e.unit.name, &e.boot_id), "restarts", STABLE_RUN.as_secs());
            keep(systemd::restarts(&e.unit.name).await, &mut e.restarts, &mut e.journal_gap);
        }
        let inactive = e.unit.active == "inactive" && (inactive::should_run(&e) || inactive::never_ran(&e));
        let waiting = e.unit.sub.starts_with("auto-restart") || stuck::lasting(&self.settings, clock::now(), &e.unit).is_some();
        if e.unit.active == "failed" || inactive || waiting || !e.restarts.is_empty() {
            read_reason(cx, &mut e).await;
        }
        e.reload = Box::pin(reload::read(cx, &e.unit)).await;
        if e.unit.active == "failed" {
            if let Some(program) = e.unit.service.as_ref().and_then(|s| s.program()).map(str::to_owned) {
                let from = program.clone();
                let read = blocking::run("a program", &from, READ_TIMEOUT, move |io| systemd::program_is_missing(io, &program));
                // a program that cannot be examined is not missing
                e.program_missing = read.await.unwrap_or(false);
            }
            e.oom = oom(cx, &e.unit).await;
            // read even if the engine does not answer: its rules exist regardless
            if names::is_firewall(&e.unit.name) {
                match cx.firewall().await {
                    Ok(firewall) => e.engine_rules = firewall.engine_rules(),
                    Err(why) => e.engine_rules_gap = Some(why.to_string()),
                }
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut j = Judgement::default();
        if moving(e) {
            let pending = if e.job.is_empty() {
                format!("{} ({})", e.unit.name, e.unit.sub)
            } else {
                format!("{} to {}", e.unit.name, e.job)
            };
            j.pending.push(pending);
        }
        let s = &self.settings;
        let found = [
            failed::judge(s, judged, e),
            restarting::judge(s, judged, e),
            stuck::judge(s, judged, e),
            inactive::judge(s, judged, e),
            reload::judge(s, judged, &e.unit, &e.reload),
            bad_unit(s, e),
            masked(s, e),
            need_reload(e),
            tasks(s, e),
        ];
        j.findings = found.into_iter().flatten().collect();
        if j.pending.is_empty() && j.findings.iter().any(|f| f.code == RESTART_LOOP.id) {
            j.pending.push(format!("{} to stay up", e.unit.name));
        }
        if let Some(service) = e.unit.service.as_ref().filter(|_| !e.boot_id.is_empty()) {
            j.samples.push(Sample {
                object: object(&e.unit.name, &e.boot_id),
                metric: "restarts".to_owned(),
                at: judged.taken_at,
                value: service.restarts as f64,
            });
        }
        // an unreadable journal is a gap only for a unit that is or may be faulty
        let needed = !e.restarts.is_empty() || restarting::suspected(judged.taken_at, e);
        j.gaps.extend(e.journal_gap.clone().filter(|_| needed && j.findings.is_empty()));
        j
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        plans::plan(fix, &SPEC, finding, judged, e)
    }
}

/// Reads the reason of the end of the last run: its log, and the prerequisites of a start.
async fn read_reason(cx: &ProbeCx, e: &mut Evidence) {
    let mut lines = Vec::new();
    keep(journal_of(&e.unit.name).await, &mut lines, &mut e.journal_gap);
    let ended = if e.unit.active == "failed" { None } else { e.restarts.last().copied() };
    let last_run = run::last(&lines, ended);
    // relative paths in the log of a database are in its data directory, those of other services in their working directory
    let data = data_directory(&e.unit).await;
    let working = Some(e.unit.context.working_directory.as_str()).filter(|d| !d.is_empty());
    let directory = data.as_ref().map(|data| data.path.as_str()).or(working).unwrap_or("/");
    e.log = cx.log_of_unit(&e.unit.name, last_run, Some(directory)).await;
    // a server of the unit itself does not explain its failure
    let own: Vec<&String> =
        cx.inventory.servers.iter().filter(|s| s.unit.as_ref() == Some(&e.unit.name)).map(|s| &s.id).collect();
    e.log.needed.retain(|object| *object != e.unit.name && !own.contains(&object));
    e.timed_out = TimedOut::of(last_run);
    e.cycle = run::ordering_cycle(&e.unit, &lines);
    e.faults = prerequisites::read(cx, &e.unit, data.as_ref(), &e.log).await;
    if ended_with_error(&e.unit) {
        e.log_obstacle = Box::pin(of_log(cx, Failed::Unit(&e.unit), &e.log)).await;
    }
    let recorded = lines.len().saturating_sub(RECORDED_LINES);
    e.journal = lines.split_off(recorded);
}

/// The OOM kill of the unit, from the kernel log. The control group ends with the unit's name even if
/// systemd itself runs in a container.
async fn oom(cx: &ProbeCx, unit: &Unit) -> Option<OomKill> {
    let service = unit.service.as_ref()?;
    let killed = service.result == "oom-kill" || service.exit_status == 9 || service.exit_status == 137;
    let kills = if killed { cx.kernel_log.oom_kills().await.ok()? } else { return None };
    let group = format!("/{}", unit.name);
    // one minute of tolerance: the clock of the kernel log differs from the wall clock
    let since = unit.inactive_since?.checked_sub(SignedDuration::from_mins(1)).ok()?;
    // a group below that of another service was delegated to a user and has a name of their choice
    let own =
        |path: &str| path.strip_suffix(&group).is_some_and(|above| !above.split('/').any(|part| part.ends_with(".service")));
    kills.iter().rfind(|k| own(&k.victim_cgroup) && k.at >= since).cloned()
}

/// The history key of the restart counter of a unit in one boot.
fn object(unit: &str, boot_id: &str) -> String {
    format!("unit:{unit}@{boot_id}")
}

/// Stores the lines, or the reason of a failed read.
fn keep<T>(read: Result<Vec<T>, ProbeError>, lines: &mut Vec<T>, gap: &mut Option<String>) {
    match read {
        Ok(read) => *lines = read,
        Err(why) => *gap = Some(why.to_string()),
    }
}

pub(super) fn others(unit: &Unit, listed: &[Listed]) -> BTreeMap<String, String> {
    let related = unit.requires.iter().chain(&unit.wanted_by).chain(&unit.triggered_by).chain(&unit.triggers);
    let related = related.map(String::as_str);
    let related: Vec<&str> = related.chain(names::stand_ins(&unit.name).iter().copied()).filter(|n| *n != unit.name).collect();
    let state = |l: &Listed| if l.load == "loaded" { l.active.clone() } else { l.load.clone() };
    listed.iter().filter(|l| related.contains(&l.name.as_str())).map(|l| (l.name.clone(), state(l))).collect()
}

/// Whether the service may be between two runs, or in a short one.
fn is_restarting(unit: &Unit, now: Timestamp) -> bool {
    let Some(service) = &unit.service else { return false };
    let young = unit.changed.is_some_and(|t| now.duration_since(t) < STABLE_RUN);
    unit.sub.starts_with("auto-restart") || (service.restarts > 0 && young)
}

/// Whether the unit is changing its state.
fn moving(e: &Evidence) -> bool {
    let changing = matches!(e.unit.active.as_str(), "activating" | "deactivating" | "reloading");
    match e.caller {
        Caller::Itself => false,
        Caller::AnotherUnit => changing,
        Caller::Nobody => changing || !e.job.is_empty(),
    }
}

/// The subject of a unit's findings: name and invocation.
pub(super) fn subject(unit: &Unit) -> Object {
    let identity = if unit.invocation.is_empty() { unit.name.clone() } else { format!("{}@{}", unit.name, unit.invocation) };
    Object::new(Kind::Unit, unit.name.clone(), identity)
}

/// A finding about the unit, linked to it by its key.
pub(super) fn about(unit: &Unit, code: &'static Code, severity: Severity, message: String) -> Finding {
    Finding::new(code, severity, subject(unit), message)
}

/// Cites the log before all other evidence, and ties the finding to the objects that its lines name. The hint of a known reason
/// replaces the general one.
pub(super) fn with_journal(finding: Finding, e: &Evidence) -> Finding {
    let finding = if is_default(&e.log) { with_last_lines(finding, e) } else { with_log(finding, &e.log) };
    finding.cite_opt("journal", e.journal_gap.as_deref())
}

/// The same for evidence without [`Evidence::log`]: the last log lines, oldest first.
fn with_last_lines(mut finding: Finding, e: &Evidence) -> Finding {
    let last = |by_systemd: bool| {
        // lines of systemd with a path are warnings about the unit file, not the reason of a failure
        let relevant = |l: &&JournalLine| l.by_systemd == by_systemd && !(by_systemd && l.text.starts_with('/'));
        let lines: Vec<&str> = e.journal.iter().filter(relevant).map(|l| l.text.as_str()).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    };
    let own = last(false);
    // systemd's own lines repeat the finding: used only if the unit logged nothing
    let lines = if own.is_empty() { last(true) } else { own };
    if !lines.is_empty() {
        finding.evidence.insert(0, Cited { label: "journal".to_owned(), value: lines });
    }
    let cannot_write = |l: &&JournalLine| ["No space left on device", "Read-only file system"].iter().any(|w| l.text.contains(w));
    for line in e.journal.iter().filter(cannot_write) {
        let paths = line.text.split(|c: char| c.is_whitespace() || "'\"`:(),=".contains(c)).filter(|w| w.starts_with('/'));
        let holding = |path: &str| {
            let on = e.mounts.iter().filter(|m| std::path::Path::new(path).starts_with(&m.mountpoint));
            on.max_by_key(|m| m.mountpoint.len())
        };
        // without a path in the line the filesystem is unknown; most services write to the root filesystem
        let mounts: Vec<&MountRef> = paths.filter_map(holding).collect();
        let root = e.mounts.iter().filter(|m| m.mountpoint == "/" && mounts.is_empty());
        for mount in root.chain(mounts.iter().copied()) {
            finding = finding.key(KeyKind::Filesystem, &mount.dev);
        }
    }
    finding
}

/// Completes a message: the line of the log that gives the reason, and a fault of a prerequisite.
pub(super) fn explained(message: &str, e: &Evidence) -> String {
    let fault = e.faults.first();
    let line = because(&e.log).and_then(|line| {
        // systemd's line repeats the result
        let of_systemd = line.strip_prefix(&e.unit.name).and_then(|rest| rest.strip_prefix(": "));
        let names = |path: &str| line.contains(path);
        let repeats = fault.is_some_and(|f| of_systemd.is_some() || f.path().is_some_and(names))
            || (e.program_missing && e.unit.service.as_ref().and_then(|s| s.program()).is_some_and(names));
        let line = of_systemd.unwrap_or(&line).to_owned();
        (!repeats).then_some(line)
    });
    let fault = fault.filter(|f| !is_in(f, line.as_deref())).map(|f| format!("; {}", f.clause())).unwrap_or_default();
    match &line {
        Some(line) => format!("{message}: {line}{fault}"),
        None => format!("{message}{fault}"),
    }
}

/// Whether a line of the log has the same error of the configuration, with other prefixes.
fn is_in(fault: &Fault, line: Option<&str>) -> bool {
    let Fault::Configuration { error, .. } = fault else { return false };
    line.is_some_and(|line| line.contains(error.trim_start_matches("[emerg] ")))
}

/// Ties a finding to the faults of its prerequisites, cites them, and sets the hint of the first.
pub(super) fn with_faults(finding: Finding, e: &Evidence) -> Finding {
    let Some(first) = e.faults.first() else { return finding };
    let clauses: Vec<String> = e.faults.iter().map(Fault::clause).collect();
    let finding = e.faults.iter().fold(finding, |f, fault| fault.tied(f));
    finding.cite("prerequisites", clauses.join("; ")).hint(first.hint(&e.unit.fragment))
}

fn bad_unit(s: &Settings, e: &Evidence) -> Option<Finding> {
    let unit = &e.unit;
    let message = match unit.load.as_str() {
        "bad-setting" | "error" => {
            let why = if unit.load_error.is_empty() { unit.load.clone() } else { unit.load_error.clone() };
            format!("{} cannot be loaded: {why}", unit.name)
        }
        "not-found" if e.wanted_here => format!("{} should start at boot and has no unit file", unit.name),
        _ => return None,
    };
    let severity = if names::any(&s.critical_units, &unit.name) { Severity::Crit } else { Severity::Warn };
    Some(about(unit, &BAD_UNIT, severity, message).cite("file", &unit.fragment))
}

fn masked(s: &Settings, e: &Evidence) -> Option<Finding> {
    let name = &e.unit.name;
    let replaced = names::stand_ins(name).iter().any(|other| e.others.get(*other).is_some_and(|state| state == "active"));
    let masked = e.unit.load == "masked" || e.unit.file_state == "masked";
    // distributions often install several firewalls and time services, and mask all but one
    let alone = names::stand_ins(name).is_empty() || !replaced;
    (masked && alone && names::any(&s.critical_units, name) && !optional(name))
        .then(|| about(&e.unit, &MASKED, Severity::Warn, format!("{name} is masked: it cannot be started")))
}

/// Whether distributions or other packages mask the unit by default.
fn optional(name: &str) -> bool {
    names::is_firewall(name) || matches!(name, "systemd-networkd.service" | "NetworkManager.service" | "networking.service")
}

fn need_reload(e: &Evidence) -> Option<Finding> {
    (e.unit.need_reload && !e.unit.transient && e.unit.load == "loaded").then(|| {
        let message =
            format!("the unit file of {} was changed after systemd loaded it: its next start will use the new file", e.unit.name);
        about(&e.unit, &NEED_RELOAD, Severity::Warn, message).cite("file", &e.unit.fragment).fix(RELOAD.id)
    })
}

fn tasks(s: &Settings, e: &Evidence) -> Option<Finding> {
    let service = e.unit.service.as_ref()?;
    let (now, max) = (service.tasks?, service.tasks_max.filter(|m| *m > 0)?);
    let used = now as f64 * 100.0 / max as f64;
    (used > s.tasks_warn_percent).then(|| {
        let message =
            format!("{} has {now} of {max} tasks, {}, limit {}", e.unit.name, percent(used), percent(s.tasks_warn_percent));
        about(&e.unit, &TASKS, Severity::Warn, message)
    })
}
