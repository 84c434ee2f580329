//! The celery runbook: queues, workers and beat, checked through the broker and the processes, without the application's code.

mod beats;
mod broker;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod queues;
mod rabbitmq;
mod redis;
mod workers;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.celery]`.
    pub struct Settings {
        /// Tasks waiting in one queue that are warn (awesome-prometheus-alerts: 1000).
        backlog_warn: u64 = 1000,
        /// The same for crit (judgement).
        backlog_crit: u64 = 10_000,
        /// Age in seconds of the oldest unacknowledged task that is warn while others wait and no queue shrinks (judgement).
        unacked_warn_s: u64 = 900,
        /// Seconds since beat wrote its schedule that are warn (judgement: 600).
        schedule_warn_s: u64 = 600,
    }
    limits {
        backlog: Count at_least(backlog_warn, backlog_crit),
    }
}

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("celery.no-consumer", "celery.backlog", KeyKind::Queue, "no worker consumes the queue"),
    Link::confirmed("celery.stalled", "celery.backlog", KeyKind::Queue, "no worker consumes the queue"),
    Link::confirmed(
        "celery.no-consumer",
        "celery.unacked-orphans",
        KeyKind::Server,
        "the worker disconnected while it was processing tasks",
    ),
    Link::confirmed("container.oom-killed", "celery.worker-oom", KeyKind::Container, "its container is at its memory limit"),
    Link::confirmed("memory.oom-kill", "celery.worker-oom", KeyKind::Container, "the host was out of memory"),
    Link::likely(
        "celery.worker-oom",
        "celery.stalled",
        KeyKind::Container,
        "its child processes are killed as fast as they take tasks",
    ),
    Link::confirmed("celery.no-consumer", "rabbitmq.queue", KeyKind::Queue, "it is a Celery queue, and no worker consumes it"),
    Link::confirmed("celery.stalled", "rabbitmq.queue", KeyKind::Queue, "it is a Celery queue, and its worker consumes nothing"),
    Link::confirmed("rabbitmq.queue", "celery.backlog", KeyKind::Queue, "no worker consumes the queue"),
    Link::likely(
        "rabbitmq.consumer-timeout",
        "celery.no-consumer",
        KeyKind::Server,
        "the broker closed the worker's channel, and the worker disconnected",
    ),
    Link::likely("redis.refused-clients", "celery.no-consumer", KeyKind::Server, "the broker rejects the worker's login"),
    Link::likely("celery.beat", "celery.backlog", KeyKind::Server, "two beats send every task twice"),
    Link::likely(
        "redis.restarted",
        "celery.stalled",
        KeyKind::Server,
        "workers with old kombu versions stop consuming after the broker restarts",
    ),
];

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "celery",
        about: "Celery from its broker's side: queues, consuming workers, beat",
        checks: vec![Box::new(queues::Queues { settings: settings.clone() }), Box::new(workers::Workers { settings })],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
