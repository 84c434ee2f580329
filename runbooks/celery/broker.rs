//! The state of Celery in a broker, independent of the broker's protocol.

use serde::{Deserialize, Serialize};

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) name: String,
    /// Tasks that wait, of all priorities.
    pub(super) depth: u64,
    /// The depth at the second sample, if one was taken.
    pub(super) later: Option<u64>,
    /// Tasks that wait at a priority other than the default.
    pub(super) prioritised: u64,
    /// Number of consumers of this queue, if the broker reports it.
    pub(super) consumers: Option<u64>,
    /// Task names in the sampled messages, most frequent first.
    pub(super) tasks: Vec<(String, usize)>,
}

impl Queue {
    pub(super) fn now(&self) -> u64 {
        self.later.unwrap_or(self.depth)
    }

    pub(super) fn falls(&self) -> bool {
        self.later.is_some_and(|l| l < self.depth)
    }
}

/// A connection that consumes tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Consumer {
    /// Client address: `10.0.0.3:40112`.
    pub(super) address: String,
    /// The connection is blocked waiting for a task.
    pub(super) waits: bool,
    /// The broker has sent packets that the client's host does not acknowledge.
    pub(super) dead: bool,
}

/// One database of Redis or one virtual host of RabbitMQ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct BrokerAddress {
    /// `db 1`, `/`.
    pub(super) name: String,
    pub(super) queues: Vec<Queue>,
    pub(super) consumers: Vec<Consumer>,
    /// Connected workers and monitors that subscribe to events, consuming or not.
    pub(super) listening: usize,
    /// Their client addresses.
    pub(super) listeners: Vec<String>,
    /// Delivered tasks that are not acknowledged.
    pub(super) unacked: u64,
    /// Age in seconds of the oldest of them without a pending ETA.
    pub(super) oldest_unacked_s: Option<u64>,
    /// Delivered tasks with an ETA beyond the visibility timeout.
    pub(super) far: u64,
}
