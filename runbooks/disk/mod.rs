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

use opsctl_core::model::{Inventory, KeyKind, Kind, Link, MountRef, Runbook, Subject, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.disk]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Used space in percent, counted as df counts, that is warn (netdata health.d/disks.conf: 90).
    pub space_warn_percent: f64,
    /// The same for crit, for any size (netdata: 98).
    pub space_crit_percent: f64,
    /// The same for crit when less than `space_crit_free_bytes` is left (mixin: 5 % free).
    pub space_low_percent: f64,
    /// Free bytes below which `space_low_percent` is crit (netdata: 5 GiB); not applied to filesystems under 5 GiB.
    pub space_crit_free_bytes: u64,
    /// Used inodes in percent that is warn (mixin: under 5 % free).
    pub inodes_warn_percent: f64,
    /// The same for crit (mixin: under 3 % free).
    pub inodes_crit_percent: f64,
    /// Hours until the filesystem is full, at the rate of the last hours, that are warn (mixin: 24).
    pub full_in_warn_hours: f64,
    /// The same for crit (mixin: 4).
    pub full_in_crit_hours: f64,
    /// Deleted but open bytes that are warn (judgement: 1 GiB); not applied to filesystems under 5 GiB.
    pub deleted_warn_bytes: u64,
    /// Share of the filesystem in percent that deleted but open files must also have (judgement: 5).
    pub deleted_warn_percent: f64,
    /// Journal size in bytes that is info (judgement: 4 GiB).
    pub journal_info_bytes: u64,
    /// Time limit of the walk for disk usage, in milliseconds (judgement).
    pub walk_ms: u64,
    /// Used file descriptors in percent that are warn (mixin: 70).
    pub descriptors_warn_percent: f64,
    /// The same for crit (mixin: 90).
    pub descriptors_crit_percent: f64,
    /// Used descriptors of one process in percent of its own limit that are warn (netdata: 85).
    pub process_descriptors_warn_percent: f64,
    /// The same for crit (netdata: 95).
    pub process_descriptors_crit_percent: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            space_warn_percent: 90.0,
            space_crit_percent: 98.0,
            space_low_percent: 95.0,
            space_crit_free_bytes: 5 << 30,
            inodes_warn_percent: 95.0,
            inodes_crit_percent: 97.0,
            full_in_warn_hours: 24.0,
            full_in_crit_hours: 4.0,
            deleted_warn_bytes: 1 << 30,
            deleted_warn_percent: 5.0,
            journal_info_bytes: 4 << 30,
            walk_ms: 2000,
            descriptors_warn_percent: 70.0,
            descriptors_crit_percent: 90.0,
            process_descriptors_warn_percent: 85.0,
            process_descriptors_crit_percent: 95.0,
        }
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
    Link::likely("disk.space", "container.restart-loop", KeyKind::Container, "its filesystem in memory is full"),
    Link::likely("disk.space", "healthcheck.unhealthy", KeyKind::Container, "its filesystem in memory is full"),
];

/// The filesystems of this host, as targets.
fn mounts(inventory: &Inventory) -> Vec<Target> {
    inventory.mounts.iter().map(|m| Target { kind: Kind::Mount, name: m.mountpoint.clone(), id: m.dev.clone() }).collect()
}

/// The mount of a target.
fn mount_of<'a>(inventory: &'a Inventory, target: &Target) -> Option<&'a MountRef> {
    inventory.mounts.iter().find(|m| m.dev == target.id && m.mountpoint == target.name)
}

/// A filesystem by device and mountpoint.
fn subject(mount: &MountRef) -> Subject {
    Subject { kind: Kind::Mount, name: mount.mountpoint.clone(), identity: format!("{}@{}", mount.dev, mount.mountpoint) }
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
    }
}
