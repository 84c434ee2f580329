//! What a broker knows of Celery, whatever it speaks.

use serde::{Deserialize, Serialize};

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) name: String,
    /// Tasks that wait, of all priorities.
    pub(super) depth: u64,
    /// The same a moment later, where it was looked at again.
    pub(super) later: Option<u64>,
    /// Tasks that wait at priorities other than the usual one.
    pub(super) prioritised: u64,
    /// Who takes from exactly this queue, where the broker tells.
    pub(super) consumers: Option<u64>,
    /// Names of tasks among those looked at, most frequent first.
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

/// A connection that takes tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Consumer {
    /// Its end: `10.0.0.3:40112`.
    pub(super) address: String,
    /// It waits for a task right now.
    pub(super) waits: bool,
    /// The broker has sent it something that its machine does not acknowledge.
    pub(super) dead: bool,
}

/// One database of Redis or one virtual host of RabbitMQ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    /// `db 1`, `/`.
    pub(super) name: String,
    pub(super) queues: Vec<Queue>,
    pub(super) consumers: Vec<Consumer>,
    /// Workers and the like that are connected and listen for events, whether they take tasks or not.
    pub(super) listening: usize,
    /// Their ends.
    pub(super) listeners: Vec<String>,
    /// Tasks that were taken and are not done.
    pub(super) unacked: u64,
    /// Age of the oldest of them that does not wait for its time, in seconds.
    pub(super) oldest_unacked_s: Option<u64>,
    /// Tasks taken that wait for a time later than the visibility timeout.
    pub(super) far: u64,
}
