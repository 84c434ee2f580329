//! The link of a replica to its master, and the replicas of a master.

use std::time::Duration;

use jiff::SignedDuration;
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
        let keys = [
            "role",
            "master_host",
            "master_port",
            "master_link_status",
            "master_link_down_since_seconds",
            "master_last_io_seconds_ago",
            "master_sync_in_progress",
            "connected_slaves",
            "min_slaves_good_slaves",
        ];
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
            Some("slave" | "replica") => {
                let master =
                    format!("{}:{}", e.info.text("master_host").unwrap_or("?"), e.info.text("master_port").unwrap_or("?"));
                let silent = e.info.number("master_last_io_seconds_ago").unwrap_or(0);
                if e.info.is("master_link_status", "down") && !e.info.is("master_sync_in_progress", "1") {
                    let since = e
                        .info
                        .number("master_link_down_since_seconds")
                        .map_or_else(String::new, |s| format!(" for {}", seconds(s)));
                    Some(finding(Severity::Crit, format!("{name} has no link to its master {master}{since}: its data is stale")))
                } else if silent > self.settings.replica_silent_s {
                    Some(finding(
                        Severity::Warn,
                        format!(
                            "{name} has received nothing from its master {master} for {}, limit {}",
                            seconds(silent),
                            seconds(self.settings.replica_silent_s)
                        ),
                    ))
                } else {
                    None
                }
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
