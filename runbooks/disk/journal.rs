//! Size of the systemd journal.

use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Kind, Object, Plan, Refusal, Risk,
    Severity, quantity,
};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::READ_TIMEOUT;

const JOURNAL: Code = Code {
    id: "disk.journal",
    severities: &[Severity::Info],
    when: "the systemd journal takes over {journal_info_bytes} or 10 % of its filesystem",
    hint: "set SystemMaxUse in /etc/systemd/journald.conf",
    ..Code::BASE
};
const VACUUM: FixSpec = FixSpec { id: "journal.vacuum", risk: Risk::R3, title: "keep the newest 500 MB of the journal" };

static SPEC: CheckSpec = CheckSpec {
    id: "disk.journal",
    title: "the systemd journal is bounded",
    codes: &[JOURNAL],
    fixes: &[VACUUM],
    timeout: Duration::from_secs(4),
};

const JOURNAL_DIR: &str = "/var/log/journal";
/// Size of the journal after the fix, in bytes (journalctl reads M as MiB).
const VACUUM_SIZE: u64 = 500 << 20;

pub(super) struct Journal {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    bytes: u64,
    filesystem: FsUsage,
    /// Some directories could not be read: permission denied.
    unreadable: bool,
}

impl Check for Journal {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, _inventory: &Inventory) -> Vec<Object> {
        vec![Object::named(Kind::Host, "host")]
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        if !blocking::run("a directory", JOURNAL_DIR, READ_TIMEOUT, |io| io.is_dir(JOURNAL_DIR)).await? {
            return Err(ProbeError::Skip("no persistent systemd journal on this host".to_owned()));
        }
        let usage = filesystem::usage(JOURNAL_DIR, Duration::from_secs(2)).await?;
        let unreadable = usage.unreadable > 0 && !host::is_root();
        Ok(Evidence { bytes: usage.bytes, filesystem: cx.filesystems.of(Path::new(JOURNAL_DIR)).await?, unreadable })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let share = e.bytes as f64 * 100.0 / e.filesystem.size.max(1) as f64;
        if e.bytes > self.settings.journal_info_bytes || (share > 10.0 && e.bytes > VACUUM_SIZE) {
            let subject = Object::new(Kind::Host, "host", JOURNAL_DIR.to_owned());
            let message = format!(
                "the journal takes {}, {} of {}",
                quantity::bytes(e.bytes),
                quantity::percent(share),
                e.filesystem.mountpoint
            );
            return vec![
                Finding::new(&JOURNAL, Severity::Info, subject, message)
                    .key(KeyKind::Filesystem, &e.filesystem.dev)
                    .weight(e.bytes)
                    .fix(VACUUM.id),
            ]
            .into();
        }
        let gaps = if e.unreadable {
            vec![format!("reading {JOURNAL_DIR}: permission denied; needs root or group systemd-journal")]
        } else {
            Vec::new()
        };
        Judgement { gaps, ..Judgement::default() }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        super::docker::only_when_full(&e.filesystem)?;
        let action = Action::Run { argv: ["journalctl", "--vacuum-size=500M"].map(str::to_owned).to_vec() };
        Ok(Plan::new(&VACUUM, &SPEC, finding, judged.target, vec![action])
            .affects([format!("all but the newest 500 MB of {} of journal is lost", quantity::bytes(e.bytes))])
            .recurs("without SystemMaxUse the journal grows again"))
    }
}
