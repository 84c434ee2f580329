//! Filesystems that the kernel made read-only.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, MountRef, Object, Role, Severity,
};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::FstabEntry;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{mount_of, mounts, subject};

const READONLY: Code = Code {
    id: "disk.readonly",
    severities: &[Severity::Crit],
    when: "a filesystem is read-only as a whole although fstab mounts it writable, or the kernel log reports that it was remounted read-only",
    hint: "the kernel does this after errors: check disk.io-errors and the kernel log, then repair offline with fsck; remounting writable causes more damage",
    impacts: &[Impact::confirmed(Role::NoRoom, KeyKind::Filesystem, "filesystem is read-only")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.readonly",
    title: "writable filesystems are writable",
    codes: &[READONLY],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct ReadOnly;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    mount: MountRef,
    /// Its line in fstab, if it has one.
    fstab: Option<FstabEntry>,
    /// The message in the kernel log, if any.
    kernel: Option<String>,
}

impl Check for ReadOnly {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        mounts(inventory)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mount = mount_of(&cx.inventory, target).ok_or_else(|| ProbeError::Skip(format!("{} is not mounted", target.name)))?;
        let mut e = Evidence { mount: mount.clone(), fstab: None, kernel: None };
        // the two further reads are only needed to distinguish a configured from an unexpected read-only filesystem
        if is_read_only(mount) {
            e.fstab = filesystem::fstab().await.unwrap_or_default().into_iter().find(|f| f.mountpoint == mount.mountpoint);
            let device = mount.source.rsplit('/').next().unwrap_or_default();
            let lines = cx.kernel_log.lines().await.unwrap_or_default();
            // `EXT4-fs (sda1): Remounting filesystem read-only`; program names in lines of users have at most 15 characters
            let ending = format!("({device}): Remounting filesystem read-only");
            let reports = |text: &str| text.strip_suffix(&ending).is_some_and(|fs| fs.len() < 20 && !fs.contains('['));
            e.kernel = lines.iter().rev().find(|l| reports(&l.text)).map(|l| format!("{} {}", l.at, l.text));
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let writable_in_fstab = e.fstab.as_ref().is_some_and(|f| !f.options.iter().any(|o| o == "ro"));
        if !is_read_only(&e.mount) || !(writable_in_fstab || e.kernel.is_some()) {
            return Judgement::default();
        }
        let message = format!("{} is read-only although it should be writable", e.mount.mountpoint);
        let finding = Finding::new(&READONLY, Severity::Crit, subject(&e.mount), message)
            .key(KeyKind::Filesystem, &e.mount.dev)
            .cite_opt("kernel log", e.kernel.clone())
            .cite_opt("fstab", e.fstab.as_ref().map(|f| format!("{} {} {}", f.source, f.mountpoint, f.options.join(","))));
        vec![finding].into()
    }
}

/// Whether the superblock is `ro`. A mount with `ro` on a writable superblock is configured for that path.
fn is_read_only(mount: &MountRef) -> bool {
    mount.super_options.iter().any(|o| o == "ro")
}
