//! Space of filesystems: usage, fill rate, and the largest users.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, FileIdentity, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Measure, MountRef, Object,
    Role, Sample, Severity, Table, Unit, quantity,
};
use opsctl_core::probe::docker::{DiskUsage, Docker};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::{FileUsage, Space, Usage, Writer};
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::holders::{self, Holders};
use super::{SMALL_FILESYSTEM, Settings, mount_of, mounts, subject};

pub(super) const SPACE: Code = Code {
    id: "disk.space",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a filesystem is {space_warn_percent} full as df counts it (warn); {space_crit_percent} full, or {space_low_percent} with under {space_crit_free_bytes} left, or nothing left (crit); for a filesystem in memory of a container: {space_crit_percent} full (warn), nothing left (crit)",
    hint: "free the space of files that grow, not of files that are easy to delete; `opsctl disk MOUNTPOINT --usage` lists the largest users",
    impacts: &[Impact::confirmed(Role::NoRoom, KeyKind::Filesystem, "filesystem is full")],
    ..Code::BASE
};
const HUNG: Code = Code {
    id: "disk.mount-hung",
    severities: &[Severity::Crit],
    when: "statvfs on a filesystem does not return within 2 s: a dead NFS server or FUSE process",
    hint: "every process that accesses the filesystem hangs too; restore its server, or unmount it with umount -f -l",
    ..Code::BASE
};
const FILL_RATE: Code = Code {
    id: "disk.fill-rate",
    severities: &[Severity::Warn, Severity::Crit],
    when: "at the rate of the last hours the filesystem is full within {full_in_warn_hours} and under 40 % are left (warn), within {full_in_crit_hours} and under 20 % (crit)",
    hint: "find the directory that grows before the filesystem is full: `opsctl disk MOUNTPOINT --usage`",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.space",
    title: "filesystems have space and respond",
    codes: &[SPACE, HUNG, FILL_RATE],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Minimum span of a fill rate; a shorter one is noise (judgement: 30 min).
const MIN_RATE_SPAN: SignedDuration = SignedDuration::from_mins(30);
/// Maximum span of a fill rate, in seconds; a longer one is not the current rate.
const MAX_RATE_SPAN_S: i64 = 6 * 3600;
/// Free share in percent below which a fill rate is warn, and crit (node-mixin fsSpaceFillingUp thresholds).
const FILLING_FREE_WARN: f64 = 40.0;
const FILLING_FREE_CRIT: f64 = 20.0;
/// Limit of directories and files cited in a finding; the table shows all.
const MAX_CITED_USERS: usize = 5;

pub(super) struct SpaceCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    mount: MountRef,
    /// `None` if it did not respond.
    space: Option<Space>,
    /// Used bytes in an earlier run.
    before: Option<Sample>,
    /// Its largest users; only if it is nearly full, or with `--usage`.
    #[serde(default)]
    usage: Vec<Usage>,
    /// Disk usage of the engine, if its data root is on this filesystem and `usage` was read.
    #[serde(default)]
    engine: Option<DiskUsage>,
    /// The same of further engines, with their names.
    #[serde(default)]
    more_engines: Vec<(String, DiskUsage)>,
    /// Owners of the largest directories and files that belong to the engine.
    #[serde(default)]
    holders: Holders,
    /// Processes that have the largest files open for writing, by path: `app (pid 812) of app.service`.
    #[serde(default)]
    writers: BTreeMap<String, String>,
    /// `--usage` was given.
    #[serde(default)]
    asked: bool,
}

impl Check for SpaceCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        mounts(inventory)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mount = mount_of(&cx.inventory, target).ok_or_else(|| ProbeError::Skip(format!("{} is not mounted", target.name)))?;
        let space = match filesystem::space(&mount.mountpoint).await {
            Ok(space) => Some(space),
            // mounted and unresponsive: a finding, not an error
            Err(ProbeError::Timeout { .. }) => None,
            Err(e) => return Err(e),
        };
        let before = cx.history.oldest(&subject(mount).id, "used_bytes", MAX_RATE_SPAN_S);
        let usage_requested = cx.options.usage;
        let mut e = Evidence {
            mount: mount.clone(),
            space,
            before,
            usage: Vec::new(),
            engine: None,
            more_engines: Vec::new(),
            holders: Holders::new(),
            writers: BTreeMap::new(),
            asked: usage_requested,
        };
        let full = e.space.is_some_and(|s| s.percent() >= self.settings.space_warn_percent);
        if e.space.is_some() && (full || usage_requested) {
            let budget = Duration::from_millis(self.settings.walk_ms);
            let walks = async {
                let mut usage = Vec::new();
                for root in roots(cx, mount) {
                    usage.push(filesystem::usage_with_growth(&root, budget).await?);
                }
                Ok::<_, ProbeError>(usage)
            };
            // query the engine while the walk is running
            let (usage, engines) = tokio::join!(walks, engine_shares(cx, mount));
            (e.usage, (e.engine, e.more_engines)) = (usage?, engines);
            let paths: Vec<&str> = e.usage.iter().flat_map(rows).map(|row| row.path).collect();
            e.holders = holders::find(cx, &paths).await;
            e.writers = writers(cx, &e.usage).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let subject = subject(&e.mount);
        let at = &e.mount.mountpoint;
        let Some(space) = e.space else {
            let message = format!("{at} ({}) does not respond: every access to it hangs", e.mount.fstype);
            let hung = Finding::new(&HUNG, Severity::Crit, subject, message)
                .cite("source", &e.mount.source)
                .key(KeyKind::Filesystem, &e.mount.dev);
            return vec![hung].into();
        };
        if space.size == 0 {
            return Judgement::skip("it has no size of its own");
        }
        let identity = subject.id.clone();
        let mut findings = Vec::new();
        let fill_rate = fill_rate(judged, e, &space);
        if let Some((severity, limit)) = self.full(&space) {
            let message = format!("{at} is {} full, limit {}", quantity::percent(space.percent()), quantity::percent(limit));
            let left = format!("{} of {}", quantity::bytes(space.avail), quantity::bytes(space.size));
            let mut finding = Finding::new(&SPACE, severity, subject.clone(), message)
                .key(KeyKind::Filesystem, &e.mount.dev)
                .cite("available", left)
                .cite("uses most", uses_most(e));
            if let Some((label, value)) = written(e) {
                finding = finding.cite(label, value);
            }
            if space.avail == 0 && space.free > 0 {
                finding = finding.cite("reserved", format!("only root can still write {}", quantity::bytes(space.free)));
            }
            findings.push(finding);
        }
        if let Some((severity, message)) = fill_rate.as_ref().and_then(|p| self.filling(at, &space, p)) {
            let mut finding = Finding::new(&FILL_RATE, severity, subject, message).key(KeyKind::Filesystem, &e.mount.dev);
            if let Some((label, value)) = written(e) {
                finding = finding.cite(label, value);
            }
            findings.push(finding);
        }
        let sample = Sample { object: identity, metric: "used_bytes".to_owned(), at: judged.taken_at, value: space.used as f64 };
        let used = Measure::new(judged.target, "used", Unit::Percent, space.percent());
        let measures = vec![used.within(self.settings.space())];
        let tables = if e.asked { e.usage.iter().map(|u| table(u, e)).collect() } else { Vec::new() };
        Judgement { findings, samples: vec![sample], measures, tables, ..Judgement::default() }
    }
}

impl SpaceCheck {
    /// The severity, and the limit that was exceeded.
    fn full(&self, space: &Space) -> Option<(Severity, f64)> {
        let s = &self.settings;
        let percent = space.percent();
        let little_left = space.avail < s.space_crit_free_bytes && space.size >= SMALL_FILESYSTEM;
        match s.space().exceeded(percent) {
            Some((Severity::Crit, limit)) => Some((Severity::Crit, limit)),
            _ if space.avail == 0 => Some((Severity::Crit, s.space_crit_percent)),
            _ if percent >= s.space_low_percent && little_left => Some((Severity::Crit, s.space_low_percent)),
            other => other,
        }
    }

    fn filling(&self, at: &str, space: &Space, fill_rate: &FillRate) -> Option<(Severity, String)> {
        let hours = space.avail as f64 / fill_rate.per_hour.max(1) as f64;
        let free = 100.0 - space.percent();
        let (severity, limit) = if hours < self.settings.full_in_crit_hours && free < FILLING_FREE_CRIT {
            (Severity::Crit, self.settings.full_in_crit_hours)
        } else if hours < self.settings.full_in_warn_hours && free < FILLING_FREE_WARN {
            (Severity::Warn, self.settings.full_in_warn_hours)
        } else {
            return None;
        };
        let per_hour = quantity::bytes(fill_rate.per_hour);
        Some((severity, format!("{at} grows by {per_hour} an hour and is full in {hours:.0} h, limit {limit:.0} h")))
    }
}

struct FillRate {
    /// Bytes per hour.
    per_hour: u64,
}

fn fill_rate(judged: &Judged<'_>, e: &Evidence, space: &Space) -> Option<FillRate> {
    let before = e.before.as_ref()?;
    let span = judged.taken_at.duration_since(before.at);
    let earlier = before.value.max(0.0);
    let grown = space.used as f64 - earlier;
    let hours = span.as_secs_f64() / 3600.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^63 bytes an hour")]
    (span >= MIN_RATE_SPAN && grown > 0.0).then(|| FillRate { per_hour: (grown / hours).round() as u64 })
}

/// Roots of the walk: the directories of the command line on this filesystem, or its mountpoint.
fn roots(cx: &ProbeCx, mount: &MountRef) -> Vec<String> {
    let nearest = |directory: &str| {
        let holding = cx.inventory.mounts.iter().filter(|m| Path::new(directory).starts_with(&m.mountpoint));
        holding.max_by_key(|m| m.mountpoint.len()).map(|m| m.mountpoint.as_str())
    };
    let named: Vec<String> =
        cx.options.directories.iter().filter(|f| nearest(f) == Some(mount.mountpoint.as_str())).cloned().collect();
    if named.is_empty() { vec![mount.mountpoint.clone()] } else { named }
}

/// Disk usage of the first engine, and of further ones with their names, each if its data root is on this filesystem.
async fn engine_shares(cx: &ProbeCx, mount: &MountRef) -> (Option<DiskUsage>, Vec<(String, DiskUsage)>) {
    let Some(first) = cx.docker.as_ref() else { return (None, Vec::new()) };
    let share = |engine| async move { (engine, engine_share(cx, engine, mount).await) };
    let mut shares = futures_util::future::join_all(first.engines().map(share)).await.into_iter();
    let own = shares.next().and_then(|(_, usage)| usage);
    let name = |engine: &Docker| {
        let endpoint = engine.endpoint().to_string();
        cx.inventory.engines().find(|e| e.endpoint == endpoint).map_or(endpoint, |e| e.name.clone())
    };
    (own, shares.filter_map(|(engine, usage)| Some((name(engine), usage?))).collect())
}

async fn engine_share(cx: &ProbeCx, engine: &Docker, mount: &MountRef) -> Option<DiskUsage> {
    let root = engine.data_root().await.ok()?;
    let on = cx.filesystems.of(Path::new(&root)).await.ok()?;
    if on.dev != mount.dev {
        return None;
    }
    engine.disk_usage().await.ok().map(|u| (*u).clone())
}

/// For each large file the process that has it open for writing. A scan of the descriptors that takes too long is omitted.
async fn writers(cx: &ProbeCx, usage: &[Usage]) -> BTreeMap<String, String> {
    let files = || usage.iter().flat_map(|u| &u.files);
    let of_files: Vec<(String, FileIdentity)> = files().map(|f| (f.path.clone(), f.identity)).collect();
    if of_files.is_empty() {
        return BTreeMap::new();
    }
    let found = filesystem::writers(of_files).await.unwrap_or_default();
    files().zip(found).filter_map(|(file, writer)| Some((file.path.clone(), name_of(cx, &writer?)))).collect()
}

/// `app (pid 812) of app.service`.
fn name_of(cx: &ProbeCx, writer: &Writer) -> String {
    let home = match &writer.home {
        Home::Container(id) => cx.inventory.container(id).map(|c| format!(" of container {}", c.name)),
        Home::Unit(name) => Some(format!(" of {name}")),
        Home::Host => None,
    };
    format!("{} (pid {}){}", writer.comm, writer.pid, home.unwrap_or_default())
}

/// A directory or a file that takes space.
struct Row<'a> {
    path: &'a str,
    bytes: u64,
    /// `None` for a file.
    entries: Option<u64>,
    growth: u64,
}

/// The largest directories and files, largest first; a directory before its files.
fn rows(usage: &Usage) -> Vec<Row<'_>> {
    let directories = usage.largest.iter().map(|d| Row { path: &d.path, bytes: d.bytes, entries: Some(d.entries), growth: 0 });
    let files = usage.files.iter().map(|f| Row { path: &f.path, bytes: f.bytes, entries: None, growth: f.growth });
    let mut rows: Vec<Row<'_>> = directories.chain(files).collect();
    rows.sort_by_key(|row| Reverse(row.bytes));
    rows
}

/// The file that grows fastest; if none grows, the largest one that is open for writing.
fn written(e: &Evidence) -> Option<(&'static str, String)> {
    let files = || e.usage.iter().flat_map(|u| &u.files);
    let path = |f: &FileUsage| e.holders.get(&f.path).map_or_else(|| f.path.clone(), |holder| format!("{} ({holder})", f.path));
    if let Some(file) = files().filter(|f| f.growth > 0).max_by_key(|f| f.growth) {
        let by = e.writers.get(&file.path).map(|writer| format!(", written by {writer}")).unwrap_or_default();
        return Some(("grows fastest", format!("{} by {}/s{by}", path(file), quantity::bytes(file.growth))));
    }
    let (file, writer) = files().filter_map(|f| Some((f, e.writers.get(&f.path)?))).max_by_key(|(f, _)| f.bytes)?;
    Some(("open for writing", format!("{}, {}, by {writer}", path(file), quantity::bytes(file.bytes))))
}

fn uses_most(e: &Evidence) -> String {
    let sizes = e.usage.iter().flat_map(rows).take(MAX_CITED_USERS).map(|row| (row.path, quantity::bytes(row.bytes)));
    let list = holders::cited(sizes, &e.holders);
    let partial = e.usage.iter().any(|u| u.partial);
    if partial && !list.is_empty() { format!("{list} (at least)") } else { list }
}

fn table(usage: &Usage, e: &Evidence) -> Table {
    let share = |bytes: u64| quantity::percent(bytes as f64 * 100.0 / usage.bytes.max(1) as f64);
    let mut rows: Vec<Vec<String>> = rows(usage)
        .into_iter()
        .map(|row| {
            let holder = e.holders.get(row.path).cloned();
            let writer = e.writers.get(row.path).map(|writer| format!("written by {writer}"));
            let growth = (row.growth > 0).then(|| format!("grows by {}/s", quantity::bytes(row.growth)));
            let about: Vec<String> = [holder, writer, growth].into_iter().flatten().collect();
            let path = if about.is_empty() { row.path.to_owned() } else { format!("{} ({})", row.path, about.join("; ")) };
            vec![path, quantity::bytes(row.bytes), share(row.bytes), row.entries.map(quantity::count_of).unwrap_or_default()]
        })
        .collect();
    let first = e.engine.iter().map(|engine| ("docker", engine));
    let engines: Vec<_> = first.chain(e.more_engines.iter().map(|(name, engine)| (name.as_str(), engine))).collect();
    for (name, engine) in &engines {
        let parts = [
            ("images", engine.layers),
            ("images without a container", engine.unused_images()),
            ("build cache", engine.build_cache),
            ("stopped containers", engine.stopped_containers),
            ("volumes", engine.volumes),
            ("volumes without a container", engine.unused_volumes),
        ];
        rows.extend(
            parts
                .iter()
                .filter(|(_, b)| *b > 0)
                .map(|(kind, b)| vec![format!("{name}: {kind}"), quantity::bytes(*b), share(*b), String::new()]),
        );
    }
    let mut note = Vec::new();
    if usage.partial {
        note.push("time limit reached: all sizes are lower bounds".to_owned());
    }
    if usage.unreadable > 0 {
        note.push(format!("{} directories could not be read; needs root", usage.unreadable));
    }
    if !usage.files.is_empty() {
        note.push("files, without entries, are also included in their directories".to_owned());
    }
    if !engines.is_empty() {
        let names: Vec<&str> = engines.iter().map(|(name, _)| *name).collect();
        note.push(format!("the {} rows are also included in the directories above", names.join(" and ")));
    }
    Table {
        title: format!("Usage of {}: {}", usage.root, quantity::bytes(usage.bytes)),
        columns: ["path", "size", "share", "entries"].map(str::to_owned).to_vec(),
        rows,
        note: (!note.is_empty()).then(|| note.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn evidence() -> Evidence {
        serde_json::from_value(serde_json::json!({
            "mount": {"dev": "8:1", "mountpoint": "/", "fstype": "ext4", "source": "/dev/sda1", "super_options": [], "mount_options": []},
            "space": null,
            "before": null,
            "usage": [{
                "root": "/", "bytes": 100 << 20, "entries": 9, "unreadable": 0, "partial": false, "most_entries": [],
                "largest": [{"path": "/var/log/app", "bytes": 60 << 20, "entries": 2}],
                "files": [
                    {"path": "/swapfile", "bytes": 30 << 20, "identity": {"dev": 1, "ino": 1}},
                    {"path": "/var/log/app/app.log", "bytes": 60 << 20, "identity": {"dev": 1, "ino": 2}, "growth": 12 << 20},
                ],
            }],
            "writers": {"/var/log/app/app.log": "app (pid 812) of app.service", "/swapfile": "cp (pid 9)"},
            "asked": true,
        }))
        .unwrap()
    }

    #[test]
    fn table_lists_files_and_their_writers() {
        let e = evidence();
        let table = table(&e.usage[0], &e);
        let rows: Vec<String> = table.rows.iter().map(|row| row.join(" | ")).collect();
        assert_eq!(
            rows,
            [
                "/var/log/app | 60 MiB | 60 % | 2",
                "/var/log/app/app.log (written by app (pid 812) of app.service; grows by 12 MiB/s) | 60 MiB | 60 % | ",
                "/swapfile (written by cp (pid 9)) | 30 MiB | 30 % | ",
            ]
        );
        assert_eq!(table.note.as_deref(), Some("files, without entries, are also included in their directories"));
        assert_eq!(uses_most(&e), "/var/log/app 60 MiB, /var/log/app/app.log 60 MiB, /swapfile 30 MiB");
    }

    #[test]
    fn writer_of_the_fastest_growing_file_is_cited() {
        let mut e = evidence();
        let cited = |e: &Evidence| written(e).map(|(label, value)| format!("{label}: {value}"));
        let grows = "grows fastest: /var/log/app/app.log by 12 MiB/s, written by app (pid 812) of app.service";
        assert_eq!(cited(&e).as_deref(), Some(grows));
        e.usage[0].files[1].growth = 0;
        assert_eq!(cited(&e).as_deref(), Some("open for writing: /var/log/app/app.log, 60 MiB, by app (pid 812) of app.service"));
        e.writers.clear();
        assert_eq!(cited(&e), None);
    }
}
