//! The celery runbook: are tasks taken and done? Seen from the broker and from the processes, without the application's code.

mod broker;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod queues;
mod rabbitmq;
mod redis;
mod workers;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.celery]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Tasks waiting in one queue that are warn (awesome-prometheus-alerts: 1000).
    pub backlog_warn: u64,
    /// The same for crit (judgement).
    pub backlog_crit: u64,
    /// Age in seconds of the oldest task under way that is warn while others wait and nothing moves (judgement).
    pub unacked_warn_s: u64,
    /// Seconds since beat wrote its schedule that are warn (catalogue: 600).
    pub schedule_warn_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { backlog_warn: 1000, backlog_crit: 10_000, unacked_warn_s: 900, schedule_warn_s: 600 }
    }
}

/// What may cause what (catalogue §18).
const LINKS: &[Link] = &[
    Link::confirmed("celery.no-consumer", "celery.backlog", KeyKind::Queue, "nobody takes what is sent"),
    Link::confirmed("celery.stalled", "celery.backlog", KeyKind::Queue, "nobody takes what is sent"),
    Link::confirmed(
        "celery.no-consumer",
        "celery.unacked-orphans",
        KeyKind::Server,
        "the worker went away in the middle of its work",
    ),
    Link::confirmed("container.down", "celery.no-consumer", KeyKind::Container, "the worker's container is down"),
    Link::confirmed(
        "container.restart-loop",
        "celery.no-consumer",
        KeyKind::Container,
        "the worker's container is restarted again and again",
    ),
    Link::confirmed(
        "container.start-failed",
        "celery.no-consumer",
        KeyKind::Container,
        "the worker's container could not be started",
    ),
    Link::confirmed("systemd.unit-failed", "celery.no-consumer", KeyKind::Unit, "the worker's unit failed"),
    Link::confirmed("container.paused", "celery.stalled", KeyKind::Container, "the worker's container is paused"),
    Link::confirmed("container.oom-killed", "celery.worker-oom", KeyKind::Container, "its container is at its memory limit"),
    Link::likely("celery.worker-oom", "celery.stalled", KeyKind::Container, "its children are killed as fast as they take tasks"),
    Link::confirmed("container.down", "celery.beat", KeyKind::Container, "its container is down"),
    Link::confirmed("redis.persistence", "celery.stalled", KeyKind::Writes, "the broker refuses writes"),
    Link::confirmed("redis.memory", "celery.stalled", KeyKind::Writes, "the broker refuses writes"),
    Link::confirmed("celery.no-consumer", "rabbitmq.queue", KeyKind::Queue, "it is Celery's, and no worker takes from it"),
    Link::confirmed("celery.stalled", "rabbitmq.queue", KeyKind::Queue, "it is Celery's, and its worker takes nothing"),
    Link::confirmed("rabbitmq.queue", "celery.backlog", KeyKind::Queue, "nobody takes what is sent"),
    Link::likely(
        "rabbitmq.consumer-timeout",
        "celery.no-consumer",
        KeyKind::Server,
        "the broker closed the worker's channel, and the worker went",
    ),
    Link::likely("redis.persistence", "celery.no-consumer", KeyKind::Writes, "a broker that refuses writes gives out no tasks"),
    Link::likely("celery.beat", "celery.backlog", KeyKind::Server, "what two beats send is sent twice"),
    Link::likely(
        "redis.restarted",
        "celery.stalled",
        KeyKind::Server,
        "workers of old kombu versions take no tasks after the broker was restarted",
    ),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "celery",
        about: "Celery from its broker's side: queues, workers that take tasks, beat",
        checks: vec![Box::new(queues::Queues { settings: settings.clone() }), Box::new(workers::Workers { settings })],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}
