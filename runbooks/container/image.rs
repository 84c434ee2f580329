//! Comparison of a container's image with the image its tag points to now.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const DRIFT: Code = Code {
    id: "container.image-drift",
    severities: &[Severity::Info],
    when: "the container runs another image than its tag points to now: recreating it would upgrade it, a restart would not",
    hint: "recreate the container when the upgrade is wanted; read the release notes first",
    ..Code::BASE
};
const MISSING: Code = Code {
    id: "container.image-missing",
    severities: &[Severity::Info],
    when: "the image of the container no longer exists on this host: recreating it requires a pull",
    hint: "pull or rebuild the image before recreating the container",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.image",
    title: "containers run the image their tag points to",
    codes: &[DRIFT, MISSING],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct Image;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    subject: Object,
    reference: String,
    running: String,
    tagged: Option<String>,
}

impl Check for Image {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let container = docker.inspect(&target.id).await?;
        // a container created from an id or digest is pinned on purpose
        if container.image.is_empty() || container.image.contains("sha256:") || container.image_id.contains(&container.image) {
            return Err(ProbeError::Skip("pinned to an image id".to_owned()));
        }
        Ok(Evidence {
            subject: container.subject(),
            reference: container.image.clone(),
            running: container.image_id.clone(),
            tagged: docker.of(&container.id).image_id(&container.image).await?,
        })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &e.subject.name;
        let short = |id: &str| id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        match &e.tagged {
            Some(tagged) if *tagged == e.running => Judgement::default(),
            Some(tagged) => vec![
                Finding::new(
                    &DRIFT,
                    Severity::Info,
                    e.subject.clone(),
                    format!("{name} runs an older image than {} points to now", e.reference),
                )
                .cite("running", short(&e.running))
                .cite("tagged", short(tagged)),
            ]
            .into(),
            None => vec![
                Finding::new(
                    &MISSING,
                    Severity::Info,
                    e.subject.clone(),
                    format!("{name} runs {}, which no longer exists on this host", e.reference),
                )
                .cite("running", short(&e.running)),
            ]
            .into(),
        }
    }
}
