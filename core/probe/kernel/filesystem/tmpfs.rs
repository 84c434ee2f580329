//! tmpfs mounts of the processes of a container.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{fstatvfs, major, minor};
use serde::{Deserialize, Serialize};

use crate::model::MountRef;
use crate::probe::Io;
use crate::probe::io::Root;
use crate::probe::kernel::filesystem::mounts::{is_writable_tmpfs, parse_mountinfo};
use crate::probe::kernel::filesystem::space::Space;

/// A tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// Mountpoint below the root of the process.
    pub mountpoint: String,
    /// `major:minor`.
    pub dev: String,
    /// Its space.
    pub space: Space,
}

/// The tmpfs mounts that process `pid` can write to. Requires root.
pub fn tmpfs_of(io: &Io, pid: i32) -> std::io::Result<Vec<Tmpfs>> {
    let text = io.read_lossy(format!("/proc/{pid}/mountinfo"))?;
    let root = Root::of(io, pid)?;
    let space = |m: &MountRef| -> std::io::Result<Option<Space>> {
        let directory = root.open_path(Path::new(&m.mountpoint))?;
        let dev = directory.metadata()?.dev();
        // another filesystem may be mounted over it
        let same = format!("{}:{}", major(dev), minor(dev)) == m.dev;
        Ok(same.then(|| fstatvfs(&directory)).transpose()?.map(Space::from))
    };
    let mounts = parse_mountinfo(&text).into_iter().map(|(_, mount)| mount).filter(is_writable_tmpfs);
    Ok(mounts.filter_map(|m| Some(Tmpfs { space: space(&m).ok()??, mountpoint: m.mountpoint, dev: m.dev })).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn tmpfs_mounts_exclude_disks_and_exited_process_is_an_error() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = tmpfs_of(&Io::for_test(), me).unwrap();
        assert!(all.iter().all(|t| t.dev.starts_with("0:") && t.mountpoint != "/dev"), "{all:?}");
        assert!(tmpfs_of(&Io::for_test(), i32::MAX).is_err());
    }
}
