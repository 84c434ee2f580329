//! Running containers that have begun to log errors.

use std::time::Duration;

use opsctl_core::model::log::NewErrors;
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::dependencies::{ATTACHED, BIND_MOUNTS, NEEDED, NEEDED_SERVERS, NO_ROOM};
use crate::shared::log_reason::new_errors;

const NEW_ERRORS: Code = Code {
    id: "container.new-errors",
    severities: &[Severity::Warn],
    when: "a running container logs errors that began after a quiet hour or with its start, and continue (warn); not errors that its clients cause, and not steady noise",
    hint: "read its log: `docker logs --since 1h CONTAINER`",
    depends_on: &[NO_ROOM, NEEDED, NEEDED_SERVERS, ATTACHED, BIND_MOUNTS],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.errors",
    title: "running containers log no new errors",
    codes: &[NEW_ERRORS],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct Errors;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    subject: Option<Object>,
    found: Option<NewErrors>,
    /// The objects that its lines name.
    log: LogEvidence,
}

impl Check for Errors {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        // nginx and its clients: the nginx runbook reads its error log
        inventory.container_targets(|c| c.state == "running" && c.product != Some(Product::Nginx))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let mut e = Evidence { subject: Some(container.subject_of_all_runs()), ..Evidence::default() };
        (e.found, e.log) = cx.new_errors_of_container(&container).await?;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (Some(found), Some(subject)) = (&e.found, &e.subject) else { return Judgement::default() };
        let (finding, sample) = new_errors(&NEW_ERRORS, subject.clone(), found, &e.log, judged.taken_at);
        let mut judgement = Judgement::from(vec![finding]);
        judgement.samples.push(sample);
        judgement
    }
}
