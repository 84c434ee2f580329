//! State of the systemd manager: availability, startup and maintenance mode.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, Object, Severity, SystemdState,
    quantity::{count, duration},
};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::systemd::{Manager, init_activity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;

const STATE: Code = Code {
    id: "systemd.state",
    severities: &[Severity::Warn, Severity::Crit],
    when: "systemd is still starting {starting_min} after boot (warn); it is in maintenance mode, or does not answer (crit)",
    hint: "list the pending jobs: `systemctl list-jobs`",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.state",
    title: "systemd has finished startup",
    codes: &[STATE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct State {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// systemd did not answer in time.
    hung: bool,
    /// The activity of PID 1 at that time.
    doing: Option<String>,
    manager: Manager,
    /// Units that run opsctl: their start completes only when opsctl exits.
    own_units: Vec<String>,
}

impl Check for State {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        if cx.inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Hung) {
            return Ok(hung().await);
        }
        match cx.systemd()?.manager().await {
            Ok(manager) => {
                Ok(Evidence { manager: (*manager).clone(), own_units: host::own_units().await?, ..Evidence::default() })
            }
            Err(ProbeError::Timeout { .. }) => Ok(hung().await),
            Err(e) => Err(e),
        }
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let new = |severity, message: String| vec![Finding::new(&STATE, severity, Object::host(), message)];
        if e.hung {
            let findings = new(Severity::Crit, "systemd does not answer: nothing can be started or stopped".to_owned());
            return findings.into_iter().map(|f| f.cite_opt("PID 1", e.doing.as_deref())).collect::<Vec<_>>().into();
        }
        let up = e.manager.started.map_or(SignedDuration::ZERO, |s| judged.taken_at.duration_since(s));
        let limit = SignedDuration::from_mins(self.settings.starting_min);
        match e.manager.state.as_str() {
            "maintenance" => new(Severity::Crit, "systemd is in maintenance mode: most services do not run".to_owned()).into(),
            "starting" | "initializing" if up > limit => {
                let jobs = count(e.manager.jobs.len(), "job");
                let message = format!("systemd is still starting after {}, limit {}: {jobs} wait", duration(up), duration(limit));
                let findings = new(Severity::Warn, message);
                findings.into_iter().map(|f| f.cite("jobs", e.manager.jobs.join(", "))).collect::<Vec<_>>().into()
            }
            // a unit that waits for all units, itself included, waits forever
            "starting" | "initializing" if e.own_units.iter().any(|own| has_job(&e.manager, own)) => Judgement::default(),
            "starting" | "initializing" => {
                Judgement { pending: vec!["the start of all units".to_owned()], ..Judgement::default() }
            }
            // degraded: reported by the check of each unit
            _ => Judgement::default(),
        }
    }
}

/// The evidence if systemd did not answer.
async fn hung() -> Evidence {
    Evidence { hung: true, doing: init_activity().await, ..Evidence::default() }
}

/// Whether this unit has a pending job.
fn has_job(manager: &Manager, unit: &str) -> bool {
    manager.jobs.iter().any(|job| job.rsplit_once('/').is_some_and(|(name, _)| name == unit))
}
