//! The rabbitmq runbook: availability, alarms and blocked publishers, queues, and acknowledgement timeouts.

mod data;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod log;
mod node;
mod queues;
mod refused;
mod up;

use std::sync::Arc;

use opsctl_core::model::{KeyKind, Link, Object, Runbook};
use opsctl_core::probe::servers::rabbitmq::{Facts, FactsError};
use opsctl_core::probe::{ProbeCx, ProbeError};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.rabbitmq]`.
    pub struct Settings {
        /// Ready or unacknowledged messages in a queue that are warn (awesome-prometheus-alerts: 1000).
        queue_warn: u64 = 1000,
        /// Share of file descriptors or sockets in percent that is warn (awesome-prometheus-alerts: 90).
        descriptors_warn_percent: f64 = 90.0,
    }
}

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("disk.space", "rabbitmq.alarms", KeyKind::Filesystem, "the filesystem of its data is full"),
    Link::confirmed("rabbitmq.queue", "rabbitmq.alarms", KeyKind::Server, "unconsumed messages fill it"),
];

/// The state that the node reports; without a session the check is skipped.
async fn facts(cx: &ProbeCx, target: &Object) -> Result<Result<Arc<Facts>, FactsError>, ProbeError> {
    let session = cx.rabbitmq(target).await?.map_err(|why| why.skip("rabbitmq.up"))?;
    Ok(session.facts(cx.servers().known(target)?, cx).await)
}

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "rabbitmq",
        about: "RabbitMQ: alarms that block publishers, queues without consumers, partitions",
        checks: vec![
            Box::new(up::Up),
            Box::new(node::NodeCheck { settings: settings.clone() }),
            Box::new(queues::Queues { settings }),
            Box::new(log::Log),
            Box::new(refused::RefusedClients),
            Box::new(data::Data),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
