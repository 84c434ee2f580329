//! Exporters that are up while the service behind them is down.

use std::time::Duration;

use opsctl_core::model::address::Address;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
};
use opsctl_core::probe::needs::DependencySource;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::status::prometheus_server;
use crate::shared::dependencies::{UNRESPONSIVE, running_container};
use crate::shared::servers::Server;

const STALE: Code = Code {
    id: "monitoring.exporter-stale",
    severities: &[Severity::Warn],
    when: "a target is up, but reports that its service is down (`pg_up`, `redis_up` and similar are 0): dashboards are empty while `up` is 1",
    hint: "check the server behind the exporter, then the address and the credentials in the exporter",
    depends_on: &[
        &running_container("the service's"),
        UNRESPONSIVE,
        &[DependsOn::likely(Role::Exhausted, KeyKind::Container, "its")],
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.exporter-stale",
    title: "Exporters reach their services",
    codes: &[STALE],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// `*_up` metrics of 0 from exporters that are up.
const QUERY: &str = "{__name__=~\"(pg|redis|mysql|rabbitmq|nginx|memcached|mongodb|apache|haproxy|phpfpm|pgbouncer|elasticsearch_cluster_health)_up\"} == 0 and on (instance, job) up == 1";

pub(super) struct Exporters;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    stale: Vec<Stale>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stale {
    /// `pg_up`.
    name: String,
    instance: String,
    job: String,
    /// Full ids of the exporter's container and of the containers in its environment, if on this host.
    containers: Vec<String>,
}

impl Check for Exporters {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which stores no samples").await?;
        let found = cx.query(target, QUERY).await?;
        let mut stale: Vec<Stale> = found
            .iter()
            .map(|s| Stale {
                name: s.label("__name__").to_owned(),
                instance: s.label("instance").to_owned(),
                job: s.label("job").to_owned(),
                containers: Vec::new(),
            })
            .collect();
        if !stale.is_empty() {
            let needs = cx.needs().await?;
            let own = server.get().and_then(|s| s.container.as_deref()).and_then(|id| needs.neighbours.get(id));
            for s in &mut stale {
                // `host:port`, or the URL of the service
                let host = Address::parse(&s.instance).host();
                let Some(exporter) = needs.neighbours.resolve(own, host).map(|m| m.container.id.clone()) else { continue };
                let dependencies = needs.list.iter().filter(|n| {
                    n.consumer.container.as_ref() == Some(&exporter) && matches!(n.how, DependencySource::Environment { .. })
                });
                s.containers.extend(dependencies.filter_map(|n| n.target.clone()));
                s.containers.push(exporter);
            }
        }
        Ok(Evidence { server, stale })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let finding = |s: &Stale| {
            let text =
                format!("{}: {} is up, but {} is 0: its service does not answer it", judged.target.name, s.instance, s.name);
            let mut f = e.server.finding(&STALE, Severity::Warn, judged.target, text).cite("job", &s.job);
            f.keys.clear();
            s.containers.iter().fold(f, |f, id| f.key(KeyKind::Container, id))
        };
        e.stale.iter().map(finding).collect::<Vec<_>>().into()
    }
}
