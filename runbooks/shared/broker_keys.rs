//! Detects the task queues that use a Redis as their broker, by the keys they create.

use std::collections::BTreeSet;
use std::fmt;

use opsctl_core::probe::servers::redis::{RedisCommandError, Session};
use serde::{Deserialize, Serialize};

/// Limit of keys scanned per database; a queue beyond it is detected by its worker's subscription.
const MAX_KEYS_PER_DATABASE: usize = 20_000;

/// `COUNT` of one `SCAN`: small enough not to block the server.
const SCAN_COUNT: usize = 1000;

/// Task queues found, by application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerKeys {
    /// Databases in which Celery (kombu) has bindings, with the prefix of all its keys.
    pub(crate) celery: BTreeSet<(u32, String)>,
    /// RQ, Bull and the like.
    pub(crate) others: BTreeSet<String>,
}

impl BrokerKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.celery.is_empty() && self.others.is_empty()
    }
}

impl fmt::Display for BrokerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let celery = (!self.celery.is_empty()).then(|| "Celery".to_owned());
        let names: Vec<String> = celery.into_iter().chain(self.others.iter().cloned()).collect();
        f.write_str(&names.join(" and "))
    }
}

/// Scans a bounded part of every database and lists the subscribed mailbox channels.
pub(crate) async fn find(session: &Session) -> Result<BrokerKeys, RedisCommandError> {
    let mut found = BrokerKeys::default();
    // a worker subscribes to its mailbox: /0.celery.pidbox, with the number of its database in front
    let channels: Vec<Vec<u8>> = session.query(&["PUBSUB", "CHANNELS", "*.pidbox"]).await.unwrap_or_default();
    for channel in channels {
        if let Some(keyspace) = mailbox(&String::from_utf8_lossy(&channel)) {
            found.celery.insert(keyspace);
        }
    }
    let info = session.info().await?;
    let databases: Vec<u32> = info.keys().filter_map(|k| k.strip_prefix("db")?.parse().ok()).collect();
    for database in databases {
        let mut cursor = "0".to_owned();
        for _ in 0..MAX_KEYS_PER_DATABASE / SCAN_COUNT {
            let batch = SCAN_COUNT.to_string();
            let command = vec![b"SCAN".as_slice(), cursor.as_bytes(), b"COUNT", batch.as_bytes()];
            let replies: Vec<Option<(String, Vec<Vec<u8>>)>> = session.query_in(database, &[command]).await?;
            let Some((next, keys)) = replies.into_iter().next().flatten() else { break };
            for key in keys {
                classify(&String::from_utf8_lossy(&key), database, &mut found);
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(found)
}

/// `prefix/0.celery.pidbox` is a mailbox of database 0.
pub(crate) fn mailbox(channel: &str) -> Option<(u32, String)> {
    let (prefix, rest) = channel.split_once('/')?;
    let (database, _) = rest.split_once('.')?;
    Some((database.parse().ok()?, prefix.to_owned()))
}

pub(crate) fn classify(key: &str, database: u32, found: &mut BrokerKeys) {
    if let Some((prefix, _)) = key.split_once("_kombu.binding.") {
        found.celery.insert((database, prefix.to_owned()));
    } else if matches!(key, "celery" | "unacked") || key.starts_with("celery\x06\x16") {
        // the default queue, also when its binding was deleted
        found.celery.insert((database, String::new()));
    } else if key == "rq:queues" {
        found.others.insert("RQ".to_owned());
    } else if key.starts_with("bull:") && key.ends_with(":meta") {
        found.others.insert("BullMQ".to_owned());
    } else if key.starts_with("queue:") && key.len() > 6 {
        found.others.insert("Sidekiq".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_detected_by_their_keys() {
        let mut found = BrokerKeys::default();
        for key in ["_kombu.binding.celery", "p:_kombu.binding.celery.pidbox", "rq:queues", "bull:mail:meta", "session:1"] {
            classify(key, 2, &mut found);
        }
        classify("celery\x06\x163", 5, &mut found);
        assert_eq!(found.celery.iter().map(|(d, p)| format!("{d}{p}")).collect::<Vec<_>>(), ["2", "2p:", "5"]);
        assert_eq!(found.to_string(), "Celery and BullMQ and RQ");
        assert_eq!(mailbox("/3.celery.pidbox"), Some((3, String::new())));
        assert_eq!((mailbox("x"), mailbox("p:/x.y")), (None, None));
    }
}
