//! Filesystems in fstab that are not mounted. Writes go to the directory below the mountpoint meanwhile.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Kind, Object, Role, Severity};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::FstabEntry;
use opsctl_core::probe::systemd::mount_unit;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const MISSING: Code = Code {
    id: "disk.mount-missing",
    severities: &[Severity::Crit],
    when: "a filesystem in fstab without noauto or nofail is not mounted",
    hint: "stop the processes that write there, mount the filesystem, and check the files written below the mountpoint meanwhile",
    // a unit that needs the mountpoint: RequiresMountsFor=, WorkingDirectory=, its data directory
    impacts: &[Impact::confirmed(Role::Down, KeyKind::Requirement, "filesystem is not mounted")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.mount-missing",
    title: "all filesystems in fstab are mounted",
    codes: &[MISSING],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

pub(super) struct MountMissing;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    fstab: Vec<FstabEntry>,
    mounted: Vec<String>,
    /// Content of the directories at missing mountpoints.
    #[serde(default)]
    below: Vec<Below>,
}

/// The directory at a missing mountpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Below {
    mountpoint: String,
    /// `major:minor` of the filesystem that the writes go to, if files were written.
    takes: Option<String>,
    /// Containers with a mount below it: full id and name.
    used_by: Vec<(String, String)>,
}

impl Check for MountMissing {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let fstab = filesystem::fstab().await?;
        let mounted = if fstab.is_empty() {
            Vec::new()
        } else {
            cx.filesystems.mounts().await?.iter().map(|m| m.mountpoint.clone()).collect()
        };
        let mut e = Evidence { fstab, mounted, below: Vec::new() };
        let mut missing: Vec<String> = e.missing().map(|f| f.mountpoint.clone()).collect();
        // systemd mounts at the target of a link (systemd-fstab-generator(8))
        let mut linked = Vec::new();
        for mountpoint in &missing {
            if filesystem::real_path(mountpoint).await.is_some_and(|real| e.mounted.contains(&real)) {
                linked.push(mountpoint.clone());
            }
        }
        missing.retain(|m| !linked.contains(m));
        e.mounted.extend(linked);
        for mountpoint in missing {
            e.below.push(below(cx, mountpoint).await);
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.missing()
            .map(|f| {
                let subject = Object::new(Kind::Mount, f.mountpoint.clone(), format!("fstab@{}", f.mountpoint));
                let message = format!("{} is in fstab but not mounted: writes go to the disk below it", f.mountpoint);
                let line = format!("{} {} {} {}", f.source, f.mountpoint, f.fstype, f.options.join(","));
                let finding = Finding::new(&MISSING, Severity::Crit, subject, message)
                    .cite("fstab", line)
                    .key(KeyKind::Requirement, &f.mountpoint)
                    .needs(mount_unit(&f.mountpoint));
                let Some(below) = e.below.iter().find(|b| b.mountpoint == f.mountpoint) else { return finding };
                let users: Vec<&str> = below.used_by.iter().map(|(_, name)| name.as_str()).collect();
                let finding = finding.cite("containers that use it", users.join(", "));
                let finding = below.used_by.iter().fold(finding, |f, (id, _)| f.key(KeyKind::Container, id));
                match &below.takes {
                    Some(dev) => finding.key(KeyKind::Filesystem, dev),
                    None => finding,
                }
            })
            .collect::<Vec<_>>()
            .into()
    }
}

impl Evidence {
    fn missing(&self) -> impl Iterator<Item = &FstabEntry> {
        self.fstab.iter().filter(|f| is_required(f) && !self.mounted.contains(&f.mountpoint))
    }
}

async fn below(cx: &ProbeCx, mountpoint: String) -> Below {
    let is_in = |source: &str| std::path::Path::new(source).starts_with(&mountpoint);
    let containers = cx.inspected(&cx.inventory.containers).await;
    let users = containers.iter().filter(|c| c.mounts.iter().any(|m| is_in(&m.source)));
    let used_by = users.map(|c| (c.id.clone(), c.name.clone())).collect();
    // an empty directory uses no space of its disk
    let dev = if filesystem::is_not_empty(&mountpoint).await {
        cx.filesystems.of(mountpoint.as_ref()).await.ok().map(|f| f.dev)
    } else {
        None
    };
    Below { mountpoint, takes: dev, used_by }
}

/// Whether the entry has to be mounted after boot: an automount is mounted on first access.
fn is_required(entry: &FstabEntry) -> bool {
    // the second form of the automount is from before systemd 216
    let optional = |o: &String| matches!(o.as_str(), "noauto" | "nofail" | "x-systemd.automount" | "comment=systemd.automount");
    entry.mountpoint.starts_with('/') && entry.fstype != "swap" && !entry.options.iter().any(optional)
}
