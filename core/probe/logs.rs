//! Log evidence: the lines of a container, a unit or a server that give the reason of a failure, and the objects that they name.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Product;
use crate::model::log::{
    LogEntry, LogLine, NewErrors, Reason, ReasonKind, RunningLog, current_errors, has_recent_errors, new_errors, of_failure,
    reason,
};
use crate::probe::ProbeCx;
use crate::probe::docker::{Container, Docker};
use crate::probe::io::{clock, file};
use crate::probe::product::spec;
use crate::probe::systemd::{self, JournalLine, Since};

/// Lines read for a failed run.
const LINES_OF_A_RUN: u32 = 1000;

/// The same after a run with more output than that.
const LINES_OF_A_LONG_RUN: u32 = 20_000;

/// Bytes read from the end of the log of every running container.
const RECENT_BYTES: u64 = 64 << 10;

/// The same for a container with errors in them: the quiet hour before has to be in the lines.
const HISTORY_BYTES: u64 = 4 << 20;

/// Time for which a kind of error is remembered, in seconds.
const KNOWN_FOR_S: i64 = 14 * 24 * 3600;

/// Lines of a unit's journal.
const JOURNAL_LINES: usize = 200;

/// Minutes and lines of the journal that are searched for errors of services.
const RECENT_MINUTES: u16 = 15;
const RECENT_LINES: usize = 5000;

/// The same for one service with errors: more than a day, so that nightly errors are seen.
const HISTORY_MINUTES: u16 = 26 * 60;
const HISTORY_LINES: usize = 3000;

/// Services that log errors of their clients, of jobs or of containers, which other checks judge.
const SILENT_UNITS: &[&str] = &[
    "docker",
    "containerd",
    "podman",
    "ssh",
    "sshd",
    "cron",
    "crond",
    "anacron",
    "nginx",
    "rsyslog",
    "systemd-journald",
    "systemd-logind",
    "polkit",
    "dbus",
    "dbus-broker",
    "fwupd",
    "packagekit",
    "snapd",
    "getty@tty1",
    "opsctl",
    "opsctl-listen",
    "opsctl-report",
];

/// Bytes read from the end of a server's own log file.
const FILE_BYTES: u64 = 128 << 10;

/// Timeout of reading a log file.
const FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason of a failure in the logs of its object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEvidence {
    /// Selected lines, the most telling first.
    pub entries: Vec<LogEntry>,
    /// Filesystems (`major:minor`) that the lines report as full or read-only.
    pub filesystems: Vec<String>,
    /// Servers, containers (full id) and units that the lines report as unreachable.
    pub needed: Vec<String>,
    /// Bind mounts of its container that the lines name, by their paths in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    /// The reason why the log could not be read.
    pub gap: Option<String>,
}

impl LogEvidence {
    /// The line that gives the reason: the first error line.
    #[must_use]
    pub fn line(&self) -> Option<&LogEntry> {
        self.entries.first().filter(|e| e.level >= crate::model::log::Level::Error)
    }

    /// The known reason of the first error line.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.line().and_then(LogEntry::reason)
    }
}

/// The object of the log, for paths and names in its lines.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Container(&'a Container),
    Host {
        /// Directory of relative paths.
        directory: Option<&'a str>,
    },
}

impl ProbeCx {
    /// The reason why the last run of a container ended, from its log before the start of the present run.
    pub async fn log_of_run(&self, container: &Container) -> LogEvidence {
        let Some(docker) = &self.docker else { return LogEvidence::default() };
        let until = container.state.started_at.filter(|_| container.is_up());
        let ended = |lines: &[LogLine]| -> Vec<LogLine> {
            let of_run = |l: &&LogLine| until.zip(l.at).is_none_or(|(until, at)| at < until);
            lines.iter().filter(of_run).cloned().collect()
        };
        let read = |tail| async move { docker.log_of(container, tail).await };
        let lines = match read(LINES_OF_A_RUN).await {
            Ok(lines) => lines,
            Err(error) => {
                let gap = Some(Docker::unreadable_log(&container.log.driver, &error));
                return LogEvidence { gap, ..LogEvidence::default() };
            }
        };
        let mut of_run = ended(&lines);
        // the present run has printed more than was read
        if of_run.is_empty() && lines.len() >= LINES_OF_A_RUN as usize {
            of_run = ended(&read(LINES_OF_A_LONG_RUN).await.unwrap_or_default());
        }
        let is_server = self.inventory.container(&container.id).is_some_and(|c| c.product.is_some())
            || self.inventory.servers.iter().any(|s| s.container.as_ref() == Some(&container.id));
        if is_server {
            of_run = without_clients(of_run);
        }
        self.with_objects(of_failure(&of_run), Source::Container(container)).await
    }

    /// The reason why a unit failed, from lines of its journal and from the log file of its server.
    pub async fn log_of_unit(&self, unit: &str, journal: &[JournalLine], directory: Option<&str>) -> LogEvidence {
        let mut lines = own(journal);
        let server = self.inventory.servers.iter().find(|s| s.unit.as_deref() == Some(unit));
        if let Some(server) = server {
            lines.extend(self.log_file(server.product).await);
            lines.sort_by_key(|l| l.at);
            lines = without_clients(lines);
        }
        let mut entries = of_failure(&lines);
        if entries.is_empty() {
            let by_systemd = journal.iter().filter(|l| l.by_systemd && !l.text.starts_with('/'));
            let lines: Vec<LogLine> = by_systemd.map(|l| LogLine { at: Some(l.at), text: l.text.clone() }).collect();
            entries = of_failure(&lines);
        }
        self.with_objects(entries, Source::Host { directory }).await
    }

    /// The reason in lines of a unit's journal, without the log file of its server.
    pub async fn log_of_lines(&self, journal: &[JournalLine]) -> LogEvidence {
        self.with_objects(of_failure(&own(journal)), Source::Host { directory: None }).await
    }

    /// The reason in a message about a container or a unit, for example of the engine.
    pub async fn log_of_message(&self, text: &str) -> LogEvidence {
        let line = LogEntry { text: text.to_owned(), level: crate::model::log::Level::Error, count: 1, ..LogEntry::default() };
        self.with_objects(vec![line], Source::Host { directory: None }).await
    }

    /// The lines of the newest log file of a product, as its packages configure it.
    async fn log_file(&self, product: Product) -> Vec<LogLine> {
        let mut newest: Vec<LogLine> = Vec::new();
        for pattern in spec(product).logs {
            let Ok(Some(info)) = file::inspect(pattern, &[], FILE_TIMEOUT).await else { continue };
            let Ok(Some(tail)) = file::tail(&info.path, FILE_BYTES, FILE_TIMEOUT).await else { continue };
            let lines: Vec<LogLine> = tail.lines.into_iter().map(|(at, text)| LogLine { at, text }).collect();
            if lines.last().map(|l| l.at) > newest.last().map(|l| l.at) {
                newest = lines;
            }
        }
        newest
    }

    /// The errors that a running container has begun to log, and the objects that they name.
    pub async fn new_errors_of_container(
        &self,
        container: &Container,
    ) -> Result<(Option<NewErrors>, LogEvidence), crate::probe::ProbeError> {
        let Some(docker) = self.docker.as_ref().filter(|_| !self.is_nginx(container)) else { return Ok(Default::default()) };
        let object = format!("log:{}", container.name);
        let (mut lines, mut cut) = docker.recent_log(container, RECENT_BYTES).await?;
        // a longer history shows whether the errors are new, and whether they are ordinary
        if cut && has_recent_errors(&lines, clock::now()) {
            (lines, cut) = docker.recent_log(container, HISTORY_BYTES).await?;
        }
        let started = container.state.started_at;
        let log = RunningLog { lines: &lines, from: started.filter(|_| !cut), started, now: clock::now() };
        let Some(found) = new_errors(log, |kind| self.recorded_error(&object, kind)) else { return Ok(Default::default()) };
        let evidence = self.with_objects(vec![found.entry.clone()], Source::Container(container)).await;
        Ok((Some(found), evidence))
    }

    /// The errors that a running container has logged since then, and the objects that they name.
    pub async fn errors_since(&self, container: &Container, since: Timestamp) -> LogEvidence {
        let Some(docker) = self.docker.as_ref().filter(|_| !self.is_nginx(container)) else { return LogEvidence::default() };
        let mut lines = match docker.recent_log(container, RECENT_BYTES).await {
            Ok((lines, _)) => lines,
            Err(error) => {
                let gap = Some(Docker::unreadable_log(&container.log.driver, &error));
                return LogEvidence { gap, ..LogEvidence::default() };
            }
        };
        lines.retain(|l| l.at.is_none_or(|at| at >= since));
        self.with_objects(current_errors(&lines), Source::Container(container)).await
    }

    /// The log of an nginx is about its upstreams and clients; the nginx runbook judges it.
    fn is_nginx(&self, container: &Container) -> bool {
        let mut servers = self.inventory.servers.iter().filter(|s| s.product == Product::Nginx);
        servers.any(|s| s.container.as_ref() == Some(&container.id))
    }

    /// The services that have begun to log errors, with the objects that their lines name.
    pub async fn new_errors_of_units(&self) -> Result<Vec<(String, NewErrors, LogEvidence)>, crate::probe::ProbeError> {
        let systemd = self.systemd()?;
        let recent = systemd::journal_of_services(Since::Minutes(RECENT_MINUTES), RECENT_LINES).await?;
        let mut found = Vec::new();
        for (name, lines) in recent {
            let silent = SILENT_UNITS.iter().any(|unit| name.trim_end_matches(".service") == *unit);
            if silent || !has_recent_errors(&own(&lines), clock::now()) {
                continue;
            }
            let unit = systemd.unit(&name).await?;
            if unit.active != "active" {
                continue;
            }
            let now = clock::now();
            let history = systemd::own_lines(&name, Since::Minutes(HISTORY_MINUTES), HISTORY_LINES).await?;
            // the journal is complete for this time unless as many lines as requested exist
            let from = (history.len() < HISTORY_LINES).then(|| now - SignedDuration::from_mins(HISTORY_MINUTES.into()));
            let lines = own(&history);
            let log = RunningLog { lines: &lines, from, started: unit.active_since, now };
            let object = format!("log:{name}");
            if let Some(errors) = new_errors(log, |kind| self.recorded_error(&object, kind)) {
                let evidence = self.with_objects(vec![errors.entry.clone()], Source::Host { directory: None }).await;
                found.push((name, errors, evidence));
            }
        }
        Ok(found)
    }

    /// The time of the first run that reported this kind of error.
    fn recorded_error(&self, object: &str, kind: &str) -> Option<Timestamp> {
        self.history.oldest(object, kind, KNOWN_FOR_S).map(|sample| sample.at)
    }

    async fn with_objects(&self, entries: Vec<LogEntry>, source: Source<'_>) -> LogEvidence {
        let mut evidence = LogEvidence { entries, ..LogEvidence::default() };
        if let Source::Container(container) = source {
            let is_named = |path: &str| evidence.entries.iter().any(|e| names_path(&e.text, path));
            let binds = container.mounts.iter().filter(|m| m.kind == "bind" && is_named(&m.destination));
            evidence.binds = binds.map(|m| m.destination.clone()).collect();
        }
        let reasons: Vec<Reason> = evidence.entries.iter().filter_map(LogEntry::reason).collect();
        for reason in &reasons {
            if matches!(reason.kind, ReasonKind::NoSpace | ReasonKind::ReadOnly) {
                for device in self.filesystem_of(reason.object.as_deref(), source).await {
                    if !evidence.filesystems.contains(&device) {
                        evidence.filesystems.push(device);
                    }
                }
            }
            if let Some((host, port)) = reason.peer() {
                for object in self.objects_at(source, host, port).await {
                    if !evidence.needed.contains(&object) {
                        evidence.needed.push(object);
                    }
                }
            }
        }
        evidence
    }

    /// The filesystems of a path in a log line, as its object sees it.
    async fn filesystem_of(&self, path: Option<&str>, source: Source<'_>) -> Vec<String> {
        if self.inventory.confined.is_some() {
            return Vec::new();
        }
        let path = path.filter(|p| !p.is_empty());
        let on_host: Vec<String> = match source {
            Source::Host { directory } => match (path, directory) {
                (Some(path), _) if path.starts_with('/') => vec![path.to_owned()],
                (_, Some(directory)) => vec![directory.to_owned()],
                _ => Vec::new(),
            },
            Source::Container(container) => {
                let root = match &self.docker {
                    Some(docker) => docker.of(&container.id).data_root().await.ok(),
                    None => None,
                };
                match path.filter(|p| p.starts_with('/')) {
                    Some(path) => container.host_path(path).or(root).into_iter().collect(),
                    // a relative path: any of the filesystems it can write to
                    None => container
                        .mounts
                        .iter()
                        .filter(|m| m.rw && !m.source.is_empty())
                        .map(|m| m.source.clone())
                        .chain(root)
                        .collect(),
                }
            }
        };
        let mut found = Vec::new();
        for path in on_host {
            // the file may not exist: its directory is on the same filesystem
            for place in Path::new(&path).ancestors() {
                if let Ok(usage) = self.filesystems.of(place).await {
                    found.push(usage.dev);
                    break;
                }
            }
        }
        found
    }

    /// The servers, containers and units at a peer's address, as the object sees it.
    async fn objects_at(&self, source: Source<'_>, host: &str, port: Option<u16>) -> Vec<String> {
        let mut found = Vec::new();
        let from = match source {
            Source::Container(container) => Some(container),
            Source::Host { .. } => None,
        };
        let Ok(needs) = self.needs().await else { return found };
        let neighbours = &needs.neighbours;
        let on_host = neighbours.on_host(from);
        let mut containers: Vec<&Container> = neighbours.resolve(from, host).map(|r| r.container).into_iter().collect();
        let loopback = host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "::1";
        let this_host = host == "host.docker.internal" || (on_host && loopback);
        if this_host && let Some(port) = port {
            containers.extend(neighbours.all().iter().filter(|c| c.publishes(port)).map(|c| &**c));
        }
        found.extend(containers.iter().filter(|c| from.is_none_or(|from| from.id != c.id)).map(|c| c.id.clone()));
        if let Some(port) = port
            && (on_host || this_host)
        {
            found.extend(self.units_of(if this_host { "localhost" } else { host }, port).await);
        }
        let servers = self.inventory.servers.iter();
        let at = |s: &&crate::model::ServerRef| {
            s.container.iter().chain(&s.unit).any(|id| found.contains(id))
                || (this_host && port == Some(spec(s.product).port) && s.container.is_none())
        };
        let ids: Vec<String> = servers.filter(at).map(|s| s.id.clone()).collect();
        found.extend(ids);
        found
    }
}

/// Whether a line names a path, and not only a longer one that begins with it.
fn names_path(text: &str, path: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    path.len() > 1 && text.match_indices(path).any(|(at, _)| !text[at + path.len()..].starts_with(goes_on))
}

/// The lines of a server without those about its clients: a rejected login or a missing table is no reason for its own end.
fn without_clients(lines: Vec<LogLine>) -> Vec<LogLine> {
    let of_client =
        |l: &LogLine| reason(&l.text).is_some_and(|r| matches!(r.kind, ReasonKind::LoginRejected | ReasonKind::SchemaMissing));
    lines.into_iter().filter(|l| !of_client(l)).collect()
}

/// The lines that the unit itself logged.
fn own(journal: &[JournalLine]) -> Vec<LogLine> {
    journal.iter().filter(|l| !l.by_systemd).map(|l| LogLine { at: Some(l.at), text: l.text.clone() }).collect()
}

/// The lines of a unit's journal in this boot, with the reason of a failed read.
pub async fn journal_of(unit: &str) -> Result<Vec<JournalLine>, crate::probe::ProbeError> {
    systemd::journal_of_unit(unit, JOURNAL_LINES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_in_a_line() {
        let socket = "/var/run/docker.sock";
        assert!(names_path("dial unix /var/run/docker.sock: connect: connection refused", socket));
        assert!(names_path("Cannot connect to unix:///var/run/docker.sock. Is it running?", socket));
        assert!(!names_path("open /var/run/docker.sock-2: permission denied", socket));
        assert!(!names_path("open /etc/app/extra.conf: permission denied", "/etc/app"));
        assert!(!names_path("cannot write /", "/"));
    }
}
