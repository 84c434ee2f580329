//! Grafana and its database.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::status::ServerState;
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::needed_servers::needs_of;

const GRAFANA: Code = Code {
    id: "monitoring.grafana",
    severities: &[Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); its own database fails, with status 200 (warn) or another status (crit)",
    hint: "check its log and its database (grafana.db, or the server in [database])",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")],
    depends_on: &[
        &running("its"),
        DESCRIPTORS,
        NO_ROOM,
        &[DependsOn::likely(Role::Down, KeyKind::Server, "its"), DependsOn::likely(Role::Exhausted, KeyKind::Server, "its")],
    ],
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.grafana",
    title: "Grafana and its database respond",
    codes: &[GRAFANA],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Grafana;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    /// `ok` or `failing`; `None` if not reported.
    database: Option<String>,
    /// Ids of the servers in its environment, if its database is failing.
    needs: Vec<String>,
}

impl Check for Grafana {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Grafana)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        const HEALTH: &str = "/api/health";
        let state = ServerState::of(cx, target, HEALTH).await?;
        let database = match cx.response(target, HEALTH).await? {
            Ok(answer) => serde_json::from_str::<serde_json::Value>(&answer.body)
                .ok()
                .and_then(|v| Some(v.get("database")?.as_str()?.chars().take(40).collect())),
            Err(_) => None,
        };
        let container = state.server.get().and_then(|s| s.container.clone());
        let needs = match (&cx.docker, container) {
            (Some(docker), Some(id)) if database.as_deref().is_some_and(|d| d != "ok") => needs_of(cx, docker, &id).await,
            _ => Vec::new(),
        };
        Ok(Evidence { standing: state, database, needs })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(&GRAFANA, judged, "Grafana", false);
        }
        let (name, status) = (&judged.target.name, e.standing.status);
        let severity = if status == 200 { Severity::Warn } else { Severity::Crit };
        let text = match (status, e.database.as_deref()) {
            (200, Some("ok")) => return Judgement::default(),
            (200, None) => format!("{name} does not report the state of its database: the reply is not that of Grafana"),
            (200, Some(word)) => format!("{name} returns status 200, but its database is {word}"),
            (_, Some(word)) => format!("{name} is unhealthy: status {status}, its database is {word}"),
            (_, None) => format!("{name} is unhealthy: status {status}"),
        };
        let finding = e.standing.server.finding(&GRAFANA, severity, judged.target, text).cite("reply", &e.standing.says);
        vec![e.needs.iter().fold(finding, |f, server| f.key(KeyKind::Server, server))].into()
    }
}
