//! Usage of filesystems.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{StatVfs, fstatvfs, major, minor, statvfs};
use serde::{Deserialize, Serialize};

use crate::model::MountRef;
use crate::probe::io::Root;
use crate::probe::kernel::filesystem::mounts::all_mounts;
use crate::probe::{Io, Memo, ProbeError, blocking};

/// Timeout of `statvfs`: a dead NFS server or a stopped FUSE daemon never responds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Space of a filesystem in bytes, and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Total, including reserved blocks.
    pub size: u64,
    /// In use.
    pub used: u64,
    /// Available to all users: without the blocks reserved for root.
    pub avail: u64,
    /// Available to root.
    pub free: u64,
    /// Total inodes; 0 if the filesystem allocates them dynamically.
    pub inodes: u64,
    /// Inodes available to all users.
    pub inodes_avail: u64,
}

impl Space {
    /// Usage in percent, calculated like df: of used and available blocks, so that reserved blocks do not count as used.
    #[must_use]
    pub fn percent(&self) -> f64 {
        ratio_percent(self.used, self.used.saturating_add(self.avail))
    }

    /// Inode usage in percent; `None` if the filesystem allocates inodes dynamically.
    #[must_use]
    pub fn inodes_percent(&self) -> Option<f64> {
        (self.inodes > 0).then(|| ratio_percent(self.inodes - self.inodes_avail.min(self.inodes), self.inodes))
    }
}

impl From<StatVfs> for Space {
    fn from(s: StatVfs) -> Self {
        Self {
            size: s.f_blocks * s.f_frsize,
            used: s.f_blocks.saturating_sub(s.f_bfree) * s.f_frsize,
            avail: s.f_bavail * s.f_frsize,
            free: s.f_bfree * s.f_frsize,
            inodes: s.f_files,
            inodes_avail: s.f_favail,
        }
    }
}

fn ratio_percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Space of the filesystem mounted at `mountpoint`. Returns [`ProbeError::Timeout`] for a mount that does not respond.
#[allow(clippy::disallowed_methods, reason = "inside blocking::run")]
pub async fn space(mountpoint: &str) -> Result<Space, ProbeError> {
    let path = mountpoint.to_owned();
    blocking::run("free space", mountpoint, TIMEOUT, move |_| statvfs(path.as_str()))
        .await?
        .map(Space::from)
        .map_err(|e| ProbeError::io("free space", mountpoint, &e.into()))
}

/// Usage of the filesystem that contains a path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FsUsage {
    /// `major:minor`.
    pub dev: String,
    /// Mountpoint on this host; a directory of it if it is not mounted here.
    pub mountpoint: String,
    /// Total, in bytes.
    pub size: u64,
    /// In use, in bytes.
    pub used: u64,
    /// Available to all users, in bytes.
    pub avail: u64,
    /// Usage in percent, calculated like df.
    pub percent: f64,
}

/// The mount table, read once per run: a host with hundreds of containers has more than a thousand mounts.
#[derive(Debug, Default)]
pub struct Filesystems {
    mounts: Memo<(), Result<Arc<Vec<MountRef>>, ProbeError>>,
}

impl Filesystems {
    /// All mounts visible to this process, in mount order.
    pub async fn mounts(&self) -> Result<Arc<Vec<MountRef>>, ProbeError> {
        self.mounts.get((), || async { all_mounts().await.map(Arc::new) }).await
    }

    /// Usage of the filesystem that contains `path`.
    pub async fn of(&self, path: &Path) -> Result<FsUsage, ProbeError> {
        let mounts = self.mounts().await?;
        let from = path.display().to_string();
        let path = path.to_owned();
        blocking::run("the filesystem", &from, TIMEOUT, move |io| read(io, &path, &mounts))
            .await?
            .map_err(|e| ProbeError::io("the filesystem", from, &e))
    }

    /// Usage of the filesystem that contains `directory` below the root of process `pid`.
    pub async fn of_process(&self, pid: i32, directory: &str) -> Result<FsUsage, ProbeError> {
        let mounts = self.mounts().await?;
        let from = format!("{directory} of process {pid}");
        let path = PathBuf::from(directory);
        let read = move |io: &Io| {
            let opened = Root::of(io, pid)?.open_path(&path)?;
            Ok(usage(&path, opened.metadata()?.dev(), Space::from(fstatvfs(&opened)?), &mounts))
        };
        let read = blocking::run("the filesystem", &from, TIMEOUT, read).await?;
        read.map_err(|e| ProbeError::io("the filesystem", from, &e))
    }
}

/// A path with all symbolic links resolved; `None` if it does not exist or is not accessible.
pub async fn real_path(path: &str) -> Option<String> {
    let link = path.to_owned();
    let real = blocking::run("the directory", path, TIMEOUT, move |io| io.canonicalize(link).ok());
    real.await.ok().flatten().and_then(|p| p.to_str().map(str::to_owned))
}

/// Whether a directory has entries other than `lost+found`; false if it cannot be read.
pub async fn is_not_empty(path: &str) -> bool {
    let directory = path.to_owned();
    let has_entries = blocking::run("the directory", path, TIMEOUT, move |io| {
        io.read_dir(directory).is_ok_and(|mut entries| entries.any(|e| e.is_ok_and(|e| e.file_name() != "lost+found")))
    });
    has_entries.await.unwrap_or(false)
}

#[allow(clippy::disallowed_methods, reason = "the caller has the token")]
fn read(io: &Io, path: &PathBuf, mounts: &[MountRef]) -> std::io::Result<FsUsage> {
    // both follow a link, as the programs that use the path do
    Ok(usage(path, io.metadata(path)?.dev(), Space::from(statvfs(path)?), mounts))
}

fn usage(path: &Path, dev: u64, space: Space, mounts: &[MountRef]) -> FsUsage {
    let dev = format!("{}:{}", major(dev), minor(dev));
    let mountpoint = mountpoint(path, &dev, mounts);
    FsUsage { dev, mountpoint, size: space.size, used: space.used, avail: space.avail, percent: space.percent() }
}

/// The mountpoint on this host of the filesystem with this device. A path behind a link or of a container is not below it.
fn mountpoint(path: &Path, dev: &str, mounts: &[MountRef]) -> String {
    let of_device: Vec<&str> = mounts.iter().filter(|m| m.dev == dev).map(|m| m.mountpoint.as_str()).collect();
    let above = of_device.iter().filter(|m| path.starts_with(m)).max_by_key(|m| m.len());
    let found = above.or_else(|| of_device.iter().min_by_key(|m| m.len()));
    // a subvolume has a device number that is not in the mount table; a filesystem in memory of a container is not mounted here
    found.map_or_else(|| path.components().as_path().display().to_string(), |m| (*m).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystem_is_named_by_its_mountpoint_on_the_host() {
        let mount = |dev: &str, mountpoint: &str| MountRef {
            dev: dev.into(),
            mountpoint: mountpoint.into(),
            fstype: String::new(),
            source: String::new(),
            super_options: Vec::new(),
            mount_options: Vec::new(),
        };
        let mounts = [mount("8:1", "/"), mount("8:17", "/mnt/data/pg"), mount("8:17", "/data"), mount("8:1", "/var/lib/docker")];
        for (path, dev, expected) in [
            ("/var/lib/postgresql/15/main", "8:1", "/"),
            ("/var/lib/docker/volumes/x", "8:1", "/var/lib/docker"),
            // a link to another filesystem, and a volume as its container names it
            ("/var/lib/postgresql/15/main/pg_wal/.", "8:17", "/data"),
            ("/mnt/data/pg/15", "8:17", "/mnt/data/pg"),
            ("/var/lib/postgresql/data/.", "0:61", "/var/lib/postgresql/data"),
        ] {
            assert_eq!(mountpoint(Path::new(path), dev, &mounts), expected, "{path}");
        }
    }

    #[test]
    fn reserved_blocks_do_not_count_as_used() {
        // trap N5: 252 G in size, 17 G used, 74 G available, the rest reserved
        let space = Space { size: 252, used: 17, avail: 74, ..Space::default() };
        assert!((space.percent() - 18.7).abs() < 0.1);
        assert!(Space::default().percent() < 0.1);
        assert_eq!(Space { inodes: 200, inodes_avail: 0, ..Space::default() }.inodes_percent(), Some(100.0));
        assert_eq!(Space::default().inodes_percent(), None);
    }
}
