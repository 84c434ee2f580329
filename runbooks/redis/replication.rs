//! The link of a replica to its master, and the replicas of a master.

use std::net::IpAddr;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::address::with_brackets;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity, quantity::duration,
};
use opsctl_core::probe::network::View;
use opsctl_core::probe::servers::redis_master::{ConfiguredMaster, configured_master};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, session};
use crate::shared::servers::Server;

const REPLICATION: Code = Code {
    id: "redis.replication",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a replica has lost the link to its master, or a master has fewer replicas than min-replicas-to-write (crit); a replica has received nothing from its master for {replica_silent_s} (warn)",
    hint: "check the master, the network between them and the replica's log",
    ..Code::BASE
};

const FOREIGN_MASTER: Code = Code {
    id: "redis.foreign-master",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the server replicates from a public address that neither its configuration file nor its start arguments nor its environment names (crit; warn if these are not known): a client set it with REPLICAOF, as attacks on open servers do; a Sentinel or a cluster may choose any master",
    hint: "treat the host as compromised: `redis-cli REPLICAOF NO ONE`, require authentication, look for loaded modules (`MODULE LIST`) and changed files; its data is that of the foreign master",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.replication",
    title: "Redis replication is up to date",
    codes: &[REPLICATION, FOREIGN_MASTER],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Fields of the link to a master; the first one is `master_host`.
const LINK: &[&str] = &["host", "port", "link_status", "link_down_since_seconds", "last_io_seconds_ago", "sync_in_progress"];

/// Masters of one KeyDB that are read: `master_host`, `master_1_host`, … (KeyDB, "Multi-Master"; the limit is a judgement).
const MAX_MASTERS: usize = 16;

pub(super) struct Replication {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    /// `min-replicas-to-write`.
    wanted: Option<u64>,
    /// Where its configuration names its master; `None` unless the master has a public address.
    configured: Option<ConfiguredMaster>,
}

impl Check for Replication {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let numbered: Vec<String> = (1..MAX_MASTERS).flat_map(|n| LINK.iter().map(move |f| format!("master_{n}_{f}"))).collect();
        let first: Vec<String> = LINK.iter().map(|f| format!("master_{f}")).collect();
        let all = ["role", "connected_slaves", "min_slaves_good_slaves", "config_file", "cluster_enabled"].into_iter();
        let keys: Vec<&str> = all.chain(first.iter().chain(&numbered).map(String::as_str)).collect();
        let info = Info::of(&session, &keys).await?;
        let required = if info.is("role", "master") {
            session.setting("min-replicas-to-write").await.and_then(|v| v.parse().ok())
        } else {
            None
        };
        let server = Server::of(cx, target)?;
        let mut e = Evidence { server, info, wanted: required, configured: None };
        if let (Some(host), Some(server)) = (e.public_master(), e.server.get()) {
            // a Sentinel sets any master, and is a client of its replicas: `name=sentinel-5c0e-cmd`
            let clients = session.text(&["CLIENT", "LIST"]).await.unwrap_or_default();
            let by_sentinel =
                clients.lines().map(super::client).any(|c| c.get("name").is_some_and(|n| n.starts_with("sentinel-")));
            let is_own = opsctl_core::probe::network::view(None, Vec::new()).await.is_ok_and(|view| is_local(&view, host));
            if !by_sentinel && !is_own {
                let file = e.info.text("config_file").unwrap_or_default();
                e.configured = Some(configured_master(cx, server, file, &host.to_string()).await?);
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let finding = |severity, message: String| e.server.finding(&REPLICATION, severity, judged.target, message);
        let seconds = |s: u64| duration(SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX)));
        let found: Option<Finding> = match e.info.text("role") {
            Some("slave" | "replica" | "active-replica") => {
                let links = e.links();
                let down = links.iter().find(|link| link.is_down).map(|link| {
                    let since = link.down_s.map_or_else(String::new, |s| format!(" for {}", seconds(s)));
                    let master = &link.master;
                    finding(Severity::Crit, format!("{name} has no link to its master {master}{since}: its data is stale"))
                });
                let silent = || {
                    let link = links.iter().filter(|l| l.silent_s > self.settings.replica_silent_s).max_by_key(|l| l.silent_s)?;
                    Some(finding(
                        Severity::Warn,
                        format!(
                            "{name} has received nothing from its master {} for {}, limit {}",
                            link.master,
                            seconds(link.silent_s),
                            seconds(self.settings.replica_silent_s)
                        ),
                    ))
                };
                down.or_else(silent)
            }
            _ => e.wanted.filter(|w| *w > 0).and_then(|required| {
                let good = e.info.number("min_slaves_good_slaves").or_else(|| e.info.number("connected_slaves")).unwrap_or(0);
                (good < required).then(|| {
                    finding(
                        Severity::Crit,
                        format!("{name} has {good} of the {required} replicas it requires: it rejects writes (NOREPLICAS)"),
                    )
                })
            }),
        };
        e.foreign_master(judged).into_iter().chain(found).collect::<Vec<_>>().into()
    }
}

/// Whether an address is one of this host, or in a network of it.
fn is_local(view: &View, ip: IpAddr) -> bool {
    view.has(ip) || view.interfaces.iter().flat_map(|i| &i.addresses).any(|(own, prefix)| in_network(ip, *own, *prefix))
}

/// Whether both addresses are in one network of this prefix length.
fn in_network(ip: IpAddr, own: IpAddr, prefix: u8) -> bool {
    let same = |a: u128, b: u128, bits: u32| {
        let host_bits = bits.saturating_sub(u32::from(prefix));
        host_bits < 128 && (a >> host_bits) == (b >> host_bits)
    };
    match (ip, own) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(u128::from(a), u128::from(b), 128),
        _ => false,
    }
}

/// Whether an address belongs to the public internet (IANA, "Special-Purpose Address Registry").
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => {
            let [first, second, ..] = a.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(a.is_private() || a.is_loopback() || a.is_link_local() || a.is_unspecified() || a.is_broadcast() || shared)
                && first != 0
                && first < 224
        }
        // 2000::/3 is the global unicast range
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(a.segments()[0] & 0xe000 == 0x2000, |mapped| is_public(IpAddr::V4(mapped))),
    }
}

/// The link to one master.
struct Link {
    /// `10.0.0.2:6379`.
    master: String,
    is_down: bool,
    /// Seconds since it went down.
    down_s: Option<u64>,
    /// Seconds since the last byte.
    silent_s: u64,
}

impl Evidence {
    /// The public address of its master, unless a cluster chooses it.
    fn public_master(&self) -> Option<IpAddr> {
        if !matches!(self.info.text("role"), Some("slave" | "replica")) || self.info.is("cluster_enabled", "1") {
            return None;
        }
        self.info.text("master_host")?.parse().ok().filter(|ip| is_public(*ip))
    }

    fn foreign_master(&self, judged: &Judged<'_>) -> Option<Finding> {
        let configured = self.configured.as_ref().filter(|c| c.source.is_none())?;
        let link = self.links().into_iter().next()?;
        let name = &judged.target.name;
        let (severity, by) = if configured.is_complete {
            (Severity::Crit, "neither its configuration nor its start arguments name")
        } else {
            (Severity::Warn, "its configuration, as far as it is readable, does not name")
        };
        let message = format!("{name} replicates from {}, a public address that {by}", link.master);
        let finding = self.server.finding(&FOREIGN_MASTER, severity, judged.target, message);
        let finding = match self.server.get() {
            Some(server) => finding.key(KeyKind::Altered, &server.id),
            None => finding,
        };
        let state = if link.is_down { "down" } else { "up" };
        Some(
            finding
                .cite("configuration file", self.info.text("config_file").unwrap_or("none"))
                .cite("link to the master", state)
                .likely(),
        )
    }

    fn links(&self) -> Vec<Link> {
        let prefixes = (0..MAX_MASTERS).map(|n| if n == 0 { "master".to_owned() } else { format!("master_{n}") });
        let link = |prefix: String| {
            let field = |name: &str| format!("{prefix}_{name}");
            let status = self.info.text(&field("link_status"))?;
            let text = |name: &str| self.info.text(&field(name)).unwrap_or("?");
            Some(Link {
                master: format!("{}:{}", with_brackets(text("host")), text("port")),
                is_down: status == "down" && !self.info.is(&field("sync_in_progress"), "1"),
                down_s: self.info.number(&field("link_down_since_seconds")),
                silent_s: self.info.number(&field("last_io_seconds_ago")).unwrap_or(0),
            })
        };
        prefixes.filter_map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;
    use serde_json::json;

    use super::*;

    fn messages(info: &serde_json::Value) -> Vec<String> {
        let e: Evidence = serde_json::from_value(json!({ "info": info })).unwrap();
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let judgement = Replication { settings: Settings::default() }.judge(&judged, &e);
        judgement.findings.into_iter().map(|f| f.message).collect()
    }

    /// Severities by code for a replica of this address, and what its configuration names.
    fn replica_of(master: &str, configured: &serde_json::Value) -> Vec<(String, Severity)> {
        let info = json!({"role": "slave", "master_host": master, "master_port": "8886", "master_link_status": "down",
            "master_link_down_since_seconds": "-1", "config_file": "/etc/redis/redis.conf"});
        let e: Evidence = serde_json::from_value(json!({ "info": info, "configured": configured })).unwrap();
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let judgement = Replication { settings: Settings::default() }.judge(&judged, &e);
        judgement.findings.into_iter().map(|f| (f.code, f.severity)).collect()
    }

    /// redis/docker-library-redis#259: "REPLICAOF 194.40.243.61:8886 enabled (user request from …)".
    #[test]
    fn master_that_no_configuration_names() {
        let found = |configured: serde_json::Value| {
            let all = replica_of("194.40.243.61", &configured);
            all.into_iter().find(|(code, _)| code == FOREIGN_MASTER.id).map(|(_, severity)| severity)
        };
        assert_eq!(found(json!({"source": null, "is_complete": true})), Some(Severity::Crit));
        assert_eq!(found(json!({"source": null, "is_complete": false})), Some(Severity::Warn));
        assert_eq!(found(json!({"source": "/etc/redis/redis.conf", "is_complete": true})), None);
        assert_eq!(found(json!(null)), None, "not read: a cluster, a Sentinel, or a private address");
    }

    #[test]
    fn public_addresses_outside_of_the_own_networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for public in ["194.40.243.61", "8.8.8.8", "2a01:4f8::1", "::ffff:8.8.8.8"] {
            assert!(is_public(ip(public)), "{public}");
        }
        for other in [
            "10.0.0.2",
            "172.18.0.2",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "224.0.0.1",
            "fd00::1",
            "::1",
            "fe80::1",
        ] {
            assert!(!is_public(ip(other)), "{other}");
        }
        assert!(
            in_network(ip("194.40.243.61"), ip("194.40.243.2"), 24) && !in_network(ip("194.40.244.61"), ip("194.40.243.2"), 24)
        );
        assert!(in_network(ip("2a01:4f8::5"), ip("2a01:4f8::1"), 64) && !in_network(ip("8.8.8.8"), ip("::1"), 0));
    }

    #[test]
    fn active_replica_of_two_masters() {
        let mut info = json!({"role": "active-replica", "master_host": "a", "master_port": "1", "master_link_status": "up",
            "master_last_io_seconds_ago": "4", "master_1_host": "b", "master_1_port": "2", "master_1_link_status": "up",
            "master_1_last_io_seconds_ago": "8"});
        assert!(messages(&info).is_empty());
        info["master_1_link_status"] = "down".into();
        assert_eq!(messages(&info), ["cache has no link to its master b:2: its data is stale"]);
    }
}
