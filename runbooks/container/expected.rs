//! Existence of the containers that the configuration expects.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Finding, Inventory, Judged, Judgement, Kind, Object, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, state::DOWN};

static SPEC: CheckSpec = CheckSpec {
    id: "container.expected",
    title: "all expected containers exist",
    codes: &[DOWN],
    fixes: &[],
    timeout: Duration::from_secs(1),
};

pub(super) struct Expected {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    missing: Vec<String>,
}

impl Check for Expected {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        if self.settings.expect.is_empty() {
            return Vec::new();
        }
        let name = inventory.engine.as_ref().map_or("docker", |e| &e.name);
        vec![Object::named(Kind::Engine, name)]
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        cx.docker()?;
        let exists = |name: &str| cx.inventory.containers.iter().any(|c| c.name == name);
        Ok(Evidence { missing: self.settings.expect.iter().filter(|n| !exists(n)).cloned().collect() })
    }

    fn judge(&self, _judged: &Judged<'_>, evidence: &Evidence) -> Judgement {
        evidence
            .missing
            .iter()
            .map(|name| {
                let subject = Object::named(Kind::Container, name.clone());
                Finding::new(
                    &DOWN,
                    Severity::Crit,
                    subject,
                    format!("{name} is expected by the configuration and does not exist"),
                )
                .hint("recreate it from its compose file")
            })
            .collect::<Vec<_>>()
            .into()
    }
}
