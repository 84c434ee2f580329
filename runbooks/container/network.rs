//! Is a container attached to any network?

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Severity, Subject, Target};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const DETACHED: Code = Code {
    id: "container.network-detached",
    severities: &[Severity::Warn],
    when: "it runs, wants a network, and is attached to none",
    hint: "attach it: docker network connect NETWORK CONTAINER",
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.network",
    title: "containers are attached to a network",
    codes: &[DETACHED],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct Network;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    id: String,
    subject: Subject,
    mode: String,
    networks: Vec<String>,
}

impl Check for Network {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let container = cx.docker()?.inspect(&target.id).await?;
        Ok(Evidence {
            id: container.id.clone(),
            subject: container.subject(),
            mode: container.network_mode.clone(),
            networks: container.networks.keys().cloned().collect(),
        })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let wants_none =
            matches!(e.mode.as_str(), "none" | "host") || e.mode.starts_with("container:") || e.mode.starts_with("ns:");
        // slirp4netns and pasta are Podman's networks without a network object
        if wants_none || !e.networks.is_empty() || matches!(e.mode.as_str(), "slirp4netns" | "pasta") {
            return Judgement::default();
        }
        let message = format!("{} was made for network {} and is attached to none", e.subject.name, e.mode);
        vec![Finding::new(&DETACHED, Severity::Warn, e.subject.clone(), message).key(KeyKind::Container, &e.id)].into()
    }
}
