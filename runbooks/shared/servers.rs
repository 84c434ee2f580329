//! Common parts of the checks of databases, caches and brokers: identity, and the finding for an unreachable server.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Code, Finding, Judgement, KeyKind, Object, ServerRef, Severity, printable, quantity};
use opsctl_core::probe::docker::{Container, Docker};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::proc::process::state_of;
use opsctl_core::probe::product::spec;
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::stop::{self, Request};

/// Age after which a stopped server without dependants is not reported.
const MAX_STOPPED_AGE: SignedDuration = SignedDuration::from_hours(24);

/// A server, as evidence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Server(Option<ServerRef>);

impl Server {
    pub(crate) fn of(cx: &ProbeCx, target: &Object) -> Result<Self, ProbeError> {
        Ok(Self(Some(cx.servers().known(target)?.server.clone())))
    }

    pub(crate) fn get(&self) -> Option<&ServerRef> {
        self.0.as_ref()
    }

    /// The subject of findings about this server.
    pub(crate) fn subject(&self, target: &Object) -> Object {
        let identity = self.0.as_ref().map_or_else(|| target.id.clone(), ServerRef::identity);
        Object::new(target.kind, target.name.clone(), identity)
    }

    /// A finding about this server, tied to its container or unit and to its other findings.
    pub(crate) fn finding(
        &self,
        code: &'static Code,
        severity: Severity,
        target: &Object,
        message: impl Into<String>,
    ) -> Finding {
        self.tied(Finding::new(code, severity, self.subject(target), message))
    }

    /// Ties a finding about a part of this server to the server.
    pub(crate) fn tied(&self, mut finding: Finding) -> Finding {
        if let Some(server) = &self.0 {
            finding = finding.key(KeyKind::Server, &server.id);
            if let Some(id) = &server.container {
                finding = finding.key(KeyKind::Container, id);
            }
            if let Some(unit) = &server.unit {
                finding = finding.key(KeyKind::Unit, unit);
            }
        }
        finding
    }

    /// The object of samples from earlier runs. Its counters start over when the server restarts, so each run has its own.
    pub(crate) fn object(&self, target: &Object) -> String {
        self.subject(target).id
    }
}

/// The reason why no session with a server was established, and its state as seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Silence {
    why: Option<SessionError>,
    /// Its container, if not running.
    container: Option<Container>,
    /// A stop was requested from the engine.
    stopped_by_hand: bool,
    /// Running containers with its name in their environment.
    needed_by: Vec<String>,
    /// Filesystems of its data with too little space to start.
    full: Vec<FsUsage>,
    /// State of its first process: `T` is stopped, `D` waits in the kernel.
    process_state: Option<char>,
}

impl Silence {
    pub(crate) async fn about(cx: &ProbeCx, server: &Server, why: SessionError) -> Self {
        let mut silence = Self { ..Self::default() };
        if let Some(server) = server.get() {
            if let Some(process) = server.process {
                silence.process_state = process_state(process.pid).await;
            }
            if why == SessionError::NotRunning
                && let (Some(id), Some(docker)) = (&server.container, &cx.docker)
            {
                silence.container = docker.inspect(id).await.ok().map(|c| (*c).clone());
                silence.needed_by = needed_by(cx, id).await;
                if let Some(c) = &silence.container {
                    let all = docker.events().await.unwrap_or_default();
                    let mut events = all.iter().filter(|event| event.container == *id).cloned().collect();
                    let facts = Box::pin(stop::read(cx, docker, c, &mut events)).await;
                    let request = stop::origin(c, &events, &facts).and_then(|stop| stop.request);
                    silence.stopped_by_hand = request.is_some_and(|request| request != Request::Killed);
                    silence.full = full_filesystems(cx, docker, c).await;
                }
            } else if why == SessionError::NotRunning && server.unit.is_some() {
                silence.full = full_directories(cx, &packaged_directories(cx, server)).await;
            }
        }
        silence.why = Some(why);
        silence
    }

    pub(crate) fn why(&self) -> Option<&SessionError> {
        self.why.as_ref()
    }

    /// Its process is stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.process_state, Some('T' | 't'))
    }

    /// Its container, if not running.
    pub(crate) fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.why.is_some()
    }

    /// The finding or gap for it: `word` is the product (`Redis`), `secret` the name of a variable for its password.
    pub(crate) fn judge(
        &self,
        code: &'static Code,
        server: &Server,
        target: &Object,
        now: Timestamp,
        word: &str,
        secret: &str,
    ) -> Judgement {
        let name = &target.name;
        let Some(why) = &self.why else { return Judgement::default() };
        let crit = |message: String| server.finding(code, Severity::Crit, target, message);
        let seconds = |ms: &u64| quantity::duration(SignedDuration::from_millis(i64::try_from(*ms).unwrap_or(i64::MAX)));
        let finding = match why {
            SessionError::NotRunning => return self.not_running(code, server, target, now),
            SessionError::NotListening => crit(format!("{name} runs but does not listen on any address")),
            SessionError::Refused { address } => crit(format!("{name} refuses connections at {address}")),
            SessionError::Unreachable { address, why } => crit(format!("{name} cannot be reached at {address}: {why}")),
            SessionError::Hung { address, after_ms } => {
                let stopped = self.process_state == Some('T');
                let finding =
                    crit(format!("{name} accepts connections at {address} and did not answer within {}", seconds(after_ms)));
                if stopped {
                    finding.hint("its process is stopped: find the sender of SIGSTOP, then `kill -CONT` it")
                } else {
                    finding
                }
            }
            SessionError::Closed { address, why } => crit(format!("{name} closed the connection at {address}")).cite("seen", why),
            SessionError::Garbage { address, why } => {
                crit(format!("the listener at {address} does not speak {word}")).cite("seen", printable(why))
            }
            SessionError::Rejected { address, code: word, message } => {
                crit(format!("{name} rejects every command")).cite("error", format!("{word} {message}")).cite("at", address)
            }
            SessionError::Unproven { address, why } => {
                let at = if address == name { String::new() } else { format!(" at {address}") };
                let gap = format!("{name}{at} was not checked, and no password was sent to it: {why}");
                return Judgement { gaps: vec![gap], ..Judgement::default() };
            }
            SessionError::Login { address, message, tried } => {
                let tried = tried.as_ref().map_or_else(String::new, |from| format!(" (tried {from})"));
                let line = format!("[[server]] name = \"{name}\" password = \"${{{secret}}}\"");
                let at = if address == name { String::new() } else { format!(" at {address}") };
                let gap = format!("{name}{at} is up and requires a login{tried}: {message}; add to the configuration: {line}");
                return Judgement { gaps: vec![gap], ..Judgement::default() };
            }
        };
        let state = match self.process_state {
            Some('T' | 't') => Some("stopped by a signal (state T)"),
            Some('D') => Some("uninterruptible sleep (state D)"),
            _ => None,
        };
        vec![finding.cite_opt("its process", state)].into()
    }

    fn not_running(&self, code: &'static Code, server: &Server, target: &Object, now: Timestamp) -> Judgement {
        let name = &target.name;
        let finding = |message: String| {
            let finding = server.finding(code, Severity::Crit, target, message);
            self.full.iter().fold(finding, |f, full| f.key(KeyKind::Filesystem, &full.dev))
        };
        let Some(c) = &self.container else {
            let unit = server.get().and_then(|s| s.unit.clone());
            let message = unit
                .map_or_else(|| format!("{name} does not run"), |unit| format!("{name} does not run: its unit {unit} is down"));
            return vec![finding(message)].into();
        };
        let ended = c.state.finished_at.filter(|t| t.as_second() > 0);
        // a container that was stopped on purpose is reported by the container runbook
        let stopped = matches!(c.state.status.as_str(), "exited" | "created");
        let long_stopped = ended.is_none_or(|t| now.duration_since(t) > MAX_STOPPED_AGE);
        if long_stopped && stopped && self.needed_by.is_empty() {
            let when = ended.map_or_else(String::new, |t| format!(" ({})", quantity::ago(now, t)));
            return Judgement::skip(format!("its container is {}{when}, and no running container refers to it", c.state.status));
        }
        let when = ended.map_or_else(String::new, |t| format!(", {}", quantity::ago(now, t)));
        let how = if self.stopped_by_hand { ", stopped by hand" } else { "" };
        let message =
            format!("{name} does not run: its container is {} (exit code {}{how}{when})", c.state.status, c.state.exit_code);
        let finding = finding(message)
            .since(ended)
            .cite("needed by", self.needed_by.join(", "))
            .hint(format!("`docker start {name}` when nothing else is wrong with it: see `opsctl container {name}`"));
        vec![finding].into()
    }
}

/// Time limit of reading files or tables of one process.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a process.
pub(crate) async fn process_state(pid: i32) -> Option<char> {
    let read = move |io: &Io| state_of(io, pid);
    blocking::run("the state of a process", &format!("/proc/{pid}/stat"), READ_TIMEOUT, read).await.ok().flatten()
}

/// The working directory of a process, as the process sees it.
pub(crate) async fn working_directory(pid: i32) -> Option<String> {
    let read = move |io: &Io| io.working_directory(pid);
    blocking::run("its directory", &format!("/proc/{pid}/cwd"), READ_TIMEOUT, read).await.ok().flatten()
}

/// The filesystem of `path` as a server sees it. For the writable layer of a container that is the engine's filesystem.
pub(crate) async fn filesystem_at(cx: &ProbeCx, server: &Server, path: &str) -> Option<FsUsage> {
    let server = server.get()?;
    let seen = cx.filesystems.of_process(server.process?.pid, path).await.ok()?;
    // an overlay has a device number of its own, and the sizes of the filesystem below it
    if seen.dev.starts_with("0:")
        && let (Some(id), Some(docker)) = (&server.container, &cx.docker)
        && let Ok(root) = docker.of(id).data_root().await
        && let Ok(below) = cx.filesystems.of(root.as_ref()).await
        && below.size == seen.size
    {
        return Some(below);
    }
    Some(seen)
}

/// One WAL segment of the default size, in bytes; with less space a database cannot start.
const WAL_SEGMENT_BYTES: u64 = 16 << 20;

/// The filesystems of a container's writable mounts and its writable layer that have no space left.
pub(crate) async fn full_filesystems(cx: &ProbeCx, docker: &Docker, c: &Container) -> Vec<FsUsage> {
    let mut paths: Vec<String> = c.mounts.iter().filter(|m| m.rw && !m.source.is_empty()).map(|m| m.source.clone()).collect();
    paths.extend(docker.of(&c.id).data_root().await.ok());
    full_directories(cx, &paths).await
}

/// The data directories of a packaged server, and the filesystems mounted below them.
fn packaged_directories<'a>(cx: &'a ProbeCx, server: &ServerRef) -> Vec<&'a str> {
    let data = spec(server.product).data;
    let mounts = cx.inventory.mounts.iter().map(|m| m.mountpoint.as_str());
    let below = mounts.filter(|mount| data.iter().any(|directory| Path::new(mount).starts_with(directory)));
    data.iter().copied().chain(below).collect()
}

/// Those of these directories' filesystems with too little space for a database to start.
async fn full_directories(cx: &ProbeCx, paths: &[impl AsRef<str>]) -> Vec<FsUsage> {
    let mut found: Vec<FsUsage> = Vec::new();
    for path in paths {
        if let Ok(space) = cx.filesystems.of(path.as_ref().as_ref()).await
            && space.avail < WAL_SEGMENT_BYTES
            && !found.iter().any(|f| f.dev == space.dev)
        {
            found.push(space);
        }
    }
    found
}

/// Running containers with the name of this one in their environment.
async fn needed_by(cx: &ProbeCx, id: &str) -> Vec<String> {
    let Some(docker) = &cx.docker else { return Vec::new() };
    let Some(server) = cx.inventory.container(id) else { return Vec::new() };
    let names: Vec<&str> = [Some(server.name.as_str()), server.service.as_deref()].into_iter().flatten().collect();
    let mut needing = Vec::new();
    for other in cx.inventory.running().filter(|c| c.id != id) {
        if docker.names_host(&other.id, &names).await {
            needing.push(other.name.clone());
        }
    }
    needing
}
