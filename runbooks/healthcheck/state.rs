//! Health status of containers in the engine, and the validity of their health tests.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Refusal, Risk,
    Severity, quantity,
};
use opsctl_core::probe::docker::image_files;
use opsctl_core::probe::docker::image_files::ImageFiles;
use opsctl_core::probe::docker::{Container, Health, HealthEntry, HealthTest, NAME_SERVER};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::needs::{ProxySettings, proxy_settings};
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::network::listeners::Listener;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::classify::{Class, class};
use super::command::Command;
use super::propose::replacement;
use super::{Settings, proxy};
use crate::shared::dependencies::{
    ATTACHED, BIND_MOUNTS, NEEDED, NEEDED_SERVERS, NO_ROOM, STARVED, UNRESPONSIVE, running_container,
};
use crate::shared::log_reason::{with_log, with_reason};
use crate::shared::needed_servers::{needs_of, tied_to_needs};
use crate::shared::processes::of_host;
use crate::shared::servers::READ_TIMEOUT;

const UNHEALTHY: Code = Code {
    id: "healthcheck.unhealthy",
    severities: &[Severity::Crit],
    when: "a running container is unhealthy according to the engine",
    hint: "read the output of the test; compare with healthcheck.http, which sends a request to the service itself",
    depends_on: &[&running_container("its"), NO_ROOM, UNRESPONSIVE, NEEDED, NEEDED_SERVERS, ATTACHED, BIND_MOUNTS],
    ..Code::BASE
};
const COMMAND_MISSING: Code = Code {
    id: "healthcheck.command-missing",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the health test's program is not in the image or cannot be run: the test is broken, the state of the service unknown (warn); an autoheal container restarts the container for that (crit)",
    hint: "use programs of the image in the test; restarting the container does not help",
    ..Code::BASE
};
const TIMEOUT: Code = Code {
    id: "healthcheck.timeout",
    severities: &[Severity::Warn],
    when: "the health test does not end within its timeout",
    hint: "if healthcheck.http passes, the test is slow (CPU limit?), otherwise the service hangs",
    depends_on: &[STARVED, NEEDED_SERVERS],
    ..Code::BASE
};
const LOCALHOST_IPV6: Code = Code {
    id: "healthcheck.localhost-ipv6",
    severities: &[Severity::Warn],
    when: "the test connects to localhost, which is ::1 in the container, and the service listens on IPv4 only",
    hint: "use 127.0.0.1 instead of localhost in the test",
    ..Code::BASE
};
const PORT_MISMATCH: Code = Code {
    id: "healthcheck.port-mismatch",
    severities: &[Severity::Warn],
    when: "the test connects to a port without a listener in the container, while other ports are served",
    hint: "put the service's real port into the test",
    ..Code::BASE
};
const PROXIED: Code = Code {
    id: "healthcheck.proxied",
    severities: &[Severity::Warn],
    when: "the test requests a local address, and its client sends the request to the proxy in the environment of the container: no_proxy does not contain the address, or the client does not read it",
    hint: "add localhost,127.0.0.1 to no_proxy in the environment of the container, or request without a proxy in the test",
    ..Code::BASE
};
const AUTH: Code = Code {
    id: "healthcheck.auth",
    severities: &[Severity::Warn],
    when: "the service rejects the test with 401, 403 or NOAUTH: the service is up and requires credentials",
    hint: "request a path without authentication, or pass credentials to the test in a file",
    ..Code::BASE
};
const WEAK: Code = Code {
    id: "healthcheck.weak",
    severities: &[Severity::Info],
    when: "the test passes although the service fails: redis-cli ping without a check of the reply, pg_isready, curl without -f, true",
    hint: "check the reply in the test",
    ..Code::BASE
};
const MONITOR_STALE: Code = Code {
    id: "healthcheck.monitor-stale",
    severities: &[Severity::Warn],
    when: "the engine has not run the test for over twice its interval and timeout, or the container is still starting long after its start period",
    hint: "the health status is stale: after a daemon restart with live-restore the monitor can stop for ever; pause and unpause restarts it",
    ..Code::BASE
};
const DEGRADING: Code = Code {
    id: "healthcheck.degrading",
    severities: &[Severity::Info],
    when: "the container is still healthy, but the last tests failed",
    hint: "check again in a minute",
    ..Code::BASE
};
const ABSENT: Code = Code {
    id: "healthcheck.absent",
    severities: &[Severity::Info],
    when: "a container with published ports has no health test",
    hint: "add a health test, so that a hung service is detected",
    ..Code::BASE
};
const PAUSE_UNPAUSE: FixSpec = FixSpec {
    id: "container.pause-unpause",
    risk: Risk::R1,
    title: "pause and unpause the container, which restarts its health monitor",
};

static SPEC: CheckSpec = CheckSpec {
    id: "healthcheck.state",
    title: "containers are healthy and their health tests are valid",
    codes: &[
        UNHEALTHY,
        COMMAND_MISSING,
        TIMEOUT,
        LOCALHOST_IPV6,
        PORT_MISMATCH,
        PROXIED,
        AUTH,
        WEAK,
        MONITOR_STALE,
        DEGRADING,
        ABSENT,
    ],
    fixes: &[PAUSE_UNPAUSE],
    timeout: Duration::from_secs(5),
};

/// Time before the first failed test in which the log can give the reason (judgement: 5 min).
const BEFORE_FAILURE: SignedDuration = SignedDuration::from_mins(5);

/// Limit of characters shown of a test's output.
const MAX_OUTPUT_CHARS: usize = 300;

pub(super) struct State {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    /// Programs in the image; read only if the test has failed.
    files: Option<ImageFiles>,
    /// The reason why the image could not be read.
    files_gap: Option<String>,
    /// Listeners in its network namespace; only if the test does not pass.
    listeners: Option<Vec<Listener>>,
    /// Ids of the servers that its environment names; only if the test does not pass.
    needs: Vec<String>,
    /// The engine's filesystem, if the engine reports no space to run the test.
    full: Option<String>,
    /// Proxies in its environment; only if the test requests a URL and does not pass.
    #[serde(skip_serializing_if = "ProxySettings::is_empty")]
    proxies: ProxySettings,
    /// Errors that it has logged since shortly before the first failed test; only if it is unhealthy.
    log: LogEvidence,
}

impl Check for State {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let mut e = Evidence { container: (*container).clone(), ..Evidence::default() };
        if let Some(test) = container.health_test.as_ref().filter(|_| !passes(&container)) {
            let command = Command::parse(&test.test);
            let files = match container.process() {
                Ok(process) => image_files::inspect(process, &container.path, command.programs()).await,
                Err(why) => Err(why),
            };
            match files {
                Ok(files) => e.files = Some(files),
                Err(why) => e.files_gap = Some(why.to_string()),
            }
            // a starting container has no failed test yet
            if container.state.health.as_ref().is_some_and(|h| h.log.iter().any(|l| l.exit_code != 0))
                && let Some(pid) = container.pid()
            {
                let read = move |io: &Io| listeners::listeners_of(io, pid.into());
                e.listeners = blocking::run("listening sockets", &container.name, READ_TIMEOUT, read).await?;
            }
            e.needs = needs_of(cx, cx.docker()?, &container.id).await;
            if command.url.is_some() {
                e.proxies = proxy_settings(cx, &container.id).await;
            }
            if let Some(health) = container.state.health.as_ref().filter(|h| h.status == "unhealthy") {
                e.log = cx.errors_since(&container, begin_of_failure(health, test, clock::now())).await;
            }
            let last = container.state.health.as_ref().and_then(|h| h.log.last());
            if last.is_some_and(|l| l.output.contains("no space left on device")) {
                // without the data directory the finding has no filesystem, but is as true
                if let Ok(root) = cx.docker()?.of(&container.id).data_root().await {
                    e.full = cx.filesystems.of(root.as_ref()).await.ok().map(|f| f.dev);
                }
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let c = &e.container;
        let Some(test) = &c.health_test else {
            return self.absent(judged, c).into_iter().collect::<Vec<_>>().into();
        };
        let health = c.state.health.clone().unwrap_or_default();
        let command = Command::parse(&test.test);
        let mut findings = Vec::new();
        if health.status == "healthy" && health.failing_streak > 0 {
            let message = format!(
                "{} is still healthy, but its last {} health tests failed; {} failures make it unhealthy",
                c.name, health.failing_streak, test.retries
            );
            findings
                .push(Finding::new(&DEGRADING, Severity::Info, c.subject(), message).cite_opt("last test", last_output(&health)));
        }
        if health.status != "healthy" {
            findings.extend(broken_test(e, &health, &command));
        }
        // the errors of a service explain neither a broken test nor one that cannot run
        let is_broken = findings.iter().any(|f| f.code != TIMEOUT.id) || e.full.is_some();
        if health.status == "unhealthy" {
            let streak = quantity::count(usize::try_from(health.failing_streak).unwrap_or(0), "time");
            let message = format!("{} has failed its health test {streak} in a row", c.name);
            let message = if is_broken { message } else { with_reason(message, &e.log) };
            let onset = health.log.iter().find(|l| l.exit_code != 0).and_then(|l| l.start);
            let mut finding = Finding::new(&UNHEALTHY, Severity::Crit, c.subject(), message);
            if let Some(unit) = c.system_unit() {
                finding = finding.key(KeyKind::Unit, unit).cite("unit", unit);
            }
            let finding = finding.since(onset).cite("test", test.test.join(" ")).cite_opt("last test", last_output(&health));
            findings.push(if is_broken { finding } else { with_log(finding, &e.log) });
        }
        findings.extend(stale(judged, c, test, &health));
        findings.extend(weak(c, &command));
        let tied = |f: Finding| match (f.code.as_str(), &e.full) {
            (code, _) if code == TIMEOUT.id => of_host(tied_to_needs(f, &e.needs)),
            (code, Some(dev)) if code == UNHEALTHY.id => f.key(KeyKind::Filesystem, dev),
            (code, None) if code == UNHEALTHY.id => tied_to_needs(f, &e.needs),
            _ => f,
        };
        let findings: Vec<Finding> = findings.into_iter().map(|f| tied(f).key(KeyKind::Container, &c.id)).collect();
        let pending = pending(c, &health.status, &findings);
        Judgement { findings, pending, ..Judgement::default() }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let id = e.container.id.clone();
        let period = e.container.health_test.as_ref().map_or(0, |t| t.interval_ms + t.timeout_ms);
        let period = Duration::from_millis(u64::try_from(period).unwrap_or(0));
        // the monitor's next test has to run first
        let within = (period + Duration::from_secs(10)).min(Duration::from_secs(180));
        let actions = vec![Action::PauseContainer { id: id.clone() }, Action::UnpauseContainer { id }];
        Ok(Plan::new(&PAUSE_UNPAUSE, &SPEC, finding, judged.target, actions)
            .downtime("some milliseconds")
            .recurs("at the next daemon restart with live-restore (moby#41871)")
            .verified(within, Duration::ZERO))
    }
}

/// Health tests that may still pass. A test with a missing command, without credentials or through a proxy will not.
fn pending(c: &Container, status: &str, findings: &[Finding]) -> Vec<String> {
    let hopeless = findings.iter().any(|f| [COMMAND_MISSING.id, AUTH.id, PROXIED.id].contains(&f.code.as_str()));
    match status {
        "starting" if !hopeless => vec![format!("the first health tests of {}", c.name)],
        "unhealthy" if !hopeless => vec![format!("{} to become healthy", c.name)],
        _ => Vec::new(),
    }
}

/// The test ran and passed last time.
fn passes(c: &Container) -> bool {
    c.state.health.as_ref().is_some_and(|h| h.status == "healthy" && h.failing_streak == 0)
}

/// Time from which its errors can be the reason: shortly before the first failure of the streak, of which the engine keeps the
/// last five.
fn begin_of_failure(health: &Health, test: &HealthTest, now: Timestamp) -> Timestamp {
    let streak = SignedDuration::from_millis(health.failing_streak.max(0).saturating_mul(test.interval_ms.max(0)));
    let logged = health.log.iter().find(|l| l.exit_code != 0).and_then(|l| l.start);
    let counted = now.checked_sub(streak).unwrap_or(Timestamp::UNIX_EPOCH);
    let first = logged.map_or(counted, |logged| logged.min(counted));
    first.checked_sub(BEFORE_FAILURE).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn last_output(health: &Health) -> Option<String> {
    let last = health.log.last()?;
    let output: String = last.output.trim().chars().take(MAX_OUTPUT_CHARS).collect();
    Some(if output.is_empty() {
        format!("exit code {}, no output", last.exit_code)
    } else {
        format!("exit code {}: {output}", last.exit_code)
    })
}

/// The defect of the test itself, if any.
fn broken_test(e: &Evidence, health: &Health, command: &Command) -> Option<Finding> {
    let c = &e.container;
    let failed: Vec<&HealthEntry> = health.log.iter().filter(|l| l.exit_code != 0).collect();
    if !health.log.is_empty() && failed.is_empty() {
        return None;
    }
    // a missing program is known before the first test has run: an autoheal loop clears the log at every restart
    let lacking = e.files.as_ref().and_then(|f| command.lacking(&f.missing)).map(str::to_owned);
    let last = failed.last().map(|l| class(l, command));
    let missing = match (&last, lacking) {
        (Some(Class::CommandMissing(program)), _) => Some(program.clone()),
        (None, lacking) => lacking,
        (Some(_), lacking @ Some(_)) if e.files.is_some() => lacking,
        _ => None,
    };
    if let Some(program) = missing {
        return Some(command_missing(e, &program, command, &failed));
    }
    if health.status != "unhealthy" {
        return None;
    }
    let name = &c.name;
    let finding = |code: &'static Code, message: String| {
        Some(Finding::new(code, Severity::Warn, c.subject(), message).cite_opt("last test", last_output(health)))
    };
    // before the classes: the response or the timeout is that of the proxy
    if let Some(request) = proxy::proxied(command, &e.proxies, e.files.as_ref()) {
        let proxy = if request.proxy.is_empty() { "a proxy".to_owned() } else { format!("the proxy {}", request.proxy) };
        let message =
            format!("{name}'s health test of {} goes to {proxy} ({}), not to the service", request.host, request.variable);
        return finding(&PROXIED, message).map(|f| f.hint(request.hint()));
    }
    match last? {
        Class::Timeout => {
            let limit = c.health_test.as_ref().map_or(0, |t| t.timeout_ms);
            let limit = quantity::duration(SignedDuration::from_millis(limit));
            finding(&TIMEOUT, format!("{name}'s health test does not end within its timeout of {limit}"))
        }
        Class::SlowStart => {
            finding(&TIMEOUT, format!("{name}'s health test cannot be started in time: the engine or its disk is slow"))
        }
        Class::Auth => finding(&AUTH, format!("{name}'s health test is rejected: the service requires credentials")),
        Class::Refused | Class::Other => {
            let (code, message) = refused(e, command)?;
            // a request of opsctl to this port fails for the same reason
            let port = command.request.as_ref().filter(|_| code.id == PORT_MISMATCH.id).map(|r| r.port);
            let key = |f: Finding, port: u16| f.key(KeyKind::Port, format!("{}:{port}", c.id));
            finding(code, message).map(|f| port.into_iter().fold(f, key))
        }
        Class::CommandMissing(_) => None,
    }
}

fn command_missing(e: &Evidence, program: &str, command: &Command, failed: &[&HealthEntry]) -> Finding {
    let c = &e.container;
    let autoheal = c.labels.get("autoheal").is_some_and(|v| v != "false");
    let always = !failed.is_empty() && failed.iter().all(|l| matches!(class(l, command), Class::CommandMissing(_)));
    let message = if autoheal {
        format!("{}'s health test calls {program}, which its image does not have, and autoheal restarts it for that", c.name)
    } else {
        format!("{}'s health test calls {program}, which its image does not have", c.name)
    };
    let severity = if autoheal { Severity::Crit } else { Severity::Warn };
    let tools = e.files.as_ref().map(|f| f.tools.clone());
    let proposal = tools.as_ref().map(|t| {
        let made = replacement(t, command.request.as_ref(), program);
        made.unwrap_or_else(|| match (&command.request, t.is_empty()) {
            (None, false) => "one that uses these; the old test has no URL or port to derive it from".to_owned(),
            _ => "none is possible with the programs of the image: add a check command to it, or remove the test".to_owned(),
        })
    });
    let has =
        tools.map(|t| if t.is_empty() { "none of curl, wget, bash, nc, busybox, python, node".to_owned() } else { t.join(", ") });
    let mut finding = Finding::new(&COMMAND_MISSING, severity, c.subject(), message)
        .key(KeyKind::Restarter, &c.id)
        .cite_opt("the image has", has)
        .cite_opt("a test that works", proposal)
        .cite_opt("last test", failed.last().map(|l| l.output.trim().chars().take(MAX_OUTPUT_CHARS).collect::<String>()))
        .cite_opt("image could not be read", e.files_gap.clone());
    if !always && e.files.is_none() {
        finding = finding.likely();
    }
    finding
}

/// The reason for a refused connection: localhost is `::1`, or the port is wrong.
fn refused(e: &Evidence, command: &Command) -> Option<(&'static Code, String)> {
    let request = command.request.as_ref()?;
    let name = &e.container.name;
    let served: Vec<&Listener> = e.listeners.as_ref()?.iter().filter(|l| l.address != NAME_SERVER).collect();
    let on_port: Vec<&&Listener> = served.iter().filter(|l| l.port == request.port).collect();
    let only_v4 = !on_port.is_empty() && on_port.iter().all(|l| l.address.is_ipv4());
    if request.host == "localhost" && only_v4 && e.files.as_ref().is_some_and(|f| f.localhost_is_v6) {
        let message = format!(
            "{name}'s health test connects to localhost, which is ::1 there, but port {} is served on IPv4 only",
            request.port
        );
        return Some((&LOCALHOST_IPV6, message));
    }
    let local = matches!(request.host.as_str(), "localhost" | "127.0.0.1" | "::1" | "0.0.0.0");
    if local && on_port.is_empty() && !served.is_empty() {
        let mut ports: Vec<u16> = served.iter().map(|l| l.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let message =
            format!("{name}'s health test connects to port {}, but only {} is served there", request.port, ports.join(", "));
        return Some((&PORT_MISMATCH, message));
    }
    None
}

fn stale(judged: &Judged<'_>, c: &Container, test: &HealthTest, health: &Health) -> Option<Finding> {
    let now = judged.taken_at;
    let period = test.interval_ms.saturating_add(test.timeout_ms);
    let started = c.state.started_at?;
    let finding = |message| Some(Finding::new(&MONITOR_STALE, Severity::Warn, c.subject(), message).fix(PAUSE_UNPAUSE.id));
    if health.status == "starting" {
        let limit = SignedDuration::from_millis(
            test.start_period_ms.saturating_add(test.retries.saturating_add(1).saturating_mul(period)),
        )
        .saturating_add(SignedDuration::from_secs(30));
        let age = now.duration_since(started);
        if age > limit {
            let message =
                format!("{} is still starting after {}, limit {}", c.name, quantity::duration(age), quantity::duration(limit));
            return finding(message);
        }
        return None;
    }
    let last = health.log.last().and_then(|l| l.end).unwrap_or(started).max(started);
    let silent = now.duration_since(last);
    let limit = SignedDuration::from_millis(period.saturating_mul(2)).saturating_add(SignedDuration::from_secs(30));
    if silent <= limit {
        return None;
    }
    finding(format!(
        "{} is {}, but its health test has not run for {}, limit {}",
        c.name,
        health.status,
        quantity::duration(silent),
        quantity::duration(limit)
    ))
}

/// A test that passes although the service fails.
fn weak(c: &Container, command: &Command) -> Option<Finding> {
    let text = command.text.as_str();
    let checks_output = text.contains("grep") || text.contains("PONG");
    let why = if text.contains("redis-cli") && text.contains("ping") && !checks_output && !text.contains(" -e") {
        "redis-cli ping exits 0 also for LOADING, NOAUTH and MISCONF"
    } else if text.contains("pg_isready") && !text.contains("psql") {
        "pg_isready only checks whether connections are accepted, not whether queries work"
    } else if matches!(text.trim(), "true" | "/bin/true" | "exit 0" | ":") {
        "the test always passes"
    } else if text.contains("curl") && !text.contains(" -f") && !text.contains("--fail") && !fails_by_flag(text) && !checks_output
    {
        "curl without -f passes also for error pages"
    } else {
        return None;
    };
    let message = format!("{}'s health test proves little: {why}", c.name);
    Some(Finding::new(&WEAK, Severity::Info, c.subject(), message).cite("test", text))
}

/// `-sf`, `-fsS`: f among the short flags of curl.
fn fails_by_flag(text: &str) -> bool {
    text.split_whitespace().any(|w| w.starts_with('-') && !w.starts_with("--") && w.contains('f'))
}

impl State {
    fn absent(&self, judged: &Judged<'_>, c: &Container) -> Option<Finding> {
        let age = judged.taken_at.duration_since(c.state.started_at?);
        if c.ports.is_empty() || age < SignedDuration::from_secs(self.settings.absent_after_s) {
            return None;
        }
        let message = format!("{} publishes ports and has no health test", c.name);
        Some(Finding::new(&ABSENT, Severity::Info, c.subject(), message).key(KeyKind::Container, &c.id))
    }
}
