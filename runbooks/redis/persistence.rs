//! Persistence: snapshots and the append-only file.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product,
    Refusal, Risk, Role, Severity,
    quantity::{bytes, duration, seconds},
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::proc::files::{DirectoryState, directory_of, file_tail};
use opsctl_core::probe::servers::redis::{ConfiguredSnapshot, configured_snapshot};
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
    when: "the last snapshot or write to the append-only file failed (crit), a snapshot has been running for {bgsave_warn_s} (warn) or {bgsave_crit_s} (crit), the append-only file could not be rewritten or changes are older than twice the longest save window (warn); it saves to another file than its configuration sets (warn), or to one that grants access to this host (crit)",
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
    "aof_rewrite_in_progress",
    "config_file",
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
    /// Name of its snapshot.
    dbfilename: Option<String>,
    /// The snapshot that its configuration file or its start arguments set.
    configured: Option<ConfiguredSnapshot>,
    /// The directory as the server uses it.
    directory: Option<DirectoryState>,
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
        let (dir, dbfilename, save, stop_writes) = tokio::join!(
            session.setting("dir"),
            session.setting("dbfilename"),
            session.setting("save"),
            session.setting("stop-writes-on-bgsave-error")
        );
        let mut e = Evidence { server, info, dir, dbfilename, save, stop_writes, ..Evidence::default() };
        e.refuses.clone_from(&session.refuses);
        let pid = e.server.get().and_then(|s| s.process).map(|p| p.pid);
        if let Some(dir) = e.dir.clone() {
            e.space = filesystem_at(cx, &e.server, &dir).await;
            if let (Some(server), Some(pid)) = (e.server.get(), pid) {
                let config_file = e.info.text("config_file").unwrap_or_default();
                e.configured = configured_snapshot(cx, server, config_file, &dir).await.ok().flatten();
                let from = format!("{dir} of process {pid}");
                let read = move |io: &Io| directory_of(io, pid, &dir);
                e.directory = blocking::run("its directory", &from, READ_TIMEOUT, read).await.ok().flatten();
            }
        }
        if failed(&e) {
            e.log = log_of(cx, &e, &session, pid).await;
            let read = |io: &Io| Tree::default().sysctls(io, &[SYSCTL]).remove(SYSCTL);
            e.overcommit = blocking::run("a setting of the kernel", SYSCTL, READ_TIMEOUT, read).await?;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [e.failed_save(judged), e.failed_append(judged), self.slow(judged, e), old(judged, e), e.altered(judged)];
        let findings: Vec<Finding> = findings.into_iter().flatten().collect();
        let pending = if e.info.is("rdb_bgsave_in_progress", "1") && findings.iter().any(|f| f.severity == Severity::Crit) {
            vec![format!("{} to save a snapshot", judged.target.name)]
        } else {
            Vec::new()
        };
        let mut judgement = Judgement { findings, pending, ..Judgement::default() };
        let reports = |field: &str| e.info.text(field).is_some();
        if judgement.findings.is_empty() && !reports("rdb_last_bgsave_status") && !reports("aof_enabled") {
            judgement.skip = Some("it reports no snapshots: it saves none, or not as Redis does".to_owned());
        }
        judgement
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let name = &judged.target.name;
        let save = Action::RedisSave { server: judged.target.id.clone() };
        let dataset = e.dataset();
        e.may_save(name)?;
        if e.info.is("rdb_bgsave_in_progress", "1") {
            return Err(Refusal::Precondition(format!("{name} is saving a snapshot: wait for it to finish")));
        }
        if e.info.is("aof_rewrite_in_progress", "1") {
            return Err(Refusal::Precondition(format!("{name} is rewriting its append-only file: wait for it to finish")));
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
            let now = match e.overcommit.as_deref() {
                Some("0") => "0",
                Some("1") => {
                    return Err(Refusal::Precondition(format!("{SYSCTL} is 1 already: the fork fails at another limit")));
                }
                // strict accounting, mostly for a database beside it
                Some("2") => {
                    let why = format!("{SYSCTL} is 2, which was chosen for this host: raise vm.overcommit_ratio or add swap");
                    return Err(Refusal::Policy(why));
                }
                _ => return Err(Refusal::Precondition(format!("{SYSCTL} could not be read"))),
            };
            let (actions, undo) = sysctl::set(SYSCTL, now, "1");
            return Ok(Plan::new(&OVERCOMMIT, &SPEC, finding, judged.target, [actions, vec![save]].concat())
                .undo(undo)
                .affects([
                    "all programs of this host: the kernel grants every allocation, and kills a process when memory is exhausted"
                        .to_owned(),
                ])
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
        lines = docker.log_tail(&id, 300).await.unwrap_or_default();
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// A client changed where it saves.
    Altered,
    Space,
    Memory,
    Permission,
    ReadOnly,
    Unknown,
}

/// A snapshot file that the server was not started with, or that grants access to this host.
struct Altered {
    file: String,
    /// The configured file, and the source of its path.
    configured: Option<(String, String)>,
    /// The file is executed, or grants access.
    grants_access: bool,
}

impl Altered {
    /// `/etc/cron.d/root instead of /data/dump.rdb (its start arguments)`.
    fn text(&self) -> String {
        match &self.configured {
            Some((file, source)) => format!("{} instead of {file} ({source})", self.file),
            None => format!("{}, a file that grants access to this host", self.file),
        }
    }
}

/// Directories of files that are executed, read by other programs or grant access. A server never saves there, not even
/// by its configuration file, which `CONFIG REWRITE` changes.
const SYSTEM_DIRECTORIES: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/sbin",
    "/usr/share/nginx",
    "/var/spool/cron",
    "/var/www",
    "/srv/www",
];

/// Directories below them with data of the server itself.
const OWN_DIRECTORIES: &[&str] = &["/etc/redis", "/etc/valkey", "/etc/keydb"];

/// Names of directories with the same meaning anywhere.
const ACCESS_DIRECTORIES: &[&str] = &[".ssh", "crontabs", "htdocs", "public_html", "wwwroot"];

/// Endings of files that a web server, a shell or a loader executes.
const EXECUTED: &[&str] = &["asp", "aspx", "cgi", "jsp", "jspx", "php", "pl", "py", "sh", "so"];

fn grants_access(dir: &str, name: &str) -> bool {
    let (directory, file) = (Path::new(dir), Path::new(name));
    let below = |all: &[&str]| all.iter().any(|system| directory.starts_with(system));
    let named = |part: &OsStr| ACCESS_DIRECTORIES.iter().any(|access| part == *access);
    let is_executed = file.extension().is_some_and(|ending| EXECUTED.iter().any(|e| ending.eq_ignore_ascii_case(e)));
    (below(SYSTEM_DIRECTORIES) && !below(OWN_DIRECTORIES))
        || directory.iter().any(named)
        || is_executed
        || name == "authorized_keys"
}

impl Evidence {
    /// Upper bound of the snapshot's size in bytes: the dataset without overhead. Compression makes it smaller.
    fn dataset(&self) -> u64 {
        self.info.number("used_memory_dataset").or_else(|| self.info.number("used_memory")).unwrap_or(0)
    }

    /// The snapshot file in use.
    fn file(&self) -> Option<String> {
        Some(path_of(self.dir.as_deref()?, self.dbfilename.as_deref().unwrap_or_default()))
    }

    /// The file is the configured one; `None` if that is unknown.
    fn is_configured(&self) -> Option<bool> {
        let configured = self.configured.as_ref()?;
        let same = configured.is_in_use && self.dbfilename.as_ref().is_none_or(|name| *name == configured.name);
        // without its start arguments, another file may have been set at the start
        (same || configured.is_complete).then_some(same)
    }

    fn alteration(&self) -> Option<Altered> {
        let (file, dir) = (self.file()?, self.dir.as_deref()?);
        let grants_access = grants_access(dir, self.dbfilename.as_deref().unwrap_or_default());
        let configured = self.configured.as_ref().filter(|_| self.is_configured() == Some(false));
        let configured = configured.map(|c| (path_of(&c.dir, &c.name), c.source.clone()));
        (grants_access || configured.is_some()).then_some(Altered { file, configured, grants_access })
    }

    fn reason(&self) -> Reason {
        let logged = |word: &str| self.log.iter().any(|l| l.contains(word));
        let fits = self.space.as_ref().is_none_or(|s| s.avail > self.dataset());
        if self.alteration().is_some() {
            Reason::Altered
        } else if logged("No space left") || !fits {
            Reason::Space
        } else if logged("fork: Cannot allocate memory") || logged("Can't save in background: fork") {
            Reason::Memory
        } else if logged("Read-only file system") || self.directory.as_ref().is_some_and(|d| d.read_only) {
            Reason::ReadOnly
        } else if logged("Permission denied") || self.directory.as_ref().is_some_and(|d| !d.writable) {
            Reason::Permission
        } else {
            Reason::Unknown
        }
    }

    /// The reason for which the next save would fail too, or must not be started.
    fn may_save(&self, name: &str) -> Result<(), Refusal> {
        let dir = self.dir.as_deref().unwrap_or("its directory");
        if let Some(altered) = self.alteration() {
            return Err(Refusal::Policy(format!(
                "{name} saves to {}: a client chose the file, and the save would write it",
                altered.text()
            )));
        }
        match (self.reason(), &self.directory) {
            (Reason::Permission, Some(d)) if !d.writable => {
                let (owner, user) = (d.owner, d.user);
                let why = format!("a save would fail again: {dir} belongs to uid {owner}, and {name} runs as uid {user}");
                return Err(Refusal::Precondition(why));
            }
            (Reason::ReadOnly, Some(d)) if d.read_only => {
                return Err(Refusal::Precondition(format!("a save would fail again: {dir} is mounted read-only")));
            }
            (Reason::Permission | Reason::ReadOnly, None) => {
                return Err(Refusal::Precondition(format!("a save would fail again: {name} cannot write to {dir}")));
            }
            // the reason in the log has been removed
            _ => {}
        }
        match self.file().filter(|_| self.is_configured().is_none()) {
            Some(file) => Err(Refusal::ByHand(format!(
                "check that {file} is its own, since neither its configuration file nor its start arguments show it; then `redis-cli BGSAVE`"
            ))),
            None => Ok(()),
        }
    }

    /// A save has a chance: the file is its own, and its directory accepts it. Space is compared in the plan.
    fn can_save(&self, name: &str) -> bool {
        !matches!(self.may_save(name), Err(Refusal::Policy(_) | Refusal::Precondition(_)))
    }

    /// A server that saves to another file than it was started with, while its saves succeed.
    fn altered(&self, judged: &Judged<'_>) -> Option<Finding> {
        let altered = self.alteration().filter(|_| !self.info.is("rdb_last_bgsave_status", "err"))?;
        let severity = if altered.grants_access { Severity::Crit } else { Severity::Warn };
        let message = format!("{} saves to {}", judged.target.name, altered.text());
        Some(self.by_client(self.server.finding(&PERSISTENCE, severity, judged.target, message)))
    }

    /// Ties a finding about changed settings to the clients that can change them.
    fn by_client(&self, finding: Finding) -> Finding {
        let finding = finding.hint(
            "find the client and the file that it wrote before the next save: `redis-cli CONFIG GET dir`, `redis-cli CLIENT LIST`; require authentication",
        );
        match self.server.get() {
            Some(server) => finding.key(KeyKind::Altered, &server.id),
            None => finding,
        }
    }

    fn failed_save(&self, judged: &Judged<'_>) -> Option<Finding> {
        if !self.info.is("rdb_last_bgsave_status", "err") {
            return None;
        }
        let name = &judged.target.name;
        let dir = self.dir.as_deref().unwrap_or("its directory");
        let reason = self.reason();
        let altered = self.alteration();
        let why = match (&reason, &self.space) {
            (Reason::Altered, _) => altered.as_ref().map_or_else(String::new, |a| format!(": it saves to {}", a.text())),
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
            (Reason::ReadOnly, _) => format!(": {dir} is read-only"),
            (Reason::Unknown, _) => String::new(),
        };
        let refuses = self.refuses.as_ref().is_some_and(|(code, _)| code == "MISCONF");
        let effect = if refuses { ", and it rejects writes (MISCONF)" } else { "" };
        let message = format!("the last snapshot of {name} failed{why}{effect}");
        let rights = self.directory.as_ref().filter(|_| reason == Reason::Permission);
        let finding = self
            .server
            .finding(&PERSISTENCE, Severity::Crit, judged.target, message)
            .cite_opt("changes not saved", self.info.number("rdb_changes_since_last_save").map(|n| n.to_string()))
            .cite_opt("last good snapshot", self.age_of_snapshot(judged).map(|a| format!("{} ago", duration(a))))
            .cite("log", self.log.join("\n"))
            .cite_opt("directory", rights.map(|d| format!("{dir} belongs to uid {}, the server runs as uid {}", d.owner, d.user)))
            .cite_opt("stop-writes-on-bgsave-error", self.stop_writes.clone());
        let finding = if refuses { self.refusing(finding) } else { finding };
        let finding = self.on_its_filesystem(finding);
        Some(match reason {
            Reason::Altered => self.by_client(finding),
            Reason::Memory if self.overcommit.as_deref() != Some("1") => finding.key(KeyKind::Host, "host").fix(OVERCOMMIT.id),
            _ => finding.fix_if(self.can_save(name), BGSAVE.id),
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

fn path_of(dir: &str, name: &str) -> String {
    if name.is_empty() { dir.to_owned() } else { format!("{}/{name}", dir.trim_end_matches('/')) }
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
        let finding = e.server.finding(&PERSISTENCE, Severity::Warn, judged.target, message);
        finding.fix_if(e.can_save(&judged.target.name), BGSAVE.id)
    })
}

/// The longest of the windows `seconds changes seconds changes …`, in seconds; `None` without a window.
fn longest_window(save: &str) -> Option<i64> {
    let numbers: Vec<i64> = save.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    numbers.chunks_exact(2).filter(|w| w[0] > 0).map(|w| w[0]).max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    #[test]
    fn longest_save_window() {
        assert_eq!(longest_window("3600 1 300 100 60 10000"), Some(3600));
        assert_eq!((longest_window(""), longest_window("x 1")), (None, None));
    }

    /// A server after a failed save with this log, and with room for the next one.
    fn failed_with(log: &str) -> Evidence {
        let info = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), serde_json::Value::from(*v)));
            serde_json::from_value(serde_json::Value::Object(pairs.collect())).unwrap()
        };
        Evidence {
            info: info(&[("rdb_last_bgsave_status", "err"), ("rdb_bgsave_in_progress", "0"), ("used_memory_dataset", "1000")]),
            dir: Some("/data".to_owned()),
            dbfilename: Some("dump.rdb".to_owned()),
            configured: Some(configured("/data", true)),
            directory: Some(DirectoryState { owner: 999, user: 999, writable: true, read_only: false }),
            space: Some(FsUsage { avail: 1 << 30, size: 2 << 30, ..FsUsage::default() }),
            overcommit: Some("0".to_owned()),
            log: vec![log.to_owned()],
            ..Evidence::default()
        }
    }

    fn configured(dir: &str, is_in_use: bool) -> ConfiguredSnapshot {
        let source = "/etc/redis/redis.conf".to_owned();
        ConfiguredSnapshot { source, dir: dir.to_owned(), name: "dump.rdb".to_owned(), is_in_use, is_complete: true }
    }

    /// The finding about the save, and the plan of the fix that it offers.
    fn offered(e: &Evidence) -> (Finding, Option<Result<Plan, Refusal>>) {
        let check = Persistence { settings: Settings::default() };
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let finding = check.judge(&judged, e).findings.remove(0);
        let plan = finding.fixes.first().map(|fix| check.plan(fix, &finding, &judged, e));
        (finding, plan)
    }

    /// The refusal of a save that no finding has to offer.
    fn refused(e: &Evidence) -> Refusal {
        let check = Persistence { settings: Settings::default() };
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let (finding, _) = offered(e);
        check.plan(BGSAVE.id, &finding, &judged, e).unwrap_err()
    }

    #[test]
    fn save_is_planned_once_its_reason_is_removed() {
        for log in ["Write error saving DB on disk: No space left on device", "Permission denied", "Read-only file system", ""] {
            let (finding, plan) = offered(&failed_with(log));
            let plan = plan.unwrap_or_else(|| panic!("{log}: {finding:?}")).unwrap();
            assert!(matches!(&plan.actions[..], [Action::RedisSave { .. }]), "{plan:?}");
        }
    }

    #[test]
    fn save_to_a_file_of_a_client_is_refused() {
        let of = |dir: &str, name: &str| {
            let mut e = failed_with("Permission denied");
            (e.dir, e.dbfilename) = (Some(dir.to_owned()), Some(name.to_owned()));
            e.configured = Some(configured("/data", dir == "/data"));
            e
        };
        for (dir, name) in [
            ("/etc/cron.d", "root"),
            ("/var/spool/cron/crontabs", "root"),
            ("/root/.ssh", "authorized_keys"),
            ("/home/web/public_html", "x"),
            ("/data", "shell.PHP"),
            ("/srv/other", "dump.rdb"),
            ("/data", "other.rdb"),
        ] {
            let e = of(dir, name);
            let (finding, plan) = offered(&e);
            assert!(plan.is_none() && finding.message.contains(&format!("saves to {dir}/{name}")), "{}", finding.message);
            assert!(matches!(refused(&e), Refusal::Policy(why) if why.contains("a client chose the file")));
        }
        // also if `CONFIG REWRITE` has written it to the configuration file, and while saves succeed
        let mut rewritten = of("/etc/cron.d", "root");
        rewritten.configured = Some(ConfiguredSnapshot { name: "root".to_owned(), ..configured("/etc/cron.d", true) });
        rewritten.info = serde_json::from_value(serde_json::json!({"rdb_last_bgsave_status": "ok"})).unwrap();
        assert!(matches!(refused(&rewritten), Refusal::Policy(_)));
        let (finding, plan) = offered(&rewritten);
        assert!(finding.severity == Severity::Crit && plan.is_none(), "{finding:?}");
        // the data directories of packages and of the image
        for dir in ["/var/lib/redis", "/etc/redis/data", "/usr/local/var/db/redis", "/dev/shm", "/"] {
            assert!(!grants_access(dir, "dump.rdb"), "{dir}");
        }
    }

    #[test]
    fn save_to_an_unknown_directory_is_left_to_the_operator() {
        let mut e = failed_with("No space left on device");
        e.configured = None;
        assert!(matches!(offered(&e).1, Some(Err(Refusal::ByHand(why))) if why.contains("check that /data/dump.rdb is its own")));
        // started by hand with arguments that are unknown: another directory proves nothing
        e.configured = Some(ConfiguredSnapshot { is_complete: false, ..configured("/var/lib/redis", false) });
        assert!(matches!(offered(&e).1, Some(Err(Refusal::ByHand(_)))));
        e.configured = Some(ConfiguredSnapshot { is_complete: false, ..configured("/data", true) });
        assert!(matches!(offered(&e).1, Some(Ok(_))));
    }

    #[test]
    fn save_without_permission_is_refused() {
        let mut e = failed_with("Failed opening the temp RDB file temp-9.rdb: Permission denied");
        e.directory = Some(DirectoryState { owner: 0, user: 999, writable: false, read_only: false });
        assert!(offered(&e).1.is_none());
        assert!(refused(&e).to_string().contains("/data belongs to uid 0, and cache runs as uid 999"));
        e.directory = None;
        assert!(offered(&e).1.is_none());
        let mut e = failed_with("Read-only file system");
        e.directory = Some(DirectoryState { owner: 999, user: 999, writable: true, read_only: true });
        assert!(offered(&e).1.is_none() && refused(&e).to_string().contains("is mounted read-only"));
    }

    #[test]
    fn save_without_space_is_refused() {
        let mut e = failed_with("No space left on device");
        e.space = Some(FsUsage { avail: 100, size: 2000, ..FsUsage::default() });
        assert!(refused(&e).to_string().contains("does not fit"));
    }

    #[test]
    fn overcommit_is_set_only_for_a_failed_fork_without_strict_accounting() {
        let mut e = failed_with("Can't save in background: fork: Cannot allocate memory");
        let plan = offered(&e).1.unwrap().unwrap();
        assert!(
            matches!(&plan.actions[..], [Action::AddLine { .. }, Action::SetSysctl { .. }, Action::RedisSave { .. }]),
            "{plan:?}"
        );
        assert!(plan.blast[0].contains("all programs of this host"));
        e.overcommit = Some("2".to_owned());
        assert!(matches!(offered(&e).1, Some(Err(Refusal::Policy(why))) if why.contains("is 2, which was chosen")));
        // set since the failure: the next save forks
        e.overcommit = Some("1".to_owned());
        assert!(matches!(&offered(&e).1.unwrap().unwrap().actions[..], [Action::RedisSave { .. }]));
    }
}
