//! Filesystems that take no data now: mounted read-only, full, or without inodes.

use std::path::Path;

use opsctl_core::model::MountRef;
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::kernel::filesystem::{self, FsUsage};

/// The reason why a filesystem takes no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// The filesystem, or its mount at this path, is read-only.
    ReadOnly,
    /// Bytes that are available; less than needed.
    NoSpace(u64),
    /// No inode is available.
    NoInodes,
}

/// The filesystem that contains `path`, and why it takes no data; `needed` is in bytes. `None` if it cannot be read.
pub(crate) async fn of_path(cx: &ProbeCx, mounts: &[MountRef], path: &str, needed: u64) -> Option<(FsUsage, Option<Unwritable>)> {
    let usage = cx.filesystems.of(Path::new(path)).await.ok()?;
    // the last mount at a mountpoint is the visible one
    let visible = mounts.iter().rfind(|m| m.mountpoint == usage.mountpoint && m.dev == usage.dev);
    let reason = if visible.is_some_and(is_read_only) {
        Some(Unwritable::ReadOnly)
    } else if usage.avail < needed {
        Some(Unwritable::NoSpace(usage.avail))
    } else {
        let space = filesystem::space(&usage.mountpoint).await.ok();
        space.is_some_and(|s| s.inodes > 0 && s.inodes_avail == 0).then_some(Unwritable::NoInodes)
    };
    Some((usage, reason))
}

/// The mountpoint at which a filesystem of a log is examined: that of the path that the log names, if it is in that filesystem. One
/// filesystem can have several mounts, each read-only or not; without a path a writable one is preferred, so that a read-only bind
/// mount of other data is no fault.
pub(crate) fn place<'a>(mounts: &'a [MountRef], dev: &str, path: Option<&str>) -> Option<&'a str> {
    let holding = |path: &str| {
        let holding = mounts.iter().filter(|m| path.starts_with('/') && Path::new(path).starts_with(&m.mountpoint));
        // the last one of equal length is the visible one
        holding.max_by_key(|m| m.mountpoint.len()).filter(|m| m.dev == dev)
    };
    let of_device = || mounts.iter().rev().filter(|m| m.dev == dev);
    let mount = path.and_then(holding).or_else(|| of_device().find(|m| !is_read_only(m))).or_else(|| of_device().next());
    mount.map(|m| m.mountpoint.as_str())
}

/// The option of the mount, or that of the filesystem with all its mounts.
fn is_read_only(mount: &MountRef) -> bool {
    mount.mount_options.iter().chain(&mount.super_options).any(|option| option == "ro")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(dev: &str, mountpoint: &str, options: &str, of_filesystem: &str) -> MountRef {
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        MountRef {
            dev: dev.into(),
            mountpoint: mountpoint.into(),
            fstype: "ext4".into(),
            source: "/dev/sda1".into(),
            super_options: words(of_filesystem),
            mount_options: words(options),
        }
    }

    #[test]
    fn option_of_a_mount_and_of_the_filesystem_count() {
        assert!(is_read_only(&mount("8:1", "/data", "ro,noatime", "rw")));
        assert!(is_read_only(&mount("8:1", "/data", "rw", "ro,errors=remount-ro")));
        assert!(!is_read_only(&mount("8:1", "/data", "rw", "rw,errors=remount-ro")));
    }

    #[test]
    fn read_only_bind_mount_is_not_that_of_another_path() {
        let mounts = [mount("8:1", "/", "rw", "rw"), mount("8:1", "/snap/core", "ro", "rw"), mount("8:2", "/data", "rw", "rw")];
        assert_eq!(place(&mounts, "8:1", None), Some("/"));
        assert_eq!(place(&mounts, "8:1", Some("/snap/core/x")), Some("/snap/core"));
        assert_eq!(place(&mounts, "8:1", Some("/data/x")), Some("/"));
        assert_eq!(place(&mounts, "8:9", Some("/data/x")), None);
    }

    #[test]
    fn only_mount_of_a_filesystem_is_examined_also_if_it_is_read_only() {
        let mounts = [mount("8:1", "/", "rw", "rw"), mount("8:2", "/data", "ro", "rw")];
        assert_eq!(place(&mounts, "8:2", None), Some("/data"));
        assert_eq!(place(&mounts, "8:2", Some("relative")), Some("/data"));
    }

    #[test]
    fn later_mount_hides_an_earlier_one() {
        let mounts = [mount("8:2", "/data", "rw", "rw"), mount("8:3", "/data", "rw", "rw")];
        assert_eq!(place(&mounts, "8:3", Some("/data/x")), Some("/data"));
        assert_eq!(place(&mounts, "8:2", Some("/data/x")), Some("/data"));
    }
}
