//! Lifecycle of a container: down, failed to start, in a restart loop, OOM-killed or paused.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::log::{LogLine, of_failure};
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, ContainerRef, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan,
    Product, Refusal, Risk, Role, Sample, Severity, quantity,
};
use opsctl_core::probe::docker::{Container, Docker, Event, dependants, depends_on};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::cgroup::Cgroups;
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::kernel::kmsg::OomKill;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::obstacle;
use super::unstarted::{self, Dependency};
use super::{Settings, decode, health, oom, restart, start};
use crate::shared::dependencies::{NEEDED, NEEDED_TO_START, NO_ROOM};
use crate::shared::log_reason::{with_log, with_reason};
use crate::shared::needed_servers::{needs_of, tied_to_needs};
use crate::shared::obstacle::{Failed, Obstacle, of_log};
use crate::shared::servers::{READ_TIMEOUT, full_filesystems};
use crate::shared::stop::{self, Stop, StopFacts};

pub(super) const DOWN: Code = Code {
    id: "container.down",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the container should run and does not (crit); it was stopped by hand, known or inferred, despite a restart policy, or failed without one (warn); it was stopped by hand without a restart policy, or failed more than 24 h ago (info)",
    hint: "read the last log lines before starting the container",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Container, "container is down"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "container is down"),
    ],
    depends_on: &[NO_ROOM, NEEDED_TO_START, NEEDED],
};
pub(super) const START_FAILED: Code = Code {
    id: "container.start-failed",
    severities: &[Severity::Crit],
    when: "the engine could not start the container: port in use, command or bind source missing, no space",
    hint: "remove the cause in the engine's error; the engine does not retry the start",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Container, "container could not be started"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "container could not be started"),
    ],
    depends_on: &[NO_ROOM, NEEDED],
};
pub(super) const RESTART_LOOP: Code = Code {
    id: "container.restart-loop",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the container is between two starts, or was restarted {restarts_crit} times with the last start under 10 min ago (crit); {restarts_warn} times (warn); the loop is over (info)",
    hint: "the reason is in the log of the previous run; another restart does not help",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Container, "container restarts repeatedly"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "container restarts repeatedly"),
    ],
    depends_on: &[NO_ROOM, NEEDED_TO_START, NEEDED],
};
pub(super) const OOM_KILLED: Code = Code {
    id: "container.oom-killed",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the kernel killed a process of the container at its memory limit in the last 24 h (crit); the limit was raised since, and the container has not yet run as long as before (warn); the kill was earlier or before the limit was raised (info)",
    hint: "raise the limit or find the leak; a restart only delays the next OOM kill",
    impacts: &[Impact::confirmed(Role::Down, KeyKind::Container, "container was OOM-killed")],
    ..Code::BASE
};
pub(super) const PAUSED: Code = Code {
    id: "container.paused",
    severities: &[Severity::Warn],
    when: "the container is paused (docker pause); its health status is stale meanwhile",
    hint: "find the reason for the pause, then unpause the container",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Container, "container is paused"),
        Impact::confirmed(Role::Down, KeyKind::Requirement, "container is paused"),
    ],
    ..Code::BASE
};

pub(super) const START: FixSpec = FixSpec { id: "container.start", risk: Risk::R2, title: "start the container" };
pub(super) const UNPAUSE: FixSpec = FixSpec { id: "container.unpause", risk: Risk::R1, title: "unpause the container" };
pub(super) const STOP_LOOP: FixSpec = FixSpec {
    id: "container.stop-loop",
    risk: Risk::R2,
    title: "set the restart policy of the container to no and stop it, to end the damage of a restart loop",
};
pub(super) const RAISE_MEMORY: FixSpec = FixSpec {
    id: "container.raise-memory",
    risk: Risk::R1,
    title: "double the memory limit of the running container, if the host has enough memory",
};

pub(super) static SPEC: CheckSpec = CheckSpec {
    id: "container.state",
    title: "containers that should run are running",
    codes: &[DOWN, START_FAILED, RESTART_LOOP, OOM_KILLED, PAUSED],
    fixes: &[START, UNPAUSE, STOP_LOOP, RAISE_MEMORY],
    timeout: Duration::from_secs(8),
};

/// A restart count that grows within this time is a loop, also if the engine reports the container as running.
const RESAMPLE_DELAY: Duration = Duration::from_millis(700);

pub(super) struct State {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    pub(super) container: Container,
    /// Kernel OOM kills with a victim in this container.
    pub(super) oom: Vec<OomKill>,
    /// The reason why the kernel log could not be read.
    pub(super) kernel_log_gap: Option<String>,
    /// OOM kills counted by its control group; `None` if it does not run or the kernel has no counter.
    pub(super) live_oom_kills: Option<u64>,
    /// The engine's events of the last hour; all that it has if they do not show the origin of an end.
    pub(super) events: Vec<Event>,
    /// Other facts about the origin of its end.
    pub(super) stop: StopFacts,
    /// Its restarts by the engine, as counted by a run within the last hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restarts_before: Option<Sample>,
    /// A failed health test that a run within the last hour saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_before: Option<Sample>,
    /// A second sample; only if the first was suspicious.
    pub(super) later: Option<Later>,
    /// Last log lines of the run that ended, in recordings of 0.1.0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) log: Vec<String>,
    /// The reason of its end in its log, or in the engine's error.
    pub(super) reason: LogEvidence,
    /// The obstacle in the engine's error, checked again now.
    pub(super) obstacle: Option<Obstacle>,
    /// The reason in its log, checked again now; only if it failed and does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_obstacle: Option<Obstacle>,
    /// A dependency of a container that was never started.
    pub(super) waits_for: Option<Dependency>,
    /// Containers that depend on it.
    pub(super) dependants: Vec<String>,
    /// A job: another container waits for it to complete.
    pub(super) is_job: bool,
    /// Owner of a port that the container cannot bind.
    pub(super) port_owner: Option<String>,
    /// The port in use by another container or process.
    pub(super) blocked_port: Option<u16>,
    /// Its image exists.
    pub(super) image_present: bool,
    /// `major:minor` of the filesystem with the engine's containers, if known.
    pub(super) engine_filesystem: Option<String>,
    /// Ids of the servers that its environment names; only if it does not stay up and was not stopped.
    pub(super) needs: Vec<String>,
    /// Filesystems with too little space for a database to start.
    pub(super) no_room: Vec<FsUsage>,
    /// `MemAvailable` and `MemTotal` in bytes.
    pub(super) host_memory: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Later {
    pub(super) restart_count: i64,
    pub(super) restarting: bool,
}

impl Check for State {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|_| true)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let container = docker.inspect(&target.id).await?;
        let host_memory = cx.watch.memory().await.ok().and_then(|m| Some((m.available?, m.total)));
        let mut e = Evidence { image_present: true, host_memory, ..Evidence::default() };
        match cx.kernel_log.oom_kills().await {
            Ok(kills) => e.oom = kills.iter().filter(|k| k.victim_cgroup.contains(&container.id)).cloned().collect(),
            Err(why) => e.kernel_log_gap = Some(why.to_string()),
        }
        if let Some(pid) = container.pid() {
            let read = move |io: &Io| Cgroups::default().group_of(io, pid.into()).ok().and_then(|g| g.usage(io).oom_kills);
            let read = blocking::run("the control group", &container.name, READ_TIMEOUT, read).await;
            e.live_oom_kills = read.ok().flatten();
        }
        // without the engine's events the origin of a stop is unknown; the check continues
        if let Ok(events) = docker.events().await {
            e.events = events.iter().filter(|ev| ev.container == container.id).cloned().collect();
        }
        e.stop = Box::pin(stop::read(cx, docker, &container, &mut e.events)).await;
        if container.restart_count > 0 {
            e.restarts_before = cx.history.oldest(&container.id, restart::METRIC, restart::MAX_SAMPLE_AGE_S);
        }
        if container.health_test.is_some() {
            e.health_before = health::before(cx, &container.id);
        }
        if suspicious(&container) {
            tokio::time::sleep(RESAMPLE_DELAY).await;
            let again = docker.inspect_now(&target.id).await?;
            e.later = Some(Later { restart_count: again.restart_count, restarting: again.state.restarting });
        }
        let failing =
            !container.is_up() || container.restart_count > 0 || restart::from_outside(&container, &e.events, clock::now()) > 0;
        if failing {
            // the reason of a loop is in the log of the previous run, not of the one that has just started
            e.reason = cx.log_of_run(&container).await;
            if !container.state.running && container.state.exit_code != 0 {
                e.log_obstacle = Box::pin(of_log(cx, Failed::Container(&container), &e.reason)).await;
            }
            e.needs = needs_of(cx, docker, &container.id).await;
        }
        // the engine reports a container that waits for its restart as running
        if !container.state.running || container.state.restarting {
            self.why_down(cx, docker, &container, &mut e).await;
        }
        e.dependants = dependants(&cx.inventory.containers, &container);
        e.is_job = is_job(&cx.inventory.containers, &container);
        e.container = (*container).clone();
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let now = judged.taken_at;
        let looping = restart::judge(e, &self.settings, now);
        let start_failed = start::judge(e);
        let mut findings = Vec::new();
        if looping.as_ref().is_none_or(|f| f.severity == Severity::Info) && start_failed.is_none() {
            findings.extend(down(e, now));
        }
        findings.extend(start_failed);
        findings.extend(oom::judge(e, now));
        findings.extend(looping);
        findings.extend(paused(e));
        let failed = e.container.state.exit_code != 0 && stopped_by(e).is_none();
        let own = |f: &Finding| f.code == RESTART_LOOP.id || f.code == DOWN.id || f.code == START_FAILED.id;
        let logs = reason_of(e);
        let logged = |f: Finding| if own(&f) && (failed || f.code != DOWN.id) { with_log(f, &logs) } else { f };
        findings = findings.into_iter().map(logged).collect();
        let by_code = decode::hint(restart::last_exit(e)).filter(|_| logs.reason().is_none());
        let hinted = |f: Finding| match by_code {
            Some(hint) if own(&f) && f.severity > Severity::Info => f.hint(hint),
            _ => f,
        };
        findings = findings.into_iter().map(hinted).collect();
        let tied = |f: Finding| if failed || f.code == RESTART_LOOP.id { tied_to_needs(f, &e.needs) } else { f };
        findings = findings.into_iter().map(tied).collect();
        findings =
            findings.into_iter().map(|f| e.no_room.iter().fold(f, |f, full| f.key(KeyKind::Filesystem, &full.dev))).collect();
        let mut gaps = e.container.gaps.clone();
        if let Some(why) = &e.kernel_log_gap {
            // relevant only if an OOM kill is possible: exit by SIGKILL of unknown origin
            if e.container.state.exit_code == 137 && !findings.iter().any(|f| f.code == OOM_KILLED.id) && stopped_by(e).is_none()
            {
                gaps.push(format!("an OOM kill cannot be excluded: {why}"));
            }
        }
        let pending = pending(e, &findings);
        let stopped = (e.container.state.status == "exited").then(|| stop::sample(&e.container, &e.events, now)).flatten();
        let samples =
            stopped.into_iter().chain(restart::sample(&e.container, now)).chain(health::sample(&e.container, now)).collect();
        Judgement { findings, gaps, pending, samples, ..Judgement::default() }
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if fix != UNPAUSE.id {
            return start::plan(fix, finding, judged, e);
        }
        let id = e.container.id.clone();
        Ok(Plan::new(&UNPAUSE, &SPEC, finding, judged.target, vec![Action::UnpauseContainer { id: id.clone() }])
            .undo(vec![Action::PauseContainer { id }])
            .verified(Duration::from_secs(5), Duration::ZERO))
    }
}

/// Containers that may still start by themselves: a loop that waits for a database ends once the database is up; a loop of OOM
/// kills does not.
fn pending(e: &Evidence, findings: &[Finding]) -> Vec<String> {
    let open = |code: &Code| findings.iter().any(|f| f.code == code.id && f.severity > Severity::Info);
    if findings.iter().any(|f| f.code == OOM_KILLED.id && f.severity == Severity::Warn) {
        vec![format!("{} to run as long as before the OOM kill", e.container.name)]
    } else if open(&RESTART_LOOP) && !open(&OOM_KILLED) {
        vec![format!("{} to stay up", e.container.name)]
    } else if e.container.state.status == "created" && e.container.state.error.is_empty() {
        vec![format!("{} to start", e.container.name)]
    } else {
        Vec::new()
    }
}

impl State {
    /// Reads the data for the finding and the fix of a container that is down.
    async fn why_down(&self, cx: &ProbeCx, docker: &Docker, container: &Container, e: &mut Evidence) {
        let error = &container.state.error;
        e.image_present = docker.of(&container.id).image_id(&container.image_id).await.is_ok_and(|id| id.is_some());
        // its files and ports are not those of the container in which opsctl runs
        if cx.inventory.confined.is_some() {
            return;
        }
        if start::cannot_write(error) && !container.log.path.is_empty() {
            let path = container.log.path.clone();
            e.engine_filesystem = cx.filesystems.of(path.as_ref()).await.ok().map(|fs| fs.dev);
        }
        if cx.inventory.container(&container.id).and_then(|c| c.product) == Some(Product::Postgres) {
            e.no_room = full_filesystems(cx, docker, container).await;
        }
        if container.state.status == "created" && error.is_empty() {
            e.waits_for = unstarted::dependency(cx, container).await;
        }
        if !error.is_empty() {
            e.reason = cx.log_of_message(error).await;
            e.obstacle = obstacle::of(cx, docker, container).await;
        }
        let ports: Vec<u16> = start::port_in_use(error).into_iter().chain(container.ports.iter().map(|p| p.host)).collect();
        for port in ports {
            if let Some(owner) = port_owner(cx, port, &container.id).await {
                e.port_owner = Some(owner);
                e.blocked_port = Some(port);
                return;
            }
        }
    }
}

/// Whether a second sample is useful: the container was restarted, the last time recently.
fn suspicious(c: &Container) -> bool {
    let young = c.state.started_at.is_some_and(|t| clock::now().duration_since(t) < SignedDuration::from_secs(90));
    c.restart_count > 0 && young && !c.state.restarting
}

/// Owner of a TCP port of this host: another container, or a process.
async fn port_owner(cx: &ProbeCx, port: u16, not: &str) -> Option<String> {
    let others = cx.inspected(cx.inventory.running().filter(|c| c.id != not)).await;
    if let Some(other) = others.iter().find(|c| c.ports.iter().any(|p| p.host == port)) {
        return Some(format!("container {}", other.name));
    }
    cx.owner_of_tcp_port(port).await.map(|o| format!("process {} (pid {})", o.comm, o.pid))
}

fn is_job(all: &[ContainerRef], c: &Container) -> bool {
    if is_one_off(c) {
        return true;
    }
    let Some((project, service)) = c.compose() else { return false };
    all.iter()
        .filter(|o| o.project.as_deref() == Some(project))
        .any(|o| depends_on(o).any(|(s, condition)| s == service && condition == "service_completed_successfully"))
}

/// A container of `docker compose run`, or of a CI or test system: another start would run its job again.
pub(super) fn is_one_off(c: &Container) -> bool {
    c.labels.get("com.docker.compose.oneoff").is_some_and(|v| v.eq_ignore_ascii_case("true")) || c.is_ci_job()
}

/// The reason of the end of the last run; that of recordings of 0.1.0 from its last lines.
pub(super) fn reason_of(e: &Evidence) -> LogEvidence {
    if !e.reason.entries.is_empty() || e.log.is_empty() {
        return e.reason.clone();
    }
    let lines: Vec<LogLine> = e.log.iter().map(|text| LogLine { at: None, text: text.clone() }).collect();
    LogEvidence { entries: of_failure(&lines), ..e.reason.clone() }
}

/// The stop that ended it, if any.
fn stopped_by(e: &Evidence) -> Option<Stop> {
    stop::origin(&e.container, &e.events, &e.stop)
}

fn down(e: &Evidence, now: Timestamp) -> Option<Finding> {
    let c = &e.container;
    let name = &c.name;
    let age = c.state.finished_at.map(|t| now.duration_since(t));
    let when = age.map(|a| format!(" {} ago", quantity::duration(a))).unwrap_or_default();
    let code = decode::exit_code(c.state.exit_code);
    let day = SignedDuration::from_hours(24);
    let one_off = is_one_off(c);
    let (severity, message, certain) = match c.state.status.as_str() {
        "created" => return unstarted::judge(e, now),
        "dead" | "removing" if age.is_none_or(|a| a > SignedDuration::from_secs(60)) => {
            (Severity::Warn, format!("{name} is {} and cannot be removed", c.state.status), true)
        }
        "exited" => {
            let keeps_up = matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped");
            let killed_for_memory = oom::last_kill(e, now).is_some_and(|k| k.current);
            let by_hand = stopped_by(e).filter(|_| !killed_for_memory);
            match by_hand {
                Some(stop) => {
                    // the last of a limited number of restarts cannot be excluded
                    let inferred = c.restart_policy.name == "on-failure" && stop.forgotten_before.is_some();
                    let severity = if keeps_up || inferred { Severity::Warn } else { Severity::Info };
                    (severity, format!("{name} was {}{when}, {code}{}", stop.how, stop.note(now)), stop.certain)
                }
                None if c.state.exit_code == 0 && (!keeps_up || e.is_job) => return None,
                None if one_off => (Severity::Info, format!("{name}, a one-off job, failed{when}, {code}"), true),
                None if keeps_up => {
                    let policy = &c.restart_policy.name;
                    (Severity::Crit, format!("{name} went down{when}, {code}, although its restart policy is {policy}"), true)
                }
                None if c.restart_policy.name == "on-failure" => {
                    let tries = c.restart_policy.maximum_retry_count;
                    let tries = if tries > 0 { format!(" after {tries} restarts") } else { String::new() };
                    (Severity::Crit, format!("{name} failed{when}, {code}, and is not restarted any more{tries}"), true)
                }
                None if age.is_some_and(|a| a < day) => {
                    let origin = if c.state.exit_code == 137 && !killed_for_memory { ", sender unknown" } else { "" };
                    (Severity::Warn, format!("{name} failed{when}, {code}{origin}"), true)
                }
                None => (Severity::Info, format!("{name} failed{when}, {code}"), true),
            }
        }
        _ => return None,
    };
    let message = if stopped_by(e).is_none() && c.state.exit_code != 0 { with_reason(message, &reason_of(e)) } else { message };
    let mut finding = Finding::new(&DOWN, severity, c.subject(), message)
        .since(c.state.finished_at)
        .key(KeyKind::Container, &c.id)
        .cite("restart policy", &c.restart_policy.name)
        .cite("needed by", e.dependants.join(", "));
    if let Some(unit) = c.system_unit() {
        finding = finding.key(KeyKind::Unit, unit).cite("unit", unit);
    }
    if !certain {
        finding = finding.likely();
    }
    if (severity == Severity::Crit || !certain) && e.stop.marked == Some(true) && c.restart_policy.name == "unless-stopped" {
        finding = finding
            .cite("engine", "each signal by `docker kill` ends the policy unless-stopped until the next start (moby#41302)");
    }
    if let Some(host_kill) = e.oom.iter().find(|k| k.limited_by.is_none()) {
        finding = finding.cite("kernel log", format!("{} the host was out of memory: {}", host_kill.at, host_kill.line));
    }
    if c.state.status == "exited" && severity > Severity::Info && !one_off {
        finding = finding.fix(START.id);
    }
    Some(finding)
}

fn paused(e: &Evidence) -> Option<Finding> {
    let c = &e.container;
    c.state.paused.then(|| {
        Finding::new(
            &PAUSED,
            Severity::Warn,
            c.subject(),
            format!("{} is paused: its status is up but its processes are frozen", c.name),
        )
        .key(KeyKind::Container, &c.id)
        .fix(UNPAUSE.id)
    })
}
