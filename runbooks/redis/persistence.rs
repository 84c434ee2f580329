//! Persistence: snapshots and the append-only file.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product,
    Refusal, Risk, Role, Severity,
    quantity::{bytes, duration, seconds},
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::proc::files::file_tail;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, session};
use crate::shared::dependencies::NO_ROOM;
use crate::shared::servers::{READ_TIMEOUT, Server, filesystem_at};
use crate::shared::sysctl;

const PERSISTENCE: Code = Code {
    id: "redis.persistence",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the last snapshot or write to the append-only file failed (crit), a snapshot has been running for {bgsave_warn_s} (warn) or {bgsave_crit_s} (crit), the append-only file could not be rewritten or changes are older than twice the longest save window (warn)",
    hint: "free space or fix the permissions of its directory first, then save; writes are rejected until a save succeeds. Do not restart the server: it would load the old snapshot",
    impacts: &[Impact::confirmed(Role::RejectsWrites, KeyKind::Writes, "cache rejects writes")],
    depends_on: &[NO_ROOM],
};

const BGSAVE: FixSpec = FixSpec {
    id: "redis.bgsave",
    risk: Risk::R1,
    title: "save a snapshot now, if it fits on the disk: writes are accepted again as soon as it succeeds",
};
const OVERCOMMIT: FixSpec = FixSpec {
    id: "redis.overcommit",
    risk: Risk::R1,
    title: "set vm.overcommit_memory to 1, so that the fork for a snapshot succeeds, and save",
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.persistence",
    title: "Redis data is saved to disk",
    codes: &[PERSISTENCE],
    fixes: &[BGSAVE, OVERCOMMIT],
    timeout: Duration::from_secs(8),
};

const SYSCTL: &str = "vm.overcommit_memory";

const KEYS: &[&str] = &[
    "rdb_last_bgsave_status",
    "rdb_bgsave_in_progress",
    "rdb_current_bgsave_time_sec",
    "rdb_changes_since_last_save",
    "rdb_last_save_time",
    "aof_enabled",
    "aof_last_write_status",
    "aof_last_bgrewrite_status",
    "used_memory",
    "used_memory_dataset",
    "uptime_in_seconds",
    "role",
];

pub(super) struct Persistence {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    /// The error reply to PING: code and message.
    refuses: Option<(String, String)>,
    /// Directory of its files.
    dir: Option<String>,
    /// `save` windows, as configured: `3600 1 300 100`.
    save: Option<String>,
    /// Whether failed snapshots stop writes.
    stop_writes: Option<String>,
    /// Free space in that directory.
    space: Option<FsUsage>,
    /// Log lines about a failure, newest last.
    log: Vec<String>,
    /// `vm.overcommit_memory`.
    overcommit: Option<String>,
}

impl Check for Persistence {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, KEYS).await?;
        let (dir, save, stop_writes) =
            tokio::join!(session.setting("dir"), session.setting("save"), session.setting("stop-writes-on-bgsave-error"));
        let mut e = Evidence { server, info, refuses: session.refuses.clone(), dir, save, stop_writes, ..Evidence::default() };
        let pid = e.server.get().and_then(|s| s.process).map(|p| p.pid);
        if let Some(dir) = &e.dir {
            e.space = filesystem_at(cx, &e.server, dir).await;
        }
        if failed(&e) {
            e.log = log_of(cx, &e, &session, pid).await;
            let read = |io: &Io| Tree::default().sysctls(io, &[SYSCTL]).remove(SYSCTL);
            e.overcommit = blocking::run("a setting of the kernel", SYSCTL, READ_TIMEOUT, read).await?;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [e.failed_save(judged), e.failed_append(judged), self.slow(judged, e), old(judged, e)];
        let findings: Vec<Finding> = findings.into_iter().flatten().collect();
        let pending = if e.info.is("rdb_bgsave_in_progress", "1") && findings.iter().any(|f| f.severity == Severity::Crit) {
            vec![format!("{} to save a snapshot", judged.target.name)]
        } else {
            Vec::new()
        };
        let mut judgement = Judgement { findings, pending, ..Judgement::default() };
        if e.info.text("rdb_last_bgsave_status").is_none() && e.info.text("aof_enabled").is_none() {
            judgement.gaps.push("it does not report the status of its snapshots".to_owned());
        }
        judgement
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let name = &judged.target.name;
        let save = Action::RedisSave { server: judged.target.id.clone() };
        let dataset = e.dataset();
        if e.info.is("rdb_bgsave_in_progress", "1") {
            return Err(Refusal::Precondition(format!("{name} is saving a snapshot: wait for it to finish")));
        }
        let Some(space) = &e.space else {
            return Err(Refusal::Precondition(format!(
                "cannot check whether a snapshot of {name} fits: its directory cannot be examined"
            )));
        };
        if space.avail < dataset + dataset / 5 {
            return Err(Refusal::Precondition(format!(
                "a snapshot of about {} does not fit: {} has {} left and 1.2 times that is needed; free space first",
                bytes(dataset),
                e.dir.as_deref().unwrap_or("its directory"),
                bytes(space.avail)
            )));
        }
        let within = Duration::from_secs(120);
        if fix == OVERCOMMIT.id {
            let Some(now) = e.overcommit.clone().filter(|n| n != "1") else {
                return Err(Refusal::Precondition(format!("{SYSCTL} is not 0 or 2")));
            };
            let (actions, undo) = sysctl::set(SYSCTL, &now, "1");
            return Ok(Plan::new(&OVERCOMMIT, &SPEC, finding, judged.target, [actions, vec![save]].concat())
                .undo(undo)
                .verified(within, Duration::ZERO));
        }
        Ok(Plan::new(&BGSAVE, &SPEC, finding, judged.target, vec![save])
            .affects([format!("{name} forks: memory use may double for the time of the snapshot")])
            .verified(within, Duration::ZERO))
    }
}

fn failed(e: &Evidence) -> bool {
    ["rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"].iter().any(|k| e.info.is(k, "err"))
}

/// The log lines with the reason of a failed save.
async fn log_of(
    cx: &ProbeCx,
    e: &Evidence,
    session: &opsctl_core::probe::servers::redis::Session,
    pid: Option<i32>,
) -> Vec<String> {
    let is_reason = |line: &String| {
        [
            "Write error",
            "Can't save",
            "Failed opening",
            "Error moving temp",
            "Background saving error",
            "No space left",
            "Asynchronous AOF fsync",
            "rewriting append only file",
        ]
        .iter()
        .any(|w| line.contains(w))
    };
    let mut lines = Vec::new();
    let container = e.server.get().and_then(|s| s.container.clone());
    if let (Some(id), Some(docker)) = (container, &cx.docker) {
        lines = docker.log_tail(&id, 300, None).await.unwrap_or_default();
    }
    if lines.is_empty()
        && let (Some(file), Some(pid)) = (session.setting("logfile").await.filter(|f| f.starts_with('/')), pid)
    {
        let read = move |io: &Io| file_tail(io, pid, &file, 64 << 10);
        lines = blocking::run("its log", &format!("process {pid}"), READ_TIMEOUT, read).await.unwrap_or_default();
    }
    let mut lines: Vec<String> = lines.into_iter().filter(is_reason).collect();
    lines.drain(..lines.len().saturating_sub(4));
    lines
}

/// The reason of a failed save.
enum Reason {
    Space,
    Memory,
    Permission,
    Unknown,
}

impl Evidence {
    /// Upper bound of the snapshot's size in bytes: the dataset without overhead. Compression makes it smaller.
    fn dataset(&self) -> u64 {
        self.info.number("used_memory_dataset").or_else(|| self.info.number("used_memory")).unwrap_or(0)
    }

    fn reason(&self) -> Reason {
        let logged = |word: &str| self.log.iter().any(|l| l.contains(word));
        let fits = self.space.as_ref().is_none_or(|s| s.avail > self.dataset());
        if logged("No space left") || !fits {
            Reason::Space
        } else if logged("fork: Cannot allocate memory") || logged("Can't save in background: fork") {
            Reason::Memory
        } else if logged("Permission denied") || logged("Read-only file system") {
            Reason::Permission
        } else {
            Reason::Unknown
        }
    }

    fn failed_save(&self, judged: &Judged<'_>) -> Option<Finding> {
        if !self.info.is("rdb_last_bgsave_status", "err") {
            return None;
        }
        let name = &judged.target.name;
        let dir = self.dir.as_deref().unwrap_or("its directory");
        let reason = self.reason();
        let why = match (&reason, &self.space) {
            (Reason::Space, Some(space)) => {
                format!(
                    ": about {} do not fit, {dir} has {} of {} left",
                    bytes(self.dataset()),
                    bytes(space.avail),
                    bytes(space.size)
                )
            }
            (Reason::Space, None) => format!(": no space left at {dir}"),
            (Reason::Memory, _) => ": the kernel rejects the fork for lack of memory".to_owned(),
            (Reason::Permission, _) => format!(": no permission to write to {dir}"),
            (Reason::Unknown, _) => String::new(),
        };
        let refuses = self.refuses.as_ref().is_some_and(|(code, _)| code == "MISCONF");
        let effect = if refuses { ", and it rejects writes (MISCONF)" } else { "" };
        let message = format!("the last snapshot of {name} failed{why}{effect}");
        let finding = self
            .server
            .finding(&PERSISTENCE, Severity::Crit, judged.target, message)
            .cite_opt("changes not saved", self.info.number("rdb_changes_since_last_save").map(|n| n.to_string()))
            .cite_opt("last good snapshot", self.age_of_snapshot(judged).map(|a| format!("{} ago", duration(a))))
            .cite("log", self.log.join("\n"))
            .cite_opt("stop-writes-on-bgsave-error", self.stop_writes.clone());
        let finding = if refuses { self.refusing(finding) } else { finding };
        let finding = self.on_its_filesystem(finding);
        Some(match reason {
            Reason::Memory if self.overcommit.as_deref() != Some("1") => finding.key(KeyKind::Host, "host").fix(OVERCOMMIT.id),
            _ => finding.fix(BGSAVE.id),
        })
    }

    fn failed_append(&self, judged: &Judged<'_>) -> Option<Finding> {
        let name = &judged.target.name;
        let tied = |f: Finding| self.on_its_filesystem(f);
        if self.info.is("aof_last_write_status", "err") {
            let message =
                format!("the last write of {name} to its append-only file failed: it rejects writes until one succeeds");
            let finding = self.refusing(self.server.finding(&PERSISTENCE, Severity::Crit, judged.target, message));
            return Some(tied(finding.cite("log", self.log.join("\n"))));
        }
        (self.info.is("aof_enabled", "1") && self.info.is("aof_last_bgrewrite_status", "err")).then(|| {
            let message = format!("the append-only file of {name} could not be rewritten: it keeps growing");
            tied(self.server.finding(&PERSISTENCE, Severity::Warn, judged.target, message).cite("log", self.log.join("\n")))
        })
    }

    /// Links a finding to the clients with rejected writes.
    fn refusing(&self, finding: Finding) -> Finding {
        self.server.get().into_iter().fold(finding, |f, server| f.key(KeyKind::Writes, &server.id))
    }

    fn on_its_filesystem(&self, finding: Finding) -> Finding {
        match &self.space {
            Some(space) => finding.key(KeyKind::Filesystem, &space.dev),
            None => finding,
        }
    }

    fn age_of_snapshot(&self, judged: &Judged<'_>) -> Option<SignedDuration> {
        let at = i64::try_from(self.info.number("rdb_last_save_time")?).ok()?;
        Some(SignedDuration::from_secs(judged.taken_at.as_second() - at))
    }
}

impl Persistence {
    fn slow(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let running = e.info.number("rdb_current_bgsave_time_sec").filter(|_| e.info.is("rdb_bgsave_in_progress", "1"))?;
        let running = running as f64;
        let (severity, limit) = self.settings.bgsave().exceeded(running)?;
        let message =
            format!("{} has been saving a snapshot for {}, limit {}", judged.target.name, seconds(running), seconds(limit));
        Some(e.server.finding(&PERSISTENCE, severity, judged.target, message))
    }
}

/// Unsaved changes older than twice the longest save window.
fn old(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let window = longest_window(e.save.as_deref()?)?;
    let changes = e.info.number("rdb_changes_since_last_save").filter(|c| *c > 0)?;
    if failed(e) || e.info.is("aof_enabled", "1") {
        return None;
    }
    // the time of startup counts as a save: nothing was unsaved then
    let age = e.age_of_snapshot(judged)?;
    (age.as_secs() > 2 * window).then(|| {
        let message = format!(
            "{changes} changes in {} are not on disk, the last snapshot is {} old, limit {}",
            judged.target.name,
            duration(age),
            duration(SignedDuration::from_secs(2 * window))
        );
        e.server.finding(&PERSISTENCE, Severity::Warn, judged.target, message).fix(BGSAVE.id)
    })
}

/// The longest of the windows `seconds changes seconds changes …`, in seconds; `None` without a window.
fn longest_window(save: &str) -> Option<i64> {
    let numbers: Vec<i64> = save.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    numbers.chunks_exact(2).filter(|w| w[0] > 0).map(|w| w[0]).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_save_window() {
        assert_eq!(longest_window("3600 1 300 100 60 10000"), Some(3600));
        assert_eq!((longest_window(""), longest_window("x 1")), (None, None));
    }
}
