//! Is everything mounted that fstab names? Otherwise writes go to the folder below the mountpoint.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Kind, Severity, Subject, Target};
use opsctl_core::probe::filesystem::{self, FstabEntry};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const MISSING: Code = Code {
    id: "disk.mount-missing",
    severities: &[Severity::Crit],
    when: "fstab has a filesystem without noauto or nofail that is not mounted",
    hint: "stop what writes there, mount it, and look at what was written below the mountpoint meanwhile",
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.mount-missing",
    title: "everything in fstab is mounted",
    codes: &[MISSING],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

pub(super) struct MountMissing;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    fstab: Vec<FstabEntry>,
    mounted: Vec<String>,
}

impl Check for MountMissing {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Target) -> Result<Evidence, ProbeError> {
        let fstab = filesystem::fstab()?;
        Ok(Evidence { mounted: if fstab.is_empty() { Vec::new() } else { filesystem::mountpoints()? }, fstab })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.fstab
            .iter()
            .filter(|f| wanted(f) && !e.mounted.iter().any(|m| m == &f.mountpoint))
            .map(|f| {
                let subject =
                    Subject { kind: Kind::Mount, name: f.mountpoint.clone(), identity: format!("fstab@{}", f.mountpoint) };
                let message = format!("{} is in fstab and not mounted: writes go to the disk below it", f.mountpoint);
                let line = format!("{} {} {} {}", f.source, f.mountpoint, f.fstype, f.options.join(","));
                Finding::new(&MISSING, Severity::Crit, subject, message).cite("fstab", line)
            })
            .collect::<Vec<_>>()
            .into()
    }
}

/// Mounted at boot and missed when it is not: an automount appears when it is used.
fn wanted(entry: &FstabEntry) -> bool {
    let optional = |o: &String| matches!(o.as_str(), "noauto" | "nofail" | "x-systemd.automount");
    entry.mountpoint.starts_with('/') && entry.fstype != "swap" && !entry.options.iter().any(optional)
}
