//! Beats of one application that send to the same queues.
//!
//! Several stacks may share a broker: in databases of their own (`redis://cache/1` and `/2`), in virtual hosts of their own, or
//! with prefixes of their own (`global_keyprefix`). Each has its beat, and the applications have common names (`config`, `app`).

use std::collections::BTreeMap;

use opsctl_core::model::address::Address;
use opsctl_core::model::{ContainerRef, Inventory, Object, Product, ServerRef};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::servers::celery::Process;
use serde::{Deserialize, Serialize};

use super::workers::host_of;
use crate::shared::broker_keys;

/// Limit of Redis servers with a read of their clients (judgement).
const MAX_BROKERS: usize = 16;

/// The broker of a beat, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Keyspace {
    /// Id of the server.
    pub(super) server: Option<String>,
    /// The database of its connection, according to the server.
    database: Option<u32>,
    /// Compose project of its container.
    project: Option<String>,
    /// Prefixes of keys of Celery in that database; more than one is more than one stack.
    prefixes: usize,
}

/// Whether two beats send to the same queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Other queues, or not known to be the same.
    No,
    /// The same server; the database is not known.
    Likely,
    /// The same server and database or virtual host.
    Same,
}

/// Beats of applications that run more than one; only these are compared.
fn rivals(processes: &[Process]) -> Vec<&Process> {
    let beats = || processes.iter().filter(|p| p.role.beats() && p.app.is_some());
    beats().filter(|p| beats().any(|other| other.pid != p.pid && other.app == p.app)).collect()
}

/// The brokers of the beats, by pid. No server is queried unless an application has two beats.
pub(super) async fn keyspaces(cx: &ProbeCx, processes: &[Process]) -> BTreeMap<i32, Keyspace> {
    let mut found = BTreeMap::new();
    for beat in processes.iter().filter(|p| p.role.beats()) {
        let project = container(&cx.inventory, beat).and_then(|c| c.project.clone());
        let server = named_server(&cx.inventory, beat).map(|s| s.id.clone());
        found.insert(beat.pid, Keyspace { server, project, ..Keyspace::default() });
    }
    let rivals = rivals(processes);
    if rivals.is_empty() {
        return found;
    }
    for server in cx.inventory.servers.iter().filter(|s| s.product == Product::Redis).take(MAX_BROKERS) {
        let target = Object::new(Product::Redis.kind(), server.name.clone(), server.id.clone());
        let Ok(Ok(session)) = cx.redis(&target).await else { continue };
        let Ok(clients) = session.text(&["CLIENT", "LIST"]).await else { continue };
        let databases = databases(&clients);
        let mut connected = false;
        for beat in &rivals {
            let database = beat.connections.iter().find_map(|c| databases.get(&c.local.to_string()));
            if let (Some(database), Some(keyspace)) = (database, found.get_mut(&beat.pid)) {
                (keyspace.server, keyspace.database) = (Some(server.id.clone()), Some(*database));
            }
            connected |= found.get(&beat.pid).is_some_and(|k| k.server.as_ref() == Some(&server.id));
        }
        if connected && let Ok(keys) = broker_keys::find(&session).await {
            for beat in &rivals {
                let Some(keyspace) = found.get_mut(&beat.pid).filter(|k| k.server.as_ref() == Some(&server.id)) else { continue };
                let database = keyspace.database.or_else(|| database_of(beat)?.parse().ok());
                keyspace.prefixes = keys.celery.iter().filter(|(of, _)| database.is_none_or(|d| d == *of)).count();
            }
        }
    }
    found
}

/// Databases of connections by the address of the client.
fn databases(clients: &str) -> BTreeMap<String, u32> {
    let client = |line: &str| {
        let fields = crate::redis::client(line);
        Some(((*fields.get("addr")?).to_owned(), fields.get("db")?.parse().ok()?))
    };
    clients.lines().filter_map(client).collect()
}

fn container<'a>(inventory: &'a Inventory, process: &Process) -> Option<&'a ContainerRef> {
    match &process.home {
        Home::Container(id) => inventory.container(id),
        Home::Unit(_) | Home::Host => None,
    }
}

/// The server that the broker's host name means: a container with this name, or the service of this name in the same project. A
/// name that several projects use means none for a beat outside of them.
fn named_server<'a>(inventory: &'a Inventory, beat: &Process) -> Option<&'a ServerRef> {
    let host = host_of(beat.broker.as_deref()?)?;
    let own = container(inventory, beat)?;
    let services: Vec<&ContainerRef> = inventory.containers.iter().filter(|c| c.service.as_deref() == Some(host)).collect();
    let of_project = services.iter().find(|c| c.project.is_some() && c.project == own.project);
    let by_name = || inventory.containers.iter().find(|c| c.name.eq_ignore_ascii_case(host));
    let only = || services.first().filter(|_| services.len() == 1).copied();
    let broker = of_project.copied().or_else(by_name).or_else(only)?;
    inventory.servers.iter().find(|s| s.container.as_ref() == Some(&broker.id))
}

/// The database of `redis://cache:6379/1`, or the virtual host of `amqp://broker/shop`.
fn database_of(beat: &Process) -> Option<String> {
    let address = Address::parse(beat.broker.as_deref()?);
    let path = address.path().replace("%2F", "/").replace("%2f", "/").trim_matches('/').to_owned();
    let is_redis = address.scheme?.starts_with("redis") || address.scheme?.starts_with("valkey");
    Some(if path.is_empty() && is_redis { "0".to_owned() } else { path })
}

/// Whether two beats of one application send each task twice.
pub(super) fn sharing(a: &Process, b: &Process, keyspaces: &BTreeMap<i32, Keyspace>) -> Sharing {
    if a.app.is_none() || a.app != b.app {
        return Sharing::No;
    }
    // redbeat holds a lock in Redis: its second instance is a standby
    if [a, b].iter().any(|p| p.scheduler.as_deref().is_some_and(|s| s.to_lowercase().contains("redbeat"))) {
        return Sharing::No;
    }
    let unknown = Keyspace::default();
    let (of_a, of_b) = (keyspaces.get(&a.pid).unwrap_or(&unknown), keyspaces.get(&b.pid).unwrap_or(&unknown));
    let database = |p: &Process, k: &Keyspace| k.database.map(|d| d.to_string()).or_else(|| database_of(p));
    let databases = (database(a, of_a), database(b, of_b));
    if matches!(&databases, (Some(one), Some(other)) if one != other) {
        return Sharing::No;
    }
    let stacks_differ = of_a.project != of_b.project;
    let same_server = match (&of_a.server, &of_b.server) {
        (Some(one), Some(other)) if one != other => return Sharing::No,
        (Some(_), Some(_)) => true,
        // one name means a server of each project
        _ => shares_a_connection(a, b) || (a.broker.is_some() && a.broker == b.broker && !stacks_differ),
    };
    let several_prefixes = of_a.prefixes > 1 && a.home != b.home;
    if !same_server || several_prefixes {
        return Sharing::No;
    }
    match databases {
        (Some(_), Some(_)) => Sharing::Same,
        _ if stacks_differ => Sharing::No,
        _ => Sharing::Likely,
    }
}

/// A connection to the same address; a loopback address is another one in each container.
fn shares_a_connection(a: &Process, b: &Process) -> bool {
    let is_inside = |p: &Process| matches!(p.home, Home::Container(_));
    let comparable =
        |remote: &std::net::SocketAddr| !remote.ip().is_loopback() || a.home == b.home || !(is_inside(a) || is_inside(b));
    a.connections.iter().any(|c| comparable(&c.remote) && b.connections.iter().any(|d| c.remote == d.remote))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::CeleryRole;
    use opsctl_core::probe::servers::celery::Connection;

    use super::*;

    fn beat(pid: i32, broker: Option<&str>, remote: &str) -> Process {
        let local = format!("10.0.0.3:{}", 40_000 + pid).parse().unwrap();
        let remote = remote.parse().unwrap();
        Process {
            pid,
            start_ticks: 1,
            role: CeleryRole::Beat,
            app: Some("config".into()),
            queues: vec![],
            state: 'S',
            children: 0,
            home: Home::Container(format!("{pid}")),
            connections: vec![Connection { local, remote, unacknowledged: 0, retransmits: 0, lasting: false }],
            broker: broker.map(str::to_owned),
            scheduler: None,
            versions: None,
            schedule_age_s: None,
        }
    }

    const REDIS: &str = "172.18.0.2:6379";

    fn of(a: &Process, b: &Process, known: &[(i32, Keyspace)]) -> Sharing {
        sharing(a, b, &known.iter().cloned().collect())
    }

    #[test]
    fn stacks_in_databases_of_their_own() {
        let named = |pid, url| beat(pid, Some(url), REDIS);
        assert_eq!(of(&named(1, "redis://cache:6379/1"), &named(2, "redis://cache:6379/2"), &[]), Sharing::No);
        assert_eq!(of(&named(1, "redis://cache"), &named(2, "redis://172.18.0.2:6379/0"), &[]), Sharing::Same);
        assert_eq!(of(&named(1, "amqp://broker//"), &named(2, "amqp://broker/shop"), &[]), Sharing::No);
        assert_eq!(of(&named(1, "amqp://broker//"), &named(2, "amqp://broker"), &[]), Sharing::Same);
        // the database is set in the code: the server knows it
        let at = |database| Keyspace { server: Some("redis:a".into()), database: Some(database), ..Keyspace::default() };
        let (one, two) = (beat(1, None, REDIS), beat(2, None, REDIS));
        assert_eq!(of(&one, &two, &[(1, at(1)), (2, at(2))]), Sharing::No);
        assert_eq!(of(&one, &two, &[(1, at(1)), (2, at(1))]), Sharing::Same);
        assert_eq!(of(&one, &two, &[]), Sharing::Likely);
        let prefixed = || Keyspace { prefixes: 2, ..at(1) };
        assert_eq!(of(&one, &two, &[(1, prefixed()), (2, prefixed())]), Sharing::No, "global_keyprefix");
    }

    #[test]
    fn stacks_with_brokers_of_their_own() {
        let project = |name: &str| Keyspace { project: Some(name.into()), ..Keyspace::default() };
        let known = [(1, project("staging")), (2, project("production"))];
        let url = "redis://redis:6379/0";
        // the name of the service is that of a server in each project
        assert_eq!(of(&beat(1, Some(url), "172.18.0.2:6379"), &beat(2, Some(url), "172.19.0.2:6379"), &known), Sharing::No);
        assert_eq!(of(&beat(1, Some(url), REDIS), &beat(2, Some(url), REDIS), &known), Sharing::Same);
        assert_eq!(of(&beat(1, None, REDIS), &beat(2, None, REDIS), &known), Sharing::No, "the database is not known");
        // each in its own container
        assert_eq!(of(&beat(1, None, "127.0.0.1:6379"), &beat(2, None, "127.0.0.1:6379"), &[]), Sharing::No);
    }

    #[test]
    fn standby_of_redbeat() {
        let red =
            |pid| Process { scheduler: Some("redbeat.RedBeatScheduler".into()), ..beat(pid, Some("redis://cache/1"), REDIS) };
        assert_eq!(of(&red(1), &red(2), &[]), Sharing::No);
        assert_eq!(of(&beat(1, Some("redis://cache/1"), REDIS), &beat(2, Some("redis://cache/1"), REDIS), &[]), Sharing::Same);
    }

    #[test]
    fn databases_of_clients() {
        let list = "id=3 addr=10.0.0.3:40001 laddr=10.0.0.2:6379 name= db=2 cmd=get\nid=4 addr=x cmd=ping\n";
        assert_eq!(databases(list).into_iter().collect::<Vec<_>>(), [("10.0.0.3:40001".to_owned(), 2)]);
    }
}
