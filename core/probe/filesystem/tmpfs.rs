//! Filesystems in memory, as the processes of a container see them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{fstatvfs, major, minor};
use serde::{Deserialize, Serialize};

use super::mounts::{is_writable_tmpfs, parse_mountinfo};
use super::space::Space;
use crate::model::MountRef;
use crate::probe::Io;
use crate::probe::io::Root;

/// A filesystem in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// Where its processes see it.
    pub mountpoint: String,
    /// `major:minor`.
    pub dev: String,
    /// How full it is.
    pub space: Space,
}

/// Those that process `pid` can write to. Needs root.
pub fn tmpfs_of(io: &Io, pid: i32) -> std::io::Result<Vec<Tmpfs>> {
    let text = io.read_lossy(format!("/proc/{pid}/mountinfo"))?;
    let root = Root::of(io, pid)?;
    let space = |m: &MountRef| -> std::io::Result<Option<Space>> {
        let directory = root.place(Path::new(&m.mountpoint))?;
        let dev = directory.metadata()?.dev();
        // something else may be mounted over it
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
    fn this_process_sees_no_disk_among_them_and_who_is_gone_is_an_error() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = tmpfs_of(&Io::for_test(), me).unwrap();
        assert!(all.iter().all(|t| t.dev.starts_with("0:") && t.mountpoint != "/dev"), "{all:?}");
        assert!(tmpfs_of(&Io::for_test(), i32::MAX).is_err());
    }
}
