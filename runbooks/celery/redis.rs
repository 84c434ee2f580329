//! A Redis broker in the layout of kombu (kombu/transport/redis.py): a queue is a LIST, every
//! priority but the first a LIST of its own;
//! unacknowledged messages are in the HASH `unacked`, with their delivery times in the ZSET `unacked_index`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use opsctl_core::model::Object;
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::servers::celery::connections;
use opsctl_core::probe::servers::redis::{RedisCommandError, Session};

use super::broker::{BrokerAddress, Consumer, Queue};
use crate::shared::broker_keys::BrokerKeys;
use crate::shared::servers::Server;

/// Separator of the parts of a queue's key or a binding.
const SEPARATOR: &str = "\x06\x16";

/// The highest priority; an application may use any steps between 0 and 9.
const MAX_PRIORITY: u8 = 9;

/// Last index of the `LRANGE` at the head of a queue: 50 messages from each end are sampled.
const SAMPLE_END: &str = "49";

/// Last index of the `ZRANGE` over unacknowledged tasks: 20 are enough to find one without a pending ETA.
const UNACKED_END: &str = "19";

/// kombu's default, in seconds; the broker does not store the value that an application sets.
pub(super) const VISIBILITY_TIMEOUT: u64 = 3600;

/// Reads every database with keys of Celery.
pub(super) async fn read(
    cx: &ProbeCx,
    target: &Object,
    session: &Session,
    keys: &BrokerKeys,
) -> Result<Vec<BrokerAddress>, RedisCommandError> {
    let clients = session.text(&["CLIENT", "LIST"]).await?;
    let pid = Server::of(cx, target).ok().and_then(|s| s.get().and_then(|s| s.process)).map(|p| p.pid);
    let connections = match pid {
        Some(pid) => connections(pid).await,
        None => Vec::new(),
    };
    let dead = |address: &str| connections.iter().any(|c| c.remote.to_string() == address && c.is_stuck());
    let mut brokers = Vec::new();
    for (database, prefix) in &keys.celery {
        let mut broker = read_database(session, *database, prefix).await?;
        for client in clients.lines().map(crate::redis::client).filter(|c| c.get("db") == Some(&database.to_string().as_str())) {
            let address = client.get("addr").copied().unwrap_or_default().to_owned();
            if client.get("cmd") == Some(&"brpop") {
                let waits = client.get("flags").is_some_and(|f| f.contains('b'));
                broker.consumers.push(Consumer { dead: dead(&address), waits, address });
            } else if client.get("psub").is_some_and(|n| *n != "0") {
                broker.listening += 1;
                broker.listeners.push(address);
            } else {
                broker.listeners.push(address);
            }
        }
        brokers.push(broker);
    }
    Ok(brokers)
}

async fn read_database(session: &Session, database: u32, prefix: &str) -> Result<BrokerAddress, RedisCommandError> {
    let names = queue_names(session, database, prefix).await?;
    let mut broker = BrokerAddress { name: format!("db {database}"), ..BrokerAddress::default() };
    for name in names {
        let keys: Vec<String> = keys_of(prefix, &name);
        let commands = keys.iter().map(|k| vec![b"LLEN".as_slice(), k.as_bytes()]).collect::<Vec<_>>();
        let lengths: Vec<Option<u64>> = session.query_in(database, &commands).await?;
        let lengths: Vec<u64> = lengths.into_iter().map(Option::unwrap_or_default).collect();
        let depth: u64 = lengths.iter().sum();
        let mut queue = Queue { name, depth, prioritised: lengths.iter().skip(1).sum(), ..Queue::default() };
        if depth > 0 {
            let full = keys.iter().zip(&lengths).filter(|(_, n)| **n > 0).map(|(k, _)| k.as_bytes());
            let ends = full.flat_map(|k| {
                [vec![b"LRANGE".as_slice(), k, b"0", SAMPLE_END.as_bytes()], vec![b"LRANGE".as_slice(), k, b"-50", b"-1"]]
            });
            let ends: Vec<Option<Vec<Vec<u8>>>> = session.query_in(database, &ends.collect::<Vec<_>>()).await?;
            // in a short queue both ends are the same messages
            let bodies: BTreeSet<Vec<u8>> = ends.into_iter().flatten().flatten().collect();
            queue.tasks = names_of(bodies.iter().filter_map(|b| task(b)).map(|t| t.name));
        }
        broker.queues.push(queue);
    }
    unacked(session, database, prefix, &mut broker).await?;
    Ok(broker)
}

fn keys_of(prefix: &str, queue: &str) -> Vec<String> {
    let first = format!("{prefix}{queue}");
    let others = (1..=MAX_PRIORITY).map(|p| format!("{prefix}{queue}{SEPARATOR}{p}"));
    std::iter::once(first.clone()).chain(others).collect()
}

/// The queues that exchanges are bound to, and the default one.
async fn queue_names(session: &Session, database: u32, prefix: &str) -> Result<BTreeSet<String>, RedisCommandError> {
    let mut names = BTreeSet::from(["celery".to_owned()]);
    let mut cursor = "0".to_owned();
    let pattern = format!("{prefix}_kombu.binding.*");
    for _ in 0..20 {
        let scan = vec![b"SCAN".as_slice(), cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", b"1000"];
        let replies: Vec<Option<(String, Vec<Vec<u8>>)>> = session.query_in(database, &[scan]).await?;
        let Some((next, bindings)) = replies.into_iter().next().flatten() else { break };
        let members = bindings.iter().map(|b| vec![b"SMEMBERS".as_slice(), b.as_slice()]).collect::<Vec<_>>();
        let members: Vec<Option<Vec<Vec<u8>>>> =
            if members.is_empty() { Vec::new() } else { session.query_in(database, &members).await? };
        names.extend(members.into_iter().flatten().flatten().filter_map(|m| bound_queue(&String::from_utf8_lossy(&m))));
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    Ok(names)
}

/// The queue of `routing key SEP pattern SEP queue`; `None` for Celery's internal queues.
pub(super) fn bound_queue(member: &str) -> Option<String> {
    let queue = member.rsplit(SEPARATOR).next()?;
    let own = queue.ends_with(".pidbox") || queue.starts_with("celeryev") || queue.is_empty();
    (!own).then(|| queue.to_owned())
}

async fn unacked(session: &Session, database: u32, prefix: &str, broker: &mut BrokerAddress) -> Result<(), RedisCommandError> {
    let (hash, index) = (format!("{prefix}unacked"), format!("{prefix}unacked_index"));
    let count: Vec<Option<u64>> = session.query_in(database, &[vec![b"HLEN", hash.as_bytes()]]).await?;
    broker.unacked = count.into_iter().next().flatten().unwrap_or(0);
    if broker.unacked == 0 {
        return Ok(());
    }
    let oldest: Vec<Option<Vec<Vec<u8>>>> =
        session.query_in(database, &[vec![b"ZRANGE", index.as_bytes(), b"0", UNACKED_END.as_bytes(), b"WITHSCORES"]]).await?;
    let oldest = oldest.into_iter().next().flatten().unwrap_or_default();
    let score = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|s| s.is_finite());
    let tags: Vec<(&Vec<u8>, f64)> = oldest.chunks_exact(2).filter_map(|p| Some((&p[0], score(&p[1])?))).collect();
    let commands = tags.iter().map(|(tag, _)| vec![b"HGET".as_slice(), hash.as_bytes(), tag.as_slice()]).collect::<Vec<_>>();
    let bodies: Vec<Option<Vec<u8>>> =
        if commands.is_empty() { Vec::new() } else { session.query_in(database, &commands).await? };
    let now = clock::now();
    for ((_, delivered_at), body) in tags.iter().zip(bodies) {
        let age = (now.as_second() as f64 - delivered_at).max(0.0);
        let eta = body.as_deref().and_then(task).and_then(|t| t.eta);
        match eta {
            Some(eta) if eta > now => {
                // measured from the delivery: that is when the timeout began
                if eta.as_second() as f64 - delivered_at > VISIBILITY_TIMEOUT as f64 {
                    broker.far += 1;
                }
            }
            // its ETA has passed only now: until then it waited by design
            Some(eta) => {
                broker.oldest_unacked_s =
                    broker.oldest_unacked_s.max(Some(seconds(age.min((now.as_second() - eta.as_second()) as f64))));
            }
            None => broker.oldest_unacked_s = broker.oldest_unacked_s.max(Some(seconds(age))),
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an age of at least zero; the cast saturates")]
fn seconds(age: f64) -> u64 {
    age as u64
}

/// The headers of a message of Celery's protocol 2.
#[derive(Debug, PartialEq)]
pub(super) struct Task {
    name: String,
    eta: Option<Timestamp>,
}

/// Parses a message in a queue, or the list `[body, exchange, routing key]` in `unacked`.
pub(super) fn task(body: &[u8]) -> Option<Task> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = if value.is_array() { value.get(0)? } else { &value };
    let headers = message.get("headers")?;
    let name = headers.get("task")?.as_str()?.chars().take(120).collect();
    let eta = headers.get("eta").and_then(|e| e.as_str()).and_then(|e| e.parse().ok());
    Some(Task { name, eta })
}

/// The most frequent names, with their counts.
fn names_of(tasks: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in tasks {
        *counts.entry(name).or_default() += 1;
    }
    let mut names: Vec<(String, usize)> = counts.into_iter().collect();
    names.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    names.truncate(3);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_of_messages() {
        opsctl_core::corpus::check("celery-message", 6, |text| {
            let shown = |t: Task| format!("{} {}", t.name, t.eta.map(|eta| eta.to_string()).unwrap_or_default());
            vec![("task", task(text.as_bytes()).map(shown).unwrap_or_default())]
        });
    }

    #[test]
    fn internal_queues_are_not_bound_queues() {
        let member = |queue: &str| format!("key{SEPARATOR}{SEPARATOR}{queue}");
        assert_eq!(bound_queue(&member("mail")).as_deref(), Some("mail"));
        assert_eq!(bound_queue(&member("celery@web.celery.pidbox")), None);
        assert_eq!(bound_queue(&member("celeryev.5c0e")), None);
        assert_eq!(bound_queue(&member("a.reply.celery.pidbox")), None);
        assert_eq!(bound_queue("plain").as_deref(), Some("plain"));
    }

    #[test]
    fn message_headers_give_task_and_eta() {
        let body = br#"{"body":"W10=","headers":{"task":"tasks.nap","eta":"2026-11-21T11:49:33.631650+00:00"}}"#;
        let eta = "2026-11-21T11:49:33.631650Z".parse().ok();
        assert_eq!(task(body), Some(Task { name: "tasks.nap".into(), eta }));
        let message = [b"[".as_slice(), body, br#","","celery"]"#].concat();
        assert_eq!(task(&message).map(|t| t.name).as_deref(), Some("tasks.nap"));
        assert_eq!((task(b"not json"), task(b"{}"), task(b"[]")), (None, None, None));
    }
}
