//! The link of a replica to its master, and the replicas of a master.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::address::with_brackets;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity, quantity::duration,
};
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

static SPEC: CheckSpec = CheckSpec {
    id: "redis.replication",
    title: "Redis replication is up to date",
    codes: &[REPLICATION],
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
        let all = ["role", "connected_slaves", "min_slaves_good_slaves"].into_iter();
        let keys: Vec<&str> = all.chain(first.iter().chain(&numbered).map(String::as_str)).collect();
        let info = Info::of(&session, &keys).await?;
        let required = if info.is("role", "master") {
            session.setting("min-replicas-to-write").await.and_then(|v| v.parse().ok())
        } else {
            None
        };
        Ok(Evidence { server: Server::of(cx, target)?, info, wanted: required })
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
        found.into_iter().collect::<Vec<_>>().into()
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
