//! Result of cloud-init. A recoverable error is not a failed boot.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Object, Severity, quantity::duration};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::cloud_init::{CloudInit, Files, Progress, UNITS};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;

const CLOUD_INIT: Code = Code {
    id: "host.cloud-init",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a stage of cloud-init failed, `cloud-init status` exits with 1 (crit); cloud-init continued after errors, exit 2, or still runs after {cloud_init_min} (warn); cloud-init is disabled (info)",
    hint: "read /var/log/cloud-init.log and /var/log/cloud-init-output.log; `cloud-init schema --system` checks the user data",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.cloud-init",
    title: "cloud-init finished without errors",
    codes: &[CLOUD_INIT],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

pub(super) struct CloudInitCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    cloud_init: CloudInit,
    uptime_s: i64,
    /// opsctl was started by cloud-init, from user data.
    within: bool,
}

impl Check for CloudInitCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let read =
            blocking::run("the boot's status", "/run/cloud-init", Duration::from_secs(1), |io| Files::default().read(io)).await?;
        let Some(cloud_init) = read? else { return Err(ProbeError::Skip("cloud-init is not installed".to_owned())) };
        let within = host::own_units().await?.iter().any(|unit| UNITS.contains(&unit.as_str()));
        Ok(Evidence { cloud_init, uptime_s: clock::since_boot().as_secs(), within })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let c = &e.cloud_init;
        let mut j = Judgement { findings: self.finding(judged, e).into_iter().collect(), ..Judgement::default() };
        // started from user data, opsctl would wait for itself
        if matches!(c.progress, Progress::Running | Progress::NotStarted) && !e.within && c.errors.is_empty() {
            j.pending.push("cloud-init".to_owned());
        }
        j
    }
}

impl CloudInitCheck {
    fn finding(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let c = &e.cloud_init;
        let new = |severity, message: String| Some(Finding::new(&CLOUD_INIT, severity, Object::host(), message));
        if c.progress == Progress::Disabled {
            return new(Severity::Info, format!("cloud-init is disabled: {}", c.disabled_by));
        }
        if let Some(first) = c.errors.first() {
            let more = if c.errors.len() > 1 { format!(" and {} more", c.errors.len() - 1) } else { String::new() };
            let finding = new(Severity::Crit, format!("cloud-init failed: {}{more}", short(first)))?;
            let finding = finding
                .cite("exit code of cloud-init status", "1")
                .cite("data source", &c.datasource)
                .cite("last lines of cloud-init-output.log", c.output.join(" | "));
            return Some(UNITS.iter().fold(finding, |f, unit| f.key(KeyKind::Unit, *unit)));
        }
        // the most severe levels first, deprecations last
        let levels = ["CRITICAL", "ERROR", "WARNING"];
        let worst = levels.iter().filter_map(|l| c.recoverable.get(*l));
        let others = c.recoverable.iter().filter(|(l, _)| !levels.contains(&l.as_str())).map(|(_, errors)| errors);
        let recoverable: Vec<&String> = worst.chain(others).flatten().collect();
        if let Some(first) = recoverable.first() {
            let more = if recoverable.len() > 1 { format!(" and {} more", recoverable.len() - 1) } else { String::new() };
            let finding = new(Severity::Warn, format!("cloud-init continued after errors: {}{more}", short(first)))?;
            let all: Vec<String> = c.recoverable.iter().map(|(level, errors)| format!("{level} {}", errors.len())).collect();
            return Some(
                finding.cite("exit code of cloud-init status", "2: the boot itself is fine").cite("by level", all.join(", ")),
            );
        }
        let limit = SignedDuration::from_mins(self.settings.cloud_init_min);
        let since = c.started.map_or(SignedDuration::from_secs(e.uptime_s), |s| judged.taken_at.duration_since(s));
        if c.progress == Progress::Running && since > limit {
            let stage = if c.stage.is_empty() { "between two stages" } else { &c.stage };
            return new(
                Severity::Warn,
                format!("cloud-init still runs after {}, limit {}: {stage}", duration(since), duration(limit)),
            );
        }
        None
    }
}

/// Errors can be whole tracebacks.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 160 { line.chars().take(160).chain("…".chars()).collect() } else { line.to_owned() }
}
