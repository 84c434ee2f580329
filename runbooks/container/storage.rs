//! Storage of a container: whether its state is on a volume, and whether its bind mounts match their sources.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
};
use opsctl_core::probe::docker::{Container, Mount};
use opsctl_core::probe::io::Root;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::proc::process;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::log_reason::bind_mount;

const EPHEMERAL: Code = Code {
    id: "container.ephemeral-state",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "an image with known state has nothing mounted at its data directory (warn, databases crit), or only an anonymous volume (databases warn, others info); with --usage, over 1000 files in the writable layer (info)",
    hint: "mount a named volume or a host directory there and recreate the container; copy its files first (docker cp)",
    ..Code::BASE
};
const BIND_BROKEN: Code = Code {
    id: "container.bind-broken",
    severities: &[Severity::Warn],
    when: "the source of a bind mount does not exist, is a directory in place of a file, or was replaced so that the container still sees the old file or socket",
    hint: "compare the source on the host with the file in the container, then restart or recreate the container",
    impacts: &[
        Impact::confirmed(Role::OldFile, KeyKind::Container, "bind mount refers to the replaced file"),
        Impact::confirmed(Role::OldFile, KeyKind::BindMount, "bind mount refers to the replaced file"),
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.storage",
    title: "state is on volumes and bind mounts match their sources",
    codes: &[EPHEMERAL, BIND_BROKEN],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

/// Age up to which a failure is relevant (judgement: 24 h).
const RECENT_FAILURE: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Storage;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    binds: Vec<Bind>,
    /// The reason why bind mounts could not be compared.
    gap: Option<String>,
    /// Directories with the most files added to the writable layer, with counts; only with `--usage`.
    own_files: Vec<(String, usize)>,
}

/// A bind mount as seen from the host and from the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Bind {
    source: String,
    destination: String,
    /// Type of the source now.
    now: Source,
    /// The container sees a file or socket that was unlinked or replaced.
    stale: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    #[default]
    File,
    Directory,
    /// A unix socket.
    Socket,
    Other,
    Missing,
}

impl Check for Storage {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|_| true)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.docker()?.inspect(&target.id).await?;
        if !runs(&container) && !fails(&container) {
            return Err(ProbeError::Skip("not running, as intended".to_owned()));
        }
        let mut e = Evidence { container: (*container).clone(), ..Evidence::default() };
        let binds: Vec<Mount> = container.mounts.iter().filter(|m| m.kind == "bind").cloned().collect();
        if !binds.is_empty() {
            let pid = container.pid();
            if let Some(Err(why)) = container.is_up().then(|| container.process()) {
                e.gap = Some(why.to_string());
            }
            let read =
                blocking::run("bind mounts", &container.name, Duration::from_secs(2), move |io| compare(io, pid, &binds)).await;
            match read {
                Ok(Ok(binds)) => e.binds = binds,
                Ok(Err(why)) | Err(why) => e.gap = Some(why.to_string()),
            }
        }
        if cx.options.usage {
            e.own_files = count_by_directory(&cx.docker()?.added_files(&target.id).await?);
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.binds.iter().filter_map(|b| broken(&e.container, b)).collect();
        if runs(&e.container) {
            findings.extend(ephemeral(&e.container).or_else(|| own_layer(e)));
        }
        let findings = findings.into_iter().map(|f| f.key(KeyKind::Container, &e.container.id)).collect();
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }
}

/// A paused container counts as running.
fn runs(c: &Container) -> bool {
    c.state.running && !c.state.restarting
}

/// Whether the container should run and exited, or failed in the last day: its mounts may be the cause. A job that succeeded,
/// or ended long ago, does not need its files any more, and an exit by a signal (128 and more) has another cause.
fn fails(c: &Container) -> bool {
    let kept = matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped" | "on-failure");
    let lately = || c.state.finished_at.is_some_and(|t| clock::now().duration_since(t) < RECENT_FAILURE);
    c.state.restarting || !c.state.error.is_empty() || ((1..128).contains(&c.state.exit_code) && (kept || lately()))
}

/// Compares every bind mount from both sides, or from the host only without a running process. May hang on dead filesystems, so
/// it runs on a thread of its own.
fn compare(io: &Io, pid: Option<i32>, binds: &[Mount]) -> Result<Vec<Bind>, ProbeError> {
    let seen = pid.map(|pid| process::mounts_of(io, pid.into())).unwrap_or_default();
    let is_denied = |pid: &i32| {
        let read = io.read_lossy(format!("/proc/{pid}/mountinfo"));
        read.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    };
    // a process that has ended in the meantime has no mounts
    let pid = pid.filter(|pid| !seen.is_empty() || is_denied(pid));
    if let Some(pid) = pid.filter(|_| seen.is_empty()) {
        return Err(ProbeError::Denied {
            subject: "the mounts of a container".to_owned(),
            from: format!("/proc/{pid}/mountinfo"),
            needs: "root".to_owned(),
        });
    }
    let root = pid.and_then(|pid| Root::of(io, pid).ok());
    Ok(binds
        .iter()
        .map(|bind| {
            let meta = io.metadata(&bind.source);
            let now = match &meta {
                Ok(m) if m.is_dir() => Source::Directory,
                Ok(m) if m.is_file() => Source::File,
                Ok(m) if m.file_type().is_socket() => Source::Socket,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Source::Missing,
                // a device or FIFO, or permission denied: no statement about the mount
                Ok(_) | Err(_) => Source::Other,
            };
            let unlinked = seen.iter().any(|m| m.mountpoint == bind.destination && m.root.ends_with("//deleted"));
            // an entry of a mounted directory may be replaced: the container sees the new one
            let single = matches!(now, Source::File | Source::Socket);
            let other_inode = single
                && root
                    .as_ref()
                    .and_then(|root| root.metadata(&bind.destination).ok())
                    .is_some_and(|inside| meta.as_ref().is_ok_and(|m| (m.dev(), m.ino()) != (inside.dev(), inside.ino())));
            Bind {
                source: bind.source.clone(),
                destination: bind.destination.clone(),
                now,
                stale: single && (unlinked || other_inode),
            }
        })
        .collect())
}

fn broken(c: &Container, bind: &Bind) -> Option<Finding> {
    let Bind { source, destination, .. } = bind;
    let name = &c.name;
    let file_like = looks_like_a_file(destination);
    let (message, hint) = match bind.now {
        Source::Missing => (
            format!("{name}: {source}, mounted at {destination}, no longer exists"),
            "restore it or remove the mount; a restart would fail or create an empty directory",
        ),
        Source::Directory if file_like => (
            format!(
                "{name}: {source} is a directory, but {destination} looks like a file; Docker created it because the file was missing"
            ),
            "remove the directory, create the file, and recreate the container",
        ),
        Source::Socket if bind.stale => (
            format!(
                "{name} still has the old socket {destination}: {source} was recreated after the container started, and connections to it are refused"
            ),
            "restart the container to use the new socket; mount its directory instead of the socket to avoid this",
        ),
        _ if bind.stale => (
            format!("{name} still sees the old {destination}: {source} was replaced after the container started"),
            "restart the container to use the new file; mount the directory instead of the file to avoid this",
        ),
        _ => return None,
    };
    let key = bind_mount(&c.id, destination);
    Some(Finding::new(&BIND_BROKEN, Severity::Warn, c.subject(), message).hint(hint).key(KeyKind::BindMount, key))
}

/// Names of files and sockets for which Docker creates a directory if the source is missing at the start.
fn looks_like_a_file(destination: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "yml", "yaml", "conf", "cfg", "ini", "json", "toml", "pem", "crt", "key", "env", "xml", "alloy", "hcl", "sock", "socket",
    ];
    let path = Path::new(destination);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = path.extension().and_then(|x| x.to_str()).unwrap_or_default();
    // the socket of PostgreSQL
    ENDINGS.contains(&ending) || name.starts_with(".s.PGSQL.")
}

/// Images with state: its directory, and whether it is the only copy of user data. Sources: the documentation of the images;
/// for Alloy, the path and the effect of losing it are in the Alloy incident report.
const STATEFUL: &[(&str, &str, bool)] = &[
    ("alloy", "/var/lib/alloy/data", false),
    ("prometheus", "/prometheus", false),
    ("grafana", "/var/lib/grafana", false),
    ("loki", "/loki", false),
    ("postgres", "/var/lib/postgresql/data", true),
    ("redis", "/data", false),
    ("valkey", "/data", false),
    ("rabbitmq", "/var/lib/rabbitmq", false),
    ("mysql", "/var/lib/mysql", true),
    ("mariadb", "/var/lib/mysql", true),
    ("mongo", "/data/db", true),
];

fn ephemeral(c: &Container) -> Option<Finding> {
    let image = image_name(&c.image);
    let (_, convention, database) = STATEFUL.iter().find(|(name, ..)| *name == image)?;
    // a path declared by the container overrides the convention
    let path = c.state_paths.iter().find(|p| p.starts_with('/')).map_or(*convention, String::as_str);
    let covering = c.mounts.iter().filter(|m| covers(&m.destination, path)).max_by_key(|m| m.destination.len());
    let (severity, message) = match covering {
        None => {
            let severity = if *database { Severity::Crit } else { Severity::Warn };
            (
                severity,
                format!("{} stores its state in {path}, where nothing is mounted: recreating the container loses it", c.name),
            )
        }
        Some(m) if m.kind == "volume" && is_anonymous(&m.name) => {
            let severity = if *database { Severity::Warn } else { Severity::Info };
            (
                severity,
                format!("{} stores its state in {path} on an anonymous volume: a recreated container starts empty", c.name),
            )
        }
        Some(_) => return None,
    };
    let snippet = format!("services:\n  {}:\n    volumes:\n      - {image}-data:{path}\nvolumes:\n  {image}-data:", c.name);
    Some(Finding::new(&EPHEMERAL, severity, c.subject(), message).cite("image", &c.image).cite("compose", snippet))
}

/// Count of files in the writable layer from which they are reported as state (judgement: 1000).
const MIN_STATE_FILES: usize = 1000;

/// Added files per directory of the second level, most first, without temporary directories.
fn count_by_directory(added: &[String]) -> Vec<(String, usize)> {
    const TEMPORARY: &[&str] = &["/tmp", "/run", "/var/run", "/var/cache", "/var/tmp", "/proc", "/dev"];
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in added.iter().filter(|p| !TEMPORARY.iter().any(|s| Path::new(p).starts_with(s))) {
        let directory: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).take(2).collect();
        *counts.entry(format!("/{}", directory.join("/"))).or_default() += 1;
    }
    let mut list: Vec<(String, usize)> = counts.into_iter().collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list.truncate(5);
    list
}

fn own_layer(e: &Evidence) -> Option<Finding> {
    let (directory, files) = e.own_files.first().filter(|(_, n)| *n >= MIN_STATE_FILES)?;
    let message = format!(
        "{} has {files} files in {directory} in its writable layer: recreating the container loses them",
        e.container.name
    );
    let all = e.own_files.iter().map(|(f, n)| format!("{f} {n}")).collect::<Vec<_>>().join(", ");
    Some(Finding::new(&EPHEMERAL, Severity::Info, e.container.subject(), message).cite("files added", all))
}

/// `docker.io/grafana/alloy:v1.0.0@sha256:…` is `alloy`.
fn image_name(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

fn covers(mountpoint: &str, path: &str) -> bool {
    Path::new(path).starts_with(mountpoint) && mountpoint != "/"
}

fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_name_has_no_registry_tag_or_digest() {
        for (reference, name) in
            [("grafana/alloy:v1.0.0", "alloy"), ("localhost:5000/x/redis", "redis"), ("postgres@sha256:ab", "postgres"), ("", "")]
        {
            assert_eq!(image_name(reference), name);
        }
    }

    #[test]
    fn added_files_are_counted_by_directory_without_temporary_ones() {
        let added: Vec<String> =
            (0..3).map(|i| format!("/app/uploads/{i}")).chain(["/tmp/x".into(), "/var/cache/y".into()]).collect();
        assert_eq!(count_by_directory(&added), [("/app/uploads".to_owned(), 3)]);
        assert!(count_by_directory(&[String::new()]).len() == 1 && count_by_directory(&[]).is_empty());
    }

    #[test]
    fn names_of_files_and_sockets() {
        for name in ["/etc/app.yml", "/var/run/docker.sock", "/run/mysqld/mysqld.sock", "/var/run/postgresql/.s.PGSQL.5432"] {
            assert!(looks_like_a_file(name), "{name}");
        }
        for name in ["/var/run/postgresql", "/etc/conf.d", "/data", "/"] {
            assert!(!looks_like_a_file(name), "{name}");
        }
    }

    #[test]
    fn mount_covers_paths_below_it() {
        assert!(covers("/var/lib/postgresql", "/var/lib/postgresql/18/docker"));
        assert!(!covers("/var/lib/postgresql/data/sub", "/var/lib/postgresql/data"));
        assert!(!covers("/dat", "/data"));
    }
}
