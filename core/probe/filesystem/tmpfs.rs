//! Filesystems in memory, as the processes of a container see them.

use std::path::Path;

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::mounts::{is_writable_tmpfs, parse_mountinfo};
use super::space::Space;

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

/// Those that process `pid` can write to. Looking needs root; it cannot hang, because nothing but memory is asked.
pub fn tmpfs_of(pid: i32) -> std::io::Result<Vec<Tmpfs>> {
    let text = std::fs::read(format!("/proc/{pid}/mountinfo"))?;
    let root = format!("/proc/{pid}/root");
    // without leave to follow it nothing below could be asked
    Path::new(&root).read_link()?;
    let mounts = parse_mountinfo(&String::from_utf8_lossy(&text)).into_iter().map(|(_, mount)| mount);
    let space = |mountpoint: &str| statvfs(format!("{root}{mountpoint}")).ok().map(Space::from);
    Ok(mounts
        .filter(is_writable_tmpfs)
        .filter_map(|m| Some(Tmpfs { space: space(&m.mountpoint)?, mountpoint: m.mountpoint, dev: m.dev }))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn this_process_sees_no_disk_among_them_and_who_is_gone_is_an_error() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = tmpfs_of(me).unwrap();
        assert!(all.iter().all(|t| t.dev.starts_with("0:") && t.mountpoint != "/dev"), "{all:?}");
        assert!(tmpfs_of(i32::MAX).is_err());
    }
}
