//! A RabbitMQ broker, which reports the consumers of every queue.

use std::collections::BTreeMap;

use opsctl_core::probe::servers::rabbitmq::Facts;

use super::broker::{BrokerAddress, Queue};

/// The virtual hosts used by Celery: those with worker mailboxes and event queues.
pub(super) fn brokers(facts: &Facts) -> Vec<BrokerAddress> {
    let own = |name: &str| name.ends_with(".pidbox") || name.starts_with("celeryev");
    let mut brokers: BTreeMap<&str, BrokerAddress> = BTreeMap::new();
    for queue in facts.queues.iter().filter(|q| own(&q.name) || q.name == "celery") {
        let broker = brokers.entry(&queue.vhost).or_default();
        broker.name = format!("vhost {}", queue.vhost);
        broker.listeners.clone_from(&facts.clients);
        if queue.name.ends_with(".pidbox") && queue.consumers.is_some_and(|n| n > 0) {
            broker.listening += 1;
        }
    }
    for queue in facts.queues.iter().filter(|q| !own(&q.name)) {
        if let Some(broker) = brokers.get_mut(queue.vhost.as_str()) {
            broker.unacked += queue.unacked;
            broker.queues.push(Queue {
                name: queue.name.clone(),
                depth: queue.ready,
                // a number that is not reported is not a missing consumer
                consumers: Some(queue.consumers.unwrap_or(1)),
                ..Queue::default()
            });
        }
    }
    brokers.into_values().collect()
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::servers::rabbitmq;

    use super::*;

    #[test]
    fn vhosts_without_celery_queues_are_ignored() {
        let queue = |vhost: &str, name: &str, ready| rabbitmq::Queue {
            name: name.into(),
            vhost: vhost.into(),
            ready,
            consumers: Some(1),
            ..rabbitmq::Queue::default()
        };
        let facts = Facts {
            queues: vec![queue("/", "celery", 3), queue("/", "celery@web.celery.pidbox", 0), queue("other", "orders", 9)],
            ..Facts::default()
        };
        let brokers = brokers(&facts);
        assert_eq!((brokers.len(), brokers[0].queues.len(), brokers[0].listening), (1, 1, 1));
        assert_eq!(brokers[0].queues[0].depth, 3);
    }
}
