//! Maintenance mode of a site.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::nginx;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::servers::Server;

const MODE: Code = Code {
    id: "nginx.mode",
    severities: &[Severity::Warn],
    when: "a site's configuration is a link to, or a copy of, the maintenance configuration beside it (`x.conf.temp`, `.maintenance`)",
    hint: "after the maintenance restore the regular configuration (`x.conf.full`) and reload",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.mode",
    title: "No site is in maintenance mode",
    codes: &[MODE],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct Mode;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    modes: Vec<nginx::Mode>,
}

impl Check for Mode {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        Ok(Evidence { modes: cx.nginx(target)?.in_maintenance().await?, server })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let finding = |m: &nginx::Mode| {
            let since = m.since.map_or_else(String::new, |t| format!(", since {}", quantity::ago(judged.taken_at, t)));
            let file = m.file.rsplit('/').next().unwrap_or(&m.file);
            e.server
                .finding(
                    &MODE,
                    Severity::Warn,
                    judged.target,
                    format!("{} serves {file} in maintenance mode{since}", judged.target.name),
                )
                .since(m.since)
                .cite("configuration", format!("{} is {}", m.file, m.is))
        };
        e.modes.iter().map(finding).collect::<Vec<_>>().into()
    }
}
