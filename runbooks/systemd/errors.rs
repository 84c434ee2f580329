//! Running services that have begun to log errors.

use std::time::Duration;

use opsctl_core::model::log::NewErrors;
use opsctl_core::model::{Check, CheckSpec, Code, Judged, Judgement, Kind, Object, Severity};
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::dependencies::{NEEDED, NEEDED_SERVERS, NO_ROOM};
use crate::shared::log_reason::new_errors;

const NEW_ERRORS: Code = Code {
    id: "systemd.new-errors",
    severities: &[Severity::Warn],
    when: "a running service logs errors that began after a quiet hour or with its start, and continue (warn); not errors that its clients cause, and not steady noise",
    hint: "read its log: `journalctl -u UNIT --since -1h`",
    depends_on: &[NO_ROOM, NEEDED, NEEDED_SERVERS],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.errors",
    title: "running services log no new errors",
    codes: &[NEW_ERRORS],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

pub(super) struct Errors;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    found: Vec<OfUnit>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct OfUnit {
    unit: String,
    errors: NewErrors,
    log: LogEvidence,
}

impl Check for Errors {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let found = cx.new_errors_of_units().await?;
        Ok(Evidence { found: found.into_iter().map(|(unit, errors, log)| OfUnit { unit, errors, log }).collect() })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        for OfUnit { unit, errors, log } in &e.found {
            let (finding, sample) = new_errors(&NEW_ERRORS, Object::named(Kind::Unit, unit), errors, log, judged.taken_at);
            judgement.findings.push(finding);
            judgement.samples.push(sample);
        }
        judgement
    }
}
