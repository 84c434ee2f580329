//! Space used by files that were deleted while a process has them open.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Judged, Judgement, KeyKind, MountRef, Object, Plan, Refusal, Risk,
    Severity, quantity,
};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::{DeletedFile, Space};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{SMALL_FILESYSTEM, Settings, subject};

const DELETED_OPEN: Code = Code {
    id: "disk.deleted-open",
    severities: &[Severity::Warn, Severity::Crit],
    when: "deleted files that a process still holds open take over {deleted_warn_bytes} and {deleted_warn_percent} of a filesystem (warn), and it is nearly full and closing them would free enough space (crit)",
    hint: "reload or restart the process that has them open: deleting more files does not free this space",
    ..Code::BASE
};
const TRUNCATE: FixSpec = FixSpec {
    id: "fd.truncate",
    risk: Risk::R3,
    title: "truncate the largest deleted log file to zero through its open descriptor",
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.deleted-open",
    title: "deleted files use little space",
    codes: &[DELETED_OPEN],
    fixes: &[TRUNCATE],
    timeout: Duration::from_secs(6),
};

/// Usage from which a filesystem is nearly full (the limit of disk.space for warn), and below which closing the files must bring
/// it.
const NEARLY_FULL_PERCENT: f64 = 90.0;

pub(super) struct DeletedOpen {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    filesystems: Vec<Held>,
}

/// The deleted files of one filesystem, largest first.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    mount: MountRef,
    space: Space,
    files: Vec<DeletedFile>,
}

impl Check for DeletedOpen {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let files = filesystem::deleted_but_open().await?;
        let mut filesystems = Vec::new();
        for mount in &cx.inventory.mounts {
            let here: Vec<DeletedFile> = files.iter().filter(|f| f.dev == mount.dev).cloned().collect();
            if here.is_empty() {
                continue;
            }
            // a mount that hangs is reported by disk.space
            if let Ok(space) = filesystem::space(&mount.mountpoint).await {
                filesystems.push(Held { mount: mount.clone(), space, files: here });
            }
        }
        Ok(Evidence { filesystems })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.filesystems.iter().filter_map(|held| self.held(held)).collect::<Vec<_>>().into()
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let held = e.filesystems.iter().find(|h| subject(&h.mount) == finding.subject);
        let file =
            held.and_then(|h| h.files.first()).ok_or_else(|| Refusal::Precondition("the file no longer exists".to_owned()))?;
        truncatable(file).map_err(Refusal::Precondition)?;
        let action =
            Action::TruncateDeletedFd { pid: file.pid, start_ticks: file.start_ticks, fd: file.fd, identity: file.identity };
        let lost =
            format!("{} of {} written by {} (pid {}) are lost", quantity::bytes(file.bytes), file.path, file.comm, file.pid);
        Ok(Plan::new(&TRUNCATE, &SPEC, finding, judged.target, vec![action])
            .affects([lost])
            .recurs("until the process reopens its log it keeps writing to the deleted file: fix its log rotation"))
    }
}

/// Only a log opened for appending: truncating another file would destroy data that its reader still needs.
fn truncatable(file: &DeletedFile) -> Result<(), String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let log = name.split('.').skip(1).any(|part| part.eq_ignore_ascii_case("log"));
    match (log, file.append_or_write_only) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("{} does not look like a log file; restart or reload {} instead", file.path, file.comm)),
        (_, false) => Err(format!("{} is not opened for appending only; restart or reload {} instead", file.path, file.comm)),
    }
}

impl DeletedOpen {
    fn held(&self, held: &Held) -> Option<Finding> {
        let bytes: u64 = held.files.iter().map(|f| f.bytes).sum();
        let share = bytes as f64 * 100.0 / held.space.size.max(1) as f64;
        let large = bytes >= self.settings.deleted_warn_bytes || held.space.size < SMALL_FILESYSTEM;
        if !large || share < self.settings.deleted_warn_percent {
            return None;
        }
        let used = held.space.used.saturating_sub(bytes);
        let without = used as f64 * 100.0 / used.saturating_add(held.space.avail).saturating_add(bytes).max(1) as f64;
        let would_help = held.space.percent() >= NEARLY_FULL_PERCENT && without < NEARLY_FULL_PERCENT;
        let message = format!(
            "deleted files that are still open take {} of {}, {}, limit {}",
            quantity::bytes(bytes),
            held.mount.mountpoint,
            quantity::percent(share),
            quantity::percent(self.settings.deleted_warn_percent)
        );
        let holders: Vec<String> = held
            .files
            .iter()
            .take(4)
            .map(|f| format!("{} by {} (pid {}, fd {}) {}", quantity::bytes(f.bytes), f.comm, f.pid, f.fd, f.path))
            .collect();
        let severity = if would_help { Severity::Crit } else { Severity::Warn };
        Some(
            Finding::new(&DELETED_OPEN, severity, subject(&held.mount), message)
                .key(KeyKind::Filesystem, &held.mount.dev)
                .weight(bytes)
                .cite("held", holders.join("\n"))
                .fix(TRUNCATE.id),
        )
    }
}
