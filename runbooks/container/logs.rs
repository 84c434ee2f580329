//! A container's log: its size, its bounds, and whether the container can still write to it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, FileIdentity, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Refusal,
    Risk, Severity, quantity,
};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::proc::process;
use opsctl_core::probe::proc::process::BlockedWriter;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::dependencies::NO_ROOM;
use crate::shared::restart_container::{self, RESTART};
use crate::shared::servers::READ_TIMEOUT;

const BLOCKED: Code = Code {
    id: "container.log-blocked",
    severities: &[Severity::Crit],
    when: "a thread of its first process sleeps in a write to stdout or stderr, twice in the same call: its output pipe is full and not read",
    hint: "the container is frozen although its status is up; check the engine, the server of its log driver and the disk of its log, then restart it",
    depends_on: &[NO_ROOM],
    ..Code::BASE
};
const UNBOUNDED: Code = Code {
    id: "container.log-unbounded",
    severities: &[Severity::Info],
    when: "the json-file log has no max-size: it grows until the disk is full",
    hint: "set max-size and max-file in the compose file or in daemon.json; they apply to containers created afterwards",
    ..Code::BASE
};
const HUGE: Code = Code {
    id: "container.log-huge",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the log takes over {log_warn_bytes} or {log_warn_percent} of the filesystem (warn), and that filesystem is 90 % full or the log is over half of the used space (crit)",
    hint: "truncate it (never delete it: the engine holds it open), then set max-size and find the lines that it repeats",
    ..Code::BASE
};
const TRUNCATE: FixSpec =
    FixSpec { id: "log.truncate", risk: Risk::R3, title: "save the last 10 MB of the log, then truncate it to zero" };

static SPEC: CheckSpec = CheckSpec {
    id: "container.logs",
    title: "container logs are written and bounded",
    codes: &[BLOCKED, UNBOUNDED, HUGE],
    fixes: &[TRUNCATE, RESTART],
    timeout: Duration::from_secs(5),
};

/// A writer blocked in the same call for this long is stuck, not busy (judgement: in two samples, 2 s apart).
const BLOCKED_WRITER_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes saved of a truncated log (judgement: 10 MB).
const KEPT_LOG_BYTES: u64 = 10 << 20;
/// Filesystems below this size are judged by percent only: an absolute limit would fire on every small test disk.
const SMALL_FILESYSTEM: u64 = 5 << 30;
/// Usage from which the filesystem counts as full, for severity and fix (judgement: 90 %, the warn limit of `disk.space`).
const FULL_PERCENT: f64 = 90.0;

pub(super) struct Logs {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    /// Size of the log and its rotated files in bytes.
    size: Option<u64>,
    /// The log file itself.
    identity: Option<FileIdentity>,
    /// Time of the last write to the log.
    written: Option<Timestamp>,
    /// Its filesystem.
    filesystem: Option<FsUsage>,
    /// The reason why the size is unknown.
    gap: Option<String>,
    /// A thread blocked in a write to its output, seen twice in the same call.
    blocked: Option<BlockedWriter>,
    /// Data for a restart; only if a restart would help.
    restart: restart_container::RestartContext,
}

impl Check for Logs {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|_| true)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.docker()?.inspect(&target.id).await?;
        let mut e = Evidence { container: (*container).clone(), ..Evidence::default() };
        // Docker's file, and Podman's, for which its Docker API reports no max-size
        if matches!(container.log.driver.as_str(), "json-file" | "k8s-file") && !container.log.path.is_empty() {
            let path = PathBuf::from(&container.log.path);
            match blocking::run("the log file", &container.log.path, Duration::from_secs(2), move |io| measure(io, &path)).await?
            {
                Ok(Some((size, identity, written))) => {
                    (e.size, e.identity, e.written) = (Some(size), Some(identity), written);
                    e.filesystem = cx.filesystems.of(Path::new(&container.log.path)).await.ok();
                }
                Ok(None) => {}
                Err(error) => e.gap = Some(ProbeError::io("the log size", &container.log.path, &error).to_string()),
            }
        }
        if let Some(pid) = container.pid() {
            let blocked = || {
                let read = move |io: &Io| process::blocked_on_output(io, pid.into());
                blocking::run("threads of the container", &container.name, READ_TIMEOUT, read)
            };
            if let Some(first) = blocked().await? {
                tokio::time::sleep(BLOCKED_WRITER_INTERVAL).await;
                e.blocked = blocked().await?.filter(|second| *second == first);
            }
        }
        if e.blocked.is_some() {
            e.restart = restart_container::RestartContext::of(cx, &container).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings = Vec::new();
        findings.extend(blocked(judged, e));
        let huge = self.huge(e);
        if huge.is_none() && e.container.log.driver == "json-file" && e.container.log.max_size.is_none() {
            let message = format!("{}'s log has no max-size: it grows until the disk is full", e.container.name);
            findings.push(
                Finding::new(&UNBOUNDED, Severity::Info, e.container.subject(), message)
                    .cite_opt("size now", e.size.map(quantity::bytes)),
            );
        }
        findings.extend(huge);
        let findings = findings.into_iter().map(|f| f.key(KeyKind::Container, &e.container.id)).collect();
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let c = &e.container;
        if fix == RESTART.id {
            return restart_container::plan(c, &e.restart, &SPEC, finding, judged.target);
        }
        let (Some(identity), Some(filesystem)) = (e.identity, &e.filesystem) else {
            return Err(Refusal::Precondition("the log file cannot be read".to_owned()));
        };
        if filesystem.percent < FULL_PERCENT {
            return Err(Refusal::Precondition(format!(
                "{} is only {} full; the log is truncated only from {} on",
                filesystem.mountpoint,
                quantity::percent(filesystem.percent),
                quantity::percent(FULL_PERCENT)
            )));
        }
        let action = Action::TruncateFile { path: c.log.path.clone(), identity, keep_bytes: KEPT_LOG_BYTES };
        Ok(Plan::new(&TRUNCATE, &SPEC, finding, judged.target, vec![action])
            .affects([format!("all but the last {} of {}'s log is lost", quantity::bytes(KEPT_LOG_BYTES), c.name)])
            .recurs("without max-size the log grows again"))
    }
}

impl Logs {
    fn huge(&self, e: &Evidence) -> Option<Finding> {
        let (size, fs) = (e.size?, e.filesystem.as_ref()?);
        let share = size as f64 * 100.0 / fs.size.max(1) as f64;
        let large =
            share > self.settings.log_warn_percent || (size > self.settings.log_warn_bytes && fs.size >= SMALL_FILESYSTEM);
        if !large {
            return None;
        }
        let urgent = fs.percent >= FULL_PERCENT || size * 2 > fs.used;
        let message = format!(
            "{}'s log takes {}, {} of {}, limit {}",
            e.container.name,
            quantity::bytes(size),
            quantity::percent(share),
            fs.mountpoint,
            quantity::percent(self.settings.log_warn_percent)
        );
        let bound = e.container.log.max_size.as_deref().unwrap_or("none");
        Some(
            Finding::new(&HUGE, if urgent { Severity::Crit } else { Severity::Warn }, e.container.subject(), message)
                .key(KeyKind::Filesystem, &fs.dev)
                .weight(size)
                .cite("file", &e.container.log.path)
                .cite("max-size", bound)
                .cite("filesystem", format!("{} is {} full", fs.mountpoint, quantity::percent(fs.percent)))
                .fix(TRUNCATE.id),
        )
    }
}

fn blocked(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let b = e.blocked.as_ref()?;
    let c = &e.container;
    let stream = if b.fd == 1 { "stdout" } else { "stderr" };
    let message = format!("{} is frozen: {} is blocked writing to {stream}, which is not read", c.name, b.comm);
    let mut finding = Finding::new(&BLOCKED, Severity::Crit, c.subject(), message)
        .cite("kernel", format!("thread {} of {} in {}, descriptor {} is {}", b.tid, b.comm, b.wchan, b.fd, b.pipe))
        .cite("log driver", format!("{}, mode {}", c.log.driver, c.log.mode.as_deref().unwrap_or("blocking")))
        .cite_opt("log last written", e.written.map(|t| quantity::ago(judged.taken_at, t)))
        .fix(RESTART.id);
    if let Some(fs) = &e.filesystem {
        finding = finding.key(KeyKind::Filesystem, &fs.dev);
    }
    Some(finding)
}

/// Size of a log with its rotated files, its identity and last write; `None` if it does not exist yet.
fn measure(io: &Io, path: &Path) -> std::io::Result<Option<(u64, FileIdentity, Option<Timestamp>)>> {
    let meta = match io.symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut size = meta.len();
    // json-file rotates to <file>.1, .2, …, compressed ones with .gz
    for n in 1..=99 {
        let rotated = [format!("{}.{n}", path.display()), format!("{}.{n}.gz", path.display())];
        let Some(more) = rotated.iter().find_map(|p| io.symlink_metadata(p).ok()) else { break };
        size += more.len();
    }
    let written = Timestamp::from_second(meta.mtime()).ok();
    Ok(Some((size, FileIdentity { dev: meta.dev(), ino: meta.ino() }, written)))
}
