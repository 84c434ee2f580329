//! Local ports for outgoing connections, on this host and in each container.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Kind, Object, Product, Severity, has_own_network,
};
use opsctl_core::probe::network::ephemeral::{Ephemeral, busy, ephemeral};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;

const PORTS: Code = Code {
    id: "network.ephemeral-ports",
    severities: &[Severity::Warn, Severity::Crit],
    when: "connections from one address to one peer use {ephemeral_warn_percent} (warn) or {ephemeral_crit_percent} (crit) of the local ports (net.ipv4.ip_local_port_range), including TIME_WAIT: then a connection fails with EADDRNOTAVAIL (99: Cannot assign requested address)",
    hint: "reuse connections (keepalive to upstreams, connection pools); net.ipv4.tcp_tw_reuse = 1 and a wider net.ipv4.ip_local_port_range give more ports",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.ephemeral-ports",
    title: "Local ports for outgoing connections are available",
    codes: &[PORTS],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct EphemeralPorts {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// The busiest peer of each namespace with many sockets.
    busiest: Vec<Busiest>,
    gaps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Busiest {
    /// Its container; `None` for this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<Object>,
    usage: Ephemeral,
    /// Ids of the nginx servers in the namespace, which log the error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nginx: Vec<String>,
}

impl Check for EphemeralPorts {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut namespaces: Vec<(Option<i32>, Option<Object>)> = Vec::new();
        for c in cx.inspected(cx.inventory.running().filter(|c| has_own_network(&c.network_mode))).await {
            // a process that is not known has a finding of its own
            if let Ok(pid) = c.process() {
                namespaces.push((Some(pid), Some(Object::new(Kind::Container, c.name.clone(), c.id.clone()))));
            }
        }
        let found = busy(namespaces.iter().filter_map(|(pid, _)| *pid).collect()).await?;
        namespaces.retain(|(pid, _)| pid.is_some_and(|pid| found.contains(&pid)));
        namespaces.push((None, None));
        let read = join_all(namespaces.iter().map(|(pid, _)| ephemeral(*pid))).await;
        let mut e = Evidence::default();
        for ((_, container), usage) in namespaces.into_iter().zip(read) {
            match usage {
                Ok(Some(usage)) => {
                    let id = container.as_ref().map(|c| c.id.as_str());
                    let own = cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx && s.container.as_deref() == id);
                    let nginx = own.map(|s| s.object().id).collect();
                    e.busiest.push(Busiest { container, usage, nginx });
                }
                Ok(None) | Err(ProbeError::Skip(_)) => {}
                Err(why) if e.gaps.is_empty() => e.gaps.push(why.to_string()),
                Err(_) => {}
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = e.busiest.iter().filter_map(|b| self.finding(b)).collect();
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

impl EphemeralPorts {
    fn finding(&self, busiest: &Busiest) -> Option<Finding> {
        let Busiest { container, usage, nginx } = busiest;
        let percent = f64::from(usage.used()) * 100.0 / f64::from(usage.ports.max(1));
        let (severity, limit) = self.settings.ephemeral().exceeded(percent)?;
        let name = container.as_ref().map_or("this host", |c| c.name.as_str());
        let message = format!(
            "{name} uses {} of {} local ports for connections to {} ({percent:.0} %), limit {limit} %",
            usage.used(),
            usage.ports,
            usage.peer
        );
        let subject = match container {
            Some(container) => container.clone(),
            None => Object::new(Kind::Host, "host", format!("host@{}", usage.peer)),
        };
        let mut finding = Finding::new(&PORTS, severity, subject, message)
            .cite("open", usage.open.to_string())
            .cite("TIME_WAIT", usage.time_wait.to_string())
            .cite("net.ipv4.ip_local_port_range", format!("{} {}", usage.range.0, usage.range.1));
        for id in nginx {
            finding = finding.key(KeyKind::ErrorLog, format!("{id}:ports-exhausted"));
        }
        Some(finding)
    }
}
