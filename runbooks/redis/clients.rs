//! Client connections.

use std::time::Duration;

use opsctl_core::model::address::split_port;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Sample, Severity,
    grown,
    quantity::{count_of, percent},
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Settings;
use super::info::{Info, session};
use crate::shared::servers::Server;

const CLIENTS: Code = Code {
    id: "redis.clients",
    severities: &[Severity::Warn, Severity::Crit],
    when: "{clients_warn_percent} (warn) or {clients_crit_percent} (crit) of its connections are in use, or connections were rejected since the last run (crit)",
    hint: "find the clients that hold them: usually a pool per worker process that is never closed; Redis lowers maxclients silently if the limit on open files is low",
    impacts: &[Impact::likely(Role::Exhausted, KeyKind::Server, "cache accepts no more connections")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.clients",
    title: "Redis has free client connections",
    codes: &[CLIENTS],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Clients {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    maxclients: Option<u64>,
    /// The counter of the oldest run within an hour.
    before: Option<Sample>,
    /// Connections by address and name, most first.
    holders: Vec<(String, u64)>,
}

impl Check for Clients {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, &["connected_clients", "maxclients", "rejected_connections"]).await?;
        let mut maxclients = info.number("maxclients");
        if maxclients.is_none() {
            maxclients = session.setting("maxclients").await.and_then(|m| m.parse().ok());
        }
        let before = cx.history.oldest(&server.object(target), "rejected_connections", 3600);
        let mut e = Evidence { server, info, maxclients, before, holders: Vec::new() };
        if self.severity(&e).is_some() {
            let list = session.text(&["CLIENT", "LIST"]).await.unwrap_or_default();
            e.holders = holders(&list);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let rejected = e.info.number("rejected_connections");
        let object = e.server.object(judged.target);
        let sample = rejected.map(|n| Sample::count(object, "rejected_connections", judged.taken_at, n));
        let finding = self.severity(e).map(|(severity, limit)| {
            let (connected, max) = (e.info.number("connected_clients").unwrap_or(0), e.maxclients.unwrap_or(0));
            let since = rejected_since(e);
            let rejections =
                if since > 0 { format!(", and {} were rejected since the last run", count_of(since)) } else { String::new() };
            let share = connected as f64 * 100.0 / max.max(1) as f64;
            let message =
                format!("{name} has {connected} of {max} connections, {}, limit {}{rejections}", percent(share), percent(limit));
            let holders: Vec<String> = e.holders.iter().map(|(client, n)| format!("{client} {n}")).collect();
            e.server.finding(&CLIENTS, severity, judged.target, message).cite("held by", holders.join(", "))
        });
        let findings: Vec<Finding> = finding.into_iter().collect();
        Judgement { findings, samples: sample.into_iter().collect(), ..Judgement::default() }
    }
}

fn rejected_since(e: &Evidence) -> u64 {
    grown(e.info.number("rejected_connections"), e.before.as_ref())
}

impl Clients {
    fn severity(&self, e: &Evidence) -> Option<(Severity, f64)> {
        let max = e.maxclients.filter(|m| *m > 0)?;
        let share = e.info.number("connected_clients")? as f64 * 100.0 / max as f64;
        if rejected_since(e) > 0 {
            return Some((Severity::Crit, self.settings.clients_crit_percent));
        }
        self.settings.clients().exceeded(share)
    }
}

/// The addresses with the most connections, with their client names (`CLIENT SETNAME`).
fn holders(list: &str) -> Vec<(String, u64)> {
    let mut by_holder: BTreeMap<String, u64> = BTreeMap::new();
    for client in list.lines().map(super::client) {
        let address = client.get("addr").map_or("", |a| split_port(a).0);
        let name = client.get("name").filter(|n| !n.is_empty()).map_or(String::new(), |n| format!(" ({n})"));
        *by_holder.entry(format!("{address}{name}")).or_default() += 1;
    }
    let mut holders: Vec<(String, u64)> = by_holder.into_iter().collect();
    holders.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    holders.truncate(5);
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_host_and_name() {
        let list = "id=3 addr=10.0.0.2:4711 laddr=x name=app cmd=get\nid=4 addr=10.0.0.2:4712 name=app cmd=get\nid=5 addr=10.0.0.3:1 name= cmd=ping\n";
        assert_eq!(holders(list), [("10.0.0.2 (app)".to_owned(), 2), ("10.0.0.3".to_owned(), 1)]);
    }

    #[test]
    fn connections_of_ipv6_hosts_and_unix_sockets() {
        let list = "id=3 addr=[fd00::2]:4711 name=\nid=4 addr=[fd00::2]:4712 name=\nid=5 addr=/run/redis.sock:0 name=\n";
        assert_eq!(holders(list), [("fd00::2".to_owned(), 2), ("/run/redis.sock".to_owned(), 1)]);
    }
}
