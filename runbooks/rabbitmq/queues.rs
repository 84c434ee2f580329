//! Queue state, backlog and consumers.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Product, Severity, quantity::count_of,
};
use opsctl_core::probe::servers::rabbitmq::{Facts, Queue};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, facts};
use crate::shared::servers::Server;

const QUEUE: Code = Code {
    id: "rabbitmq.queue",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a queue is down or has lost its majority (crit); {queue_warn} messages are ready or unacknowledged, or messages are ready and the queue has no consumer (warn; info if the name is that of a dead-letter queue); the messages of streams are not counted",
    hint: "check its consumers: too few, too slow, or they do not acknowledge",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.queues",
    title: "RabbitMQ queues are consumed",
    codes: &[QUEUE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Queues {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    facts: Facts,
}

impl Check for Queues {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Rabbitmq)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let facts =
            facts(cx, target).await?.map_err(|_| ProbeError::Skip("its queues cannot be read: see rabbitmq.node".to_owned()))?;
        let queues = facts.queues.iter().filter(|q| self.severity(q).is_some()).cloned().collect();
        // queues without a finding are not stored
        Ok(Evidence {
            server: Server::of(cx, target)?,
            facts: Facts { queues, source: facts.source.clone(), queue_gaps: facts.queue_gaps.clone(), ..Facts::default() },
        })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let server = e.server.get().map(|s| s.id.clone()).unwrap_or_default();
        let finding = |q: &Queue| {
            let (severity, why) = self.severity(q)?;
            let subject = Object::new(Kind::Queue, q.name.clone(), format!("{server}/{}/{}", q.vhost, q.name));
            let vhost = if q.vhost == "/" { String::new() } else { format!(" in {}", q.vhost) };
            let finding = Finding::new(&QUEUE, severity, subject, format!("{}{vhost}: {why}", q.name))
                .key(KeyKind::Server, server.clone())
                .key(KeyKind::Queue, format!("{server}/vhost {}/{}", q.vhost, q.name))
                .cite("broker", &judged.target.name)
                .cite_opt("consumers", q.consumers.map(|n| n.to_string()));
            Some(finding)
        };
        let findings = e.facts.queues.iter().filter_map(finding).collect();
        Judgement { findings, gaps: e.facts.queue_gaps.clone(), ..Judgement::default() }
    }
}

impl Queues {
    fn severity(&self, q: &Queue) -> Option<(Severity, String)> {
        let limit = self.settings.queue_warn;
        let aside = ["dead", "dlq", "dlx", "error", "failed", "parking"].iter().any(|w| q.name.to_lowercase().contains(w));
        if matches!(q.state.as_str(), "down" | "minority" | "stopped" | "crashed") {
            return Some((Severity::Crit, format!("it is {}: messages can neither be published nor consumed", q.state)));
        }
        // a stream keeps consumed messages until its retention ends
        if q.is_stream() {
            return None;
        }
        if q.consumers == Some(0) && q.ready > 0 {
            let severity = if aside { Severity::Info } else { Severity::Warn };
            return Some((severity, format!("{} wait and the queue has no consumer", count_of(q.ready))));
        }
        if q.ready > limit {
            return Some((Severity::Warn, format!("{} messages wait, limit {}", count_of(q.ready), count_of(limit))));
        }
        (q.unacked > limit).then(|| {
            (Severity::Warn, format!("{} messages are not acknowledged, limit {}", count_of(q.unacked), count_of(limit)))
        })
    }
}
