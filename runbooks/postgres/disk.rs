//! Free space on the filesystems of the data directory, the WAL and the tablespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity,
    quantity::{bytes, percent},
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::proc::files::entries_of;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::{READ_TIMEOUT, Server, filesystem_at, full_filesystems};

const DISK: Code = Code {
    id: "postgres.disk",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the filesystem of its data, its WAL or a tablespace is {disk_warn_percent} full (warn), or has no space for another two WAL segments (crit): if the WAL cannot be written, the server panics and fails to restart",
    hint: "free space before anything else; never delete anything in pg_wal, and do not restart the server while the disk is full",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.disk",
    title: "PostgreSQL has free disk space",
    codes: &[DISK],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

/// Two WAL segments of the usual size, in bytes.
const TWO_SEGMENTS: u64 = 32 << 20;

/// Maximum number of tablespace links that are followed.
const MAX_TABLESPACES: usize = 20;

pub(super) struct Disk {
    pub(super) settings: Settings,
}

/// A directory of the server and its filesystem.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DataDirectory {
    what: String,
    path: String,
    space: FsUsage,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    places: Vec<DataDirectory>,
}

impl Check for Disk {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let Some(process) = server.get().and_then(|s| s.process) else {
            return Err(ProbeError::Skip("it is not running on this host: see postgres.up".to_owned()));
        };
        let directories = data_directories(cx, &server).await;
        if directories.is_empty() {
            return Err(ProbeError::Denied {
                subject: "its directories".to_owned(),
                from: format!("/proc/{}/cwd", process.pid),
                needs: "root".to_owned(),
            });
        }
        Ok(Evidence { server, places: directories })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut by_device: BTreeMap<&str, (Vec<&str>, &FsUsage)> = BTreeMap::new();
        for directory in &e.places {
            by_device.entry(&directory.space.dev).or_insert((Vec::new(), &directory.space)).0.push(&directory.what);
        }
        let finding = |(dev, (names, space)): (&str, (Vec<&str>, &FsUsage))| {
            let s = &self.settings;
            let (severity, limit) = if space.avail < TWO_SEGMENTS {
                (Severity::Crit, format!("needed {}", bytes(TWO_SEGMENTS)))
            } else if space.percent >= s.disk_warn_percent {
                (Severity::Warn, format!("limit {}", percent(s.disk_warn_percent)))
            } else {
                return None;
            };
            let message = format!(
                "{} has {} left for {}, {} full, {limit}",
                space.mountpoint,
                bytes(space.avail),
                format_args!("{} of {}", names.join(" and "), judged.target.name),
                percent(space.percent)
            );
            Some(e.server.finding(&DISK, severity, judged.target, message).key(KeyKind::Filesystem, dev))
        };
        by_device.into_iter().filter_map(finding).collect::<Vec<_>>().into()
    }
}

/// The server's directories. The data directory is the working directory of the postmaster, which changes to it at startup.
async fn data_directories(cx: &ProbeCx, server: &Server) -> Vec<DataDirectory> {
    let Some(process) = server.get().and_then(|s| s.process) else { return Vec::new() };
    let read = move |io: &Io| {
        let data = io.working_directory(process.pid)?;
        let tablespaces = entries_of(io, process.pid, &format!("{data}/pg_tblspc"), MAX_TABLESPACES);
        Some((data, tablespaces))
    };
    let read = blocking::run("its directories", &format!("process {}", process.pid), READ_TIMEOUT, read).await;
    let Some((data, tablespaces)) = read.ok().flatten() else { return Vec::new() };
    let mut directories = vec![("its data".to_owned(), data.clone()), ("its WAL".to_owned(), format!("{data}/pg_wal"))];
    directories.extend(tablespaces.into_iter().map(|f| ("a tablespace".to_owned(), f)));
    let mut found = Vec::new();
    for (name, path) in directories {
        // the trailing `/.` follows a link to its target, as the server does
        if let Some(space) = filesystem_at(cx, server, &format!("{path}/.")).await {
            found.push(DataDirectory { what: name, path, space });
        }
    }
    found
}

/// The filesystem of the WAL.
pub(super) async fn of_wal(cx: &ProbeCx, server: &Server) -> Option<FsUsage> {
    data_directories(cx, server).await.into_iter().find(|p| p.what == "its WAL").map(|p| p.space)
}

/// The full filesystems of the server's data. If it is not running: those of its container's mounts, or of its configured directory.
pub(super) async fn full(cx: &ProbeCx, server: &Server) -> Vec<String> {
    let mut spaces: Vec<FsUsage> =
        data_directories(cx, server).await.into_iter().map(|p| p.space).filter(|s| s.avail < TWO_SEGMENTS / 2).collect();
    let stopped = server.get().filter(|s| s.process.is_none()).and_then(|s| s.container.clone());
    if let (Some(id), Some(docker)) = (stopped, &cx.docker)
        && let Ok(c) = docker.inspect(&id).await
    {
        spaces = full_filesystems(cx, docker, &c).await;
    }
    let unit = server.get().filter(|s| s.process.is_none()).and_then(|s| s.unit.as_deref());
    if let Some(unit) = unit
        && let Some(directory) = configured_directory(unit).await
        && let Ok(space) = cx.filesystems.of(directory.as_ref()).await
        && space.avail < TWO_SEGMENTS / 2
    {
        spaces.push(space);
    }
    let mut full: Vec<String> = spaces.into_iter().map(|s| s.dev).collect();
    full.sort();
    full.dedup();
    full
}

/// `data_directory` of a cluster of Debian's packages: `postgresql@15-main.service` is configured in `/etc/postgresql/15/main`.
async fn configured_directory(unit: &str) -> Option<String> {
    let path = configuration_of(unit)?;
    let from = path.clone();
    let text =
        blocking::run("its configuration", &from, READ_TIMEOUT, move |io| io.read_lossy(path).ok()).await.ok().flatten()?;
    data_directory(&text).map(str::to_owned)
}

fn configuration_of(unit: &str) -> Option<String> {
    let (version, cluster) = unit.strip_prefix("postgresql@")?.strip_suffix(".service")?.split_once('-')?;
    let is_name = |word: &str| !word.is_empty() && !word.starts_with('.') && !word.contains('/');
    (is_name(version) && is_name(cluster)).then(|| format!("/etc/postgresql/{version}/{cluster}/postgresql.conf"))
}

/// The last setting counts; `=` is optional.
fn data_directory(configuration: &str) -> Option<&str> {
    let mut settings = configuration.lines().filter_map(|line| line.trim_start().strip_prefix("data_directory"));
    let line = settings.rfind(|rest| rest.starts_with([' ', '\t', '=']))?;
    let value = line.trim_start().trim_start_matches('=').trim_start().strip_prefix('\'')?.split('\'').next()?;
    value.starts_with('/').then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_directory_of_a_cluster_is_configured() {
        assert_eq!(configuration_of("postgresql@15-main.service").as_deref(), Some("/etc/postgresql/15/main/postgresql.conf"));
        assert_eq!(configuration_of("postgresql.service"), None);
        assert_eq!(configuration_of("postgresql@../x-main.service"), None);
        let text = "#data_directory = 'ConfigDir'\ndata_directory = '/old'\n data_directory '/srv/pg'\t# moved\ndata_directory_mode = 0700\n";
        assert_eq!(data_directory(text), Some("/srv/pg"));
        assert_eq!(data_directory("data_directory = 'relative'\n"), None);
        assert_eq!(data_directory(""), None);
    }
}
