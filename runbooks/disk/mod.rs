//! The disk runbook: space, inodes, their users, and the health of the disks.

mod deleted_open;
mod descriptors;
mod docker;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod holders;
mod inodes;
mod io;
mod journal;
mod mount_missing;
mod readonly;
mod space;
mod tmpfs;

use opsctl_core::model::{Inventory, KeyKind, Kind, Link, MountRef, Object, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.disk]`.
    pub struct Settings {
        /// Used space in percent, counted as df counts, that is warn (netdata health.d/disks.conf: 90).
        space_warn_percent: f64 = 90.0,
        /// The same for crit, for any size (netdata: 98).
        space_crit_percent: f64 = 98.0,
        /// The same for crit when less than `space_crit_free_bytes` is left (mixin: 5 % free).
        space_low_percent: f64 = 95.0,
        /// Free bytes below which `space_low_percent` is crit (netdata: 5 GiB); not applied to filesystems under 5 GiB.
        space_crit_free_bytes: u64 = 5 << 30,
        /// Used inodes in percent that is warn (mixin: under 5 % free).
        inodes_warn_percent: f64 = 95.0,
        /// The same for crit (mixin: under 3 % free).
        inodes_crit_percent: f64 = 97.0,
        /// Hours until the filesystem is full, at the rate of the last hours, that are warn (mixin: 24).
        full_in_warn_hours: f64 = 24.0,
        /// The same for crit (mixin: 4).
        full_in_crit_hours: f64 = 4.0,
        /// Deleted but open bytes that are warn (judgement: 1 GiB); not applied to filesystems under 5 GiB.
        deleted_warn_bytes: u64 = 1 << 30,
        /// Share of the filesystem in percent that deleted but open files must also have (judgement: 5).
        deleted_warn_percent: f64 = 5.0,
        /// Journal size in bytes that is info (judgement: 4 GiB).
        journal_info_bytes: u64 = 4 << 30,
        /// Time limit of the walk for disk usage, in milliseconds (judgement).
        walk_ms: u64 = 2000,
        /// Used file descriptors in percent that are warn (mixin: 70).
        descriptors_warn_percent: f64 = 70.0,
        /// The same for crit (mixin: 90).
        descriptors_crit_percent: f64 = 90.0,
        /// Used descriptors of one process in percent of its own limit that are warn (netdata: 85).
        process_descriptors_warn_percent: f64 = 85.0,
        /// The same for crit (netdata: 95).
        process_descriptors_crit_percent: f64 = 95.0,
    }
    limits {
        space: Percent at_least(space_warn_percent, space_crit_percent),
        inodes: Percent at_least(inodes_warn_percent, inodes_crit_percent),
        descriptors: Percent at_least(descriptors_warn_percent, descriptors_crit_percent),
        process_descriptors: Percent at_least(process_descriptors_warn_percent, process_descriptors_crit_percent),
    }
}

/// Filesystems below this size are judged by percent only: an absolute limit would always fire on them.
const SMALL_FILESYSTEM: u64 = 5 << 30;

/// Causes and effects; docs/causes.md lists all links. `container.log-huge` → `disk.space` is in the container runbook.
const LINKS: &[Link] = &[
    Link::confirmed("disk.deleted-open", "disk.space", KeyKind::Filesystem, "a deleted file that is still open takes the space"),
    Link::confirmed(
        "disk.io-errors",
        "disk.readonly",
        KeyKind::Filesystem,
        "the kernel makes a filesystem read-only after errors of its disk",
    ),
    Link::likely(
        "disk.mount-missing",
        "disk.space",
        KeyKind::Filesystem,
        "files for the filesystem that is not mounted are written to this one",
    ),
    Link::likely("disk.mount-missing", "container.start-failed", KeyKind::Container, "the filesystem of its data is not mounted"),
    Link::likely("disk.mount-missing", "container.down", KeyKind::Container, "the filesystem of its data is not mounted"),
    Link::likely("disk.mount-missing", "container.restart-loop", KeyKind::Container, "the filesystem of its data is not mounted"),
    Link::confirmed(
        "disk.mount-missing",
        "systemd.enabled-inactive",
        KeyKind::Requirement,
        "the filesystem that it needs is not mounted",
    ),
    Link::confirmed("systemd.unit-failed", "disk.mount-missing", KeyKind::Requirement, "its mount unit failed"),
    Link::likely("disk.space", "container.restart-loop", KeyKind::Container, "its filesystem in memory is full"),
    Link::likely("disk.space", "healthcheck.unhealthy", KeyKind::Container, "its filesystem in memory is full"),
];

/// The filesystems of this host, as targets.
fn mounts(inventory: &Inventory) -> Vec<Object> {
    inventory.mounts.iter().map(|m| Object::new(Kind::Mount, m.mountpoint.clone(), m.dev.clone())).collect()
}

/// The mount of a target.
fn mount_of<'a>(inventory: &'a Inventory, target: &Object) -> Option<&'a MountRef> {
    inventory.mounts.iter().find(|m| m.dev == target.id && m.mountpoint == target.name)
}

/// A filesystem by device and mountpoint.
fn subject(mount: &MountRef) -> Object {
    Object::new(Kind::Mount, mount.mountpoint.clone(), format!("{}@{}", mount.dev, mount.mountpoint))
}

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "disk",
        about: "Filesystems that are full, filling, read-only or failing, and their largest users",
        checks: vec![
            Box::new(space::SpaceCheck { settings: settings.clone() }),
            Box::new(inodes::Inodes { settings: settings.clone() }),
            Box::new(tmpfs::TmpfsCheck { settings: settings.clone() }),
            Box::new(deleted_open::DeletedOpen { settings: settings.clone() }),
            Box::new(readonly::ReadOnly),
            Box::new(docker::DockerReclaimable),
            Box::new(journal::Journal { settings: settings.clone() }),
            Box::new(io::Io),
            Box::new(mount_missing::MountMissing),
            Box::new(descriptors::Descriptors { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
