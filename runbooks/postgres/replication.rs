//! Replication lag, and the role of the server.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity, quantity::seconds,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::session::{row, rows, session};
use crate::shared::servers::Server;

const REPLICATION: Code = Code {
    id: "postgres.replication",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a standby receives nothing from its primary (crit) or has a replay lag of {replay_warn_s} (warn) or {replay_crit_s} (crit); a replica of this primary is not streaming (warn)",
    hint: "check the network between them, the replica's log, and long queries on the standby that delay replay",
    ..Code::BASE
};
const READ_ONLY: Code = Code {
    id: "postgres.read-only",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the server rejects writes although it should accept them: a server that is configured as a primary is a standby (crit), or default_transaction_read_only is on (warn)",
    hint: "promote a standby with pg_promote(), but only once the old primary is certainly down",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.replication",
    title: "PostgreSQL replication is up to date",
    codes: &[REPLICATION, READ_ONLY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const STATE: &str = "SELECT pg_is_in_recovery() AS standby, \
    (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') = 'on' AS read_only, \
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS source, \
    CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn() \
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS replay_s, \
    (SELECT status FROM pg_stat_wal_receiver) AS receiver, current_setting('primary_conninfo') <> '' AS has_primary";

const REPLICAS: &str = "SELECT coalesce(application_name, '?') AS name, coalesce(client_addr::text, 'local') AS client, coalesce(state, 'unknown') AS state, \
    extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age_s FROM pg_stat_replication";

pub(super) struct Replication {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    standby: bool,
    read_only: Option<bool>,
    replay_s: Option<f64>,
    receiver: Option<String>,
    has_primary: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Replica {
    name: String,
    client: String,
    state: String,
    age_s: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    state: Option<State>,
    replicas: Vec<Replica>,
    gaps: Vec<String>,
}

impl Check for Replication {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let mut e = Evidence { server: Server::of(cx, target)?, ..Evidence::default() };
        e.state = row(&session, "the state of replication", STATE, &mut e.gaps).await;
        e.replicas = rows(&session, "replicas", REPLICAS, &mut e.gaps).await;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let finding = |code, severity, message: String| e.server.finding(code, severity, judged.target, message);
        let mut findings: Vec<Finding> = Vec::new();
        if let Some(s) = &e.state {
            let should_be_primary = self.settings.primaries.iter().any(|p| p == name);
            if s.standby && should_be_primary {
                findings.push(finding(
                    &READ_ONLY,
                    Severity::Crit,
                    format!("{name} is a standby and should be a primary: it rejects writes"),
                ));
            }
            if s.read_only == Some(true) && !s.standby {
                findings.push(finding(
                    &READ_ONLY,
                    Severity::Warn,
                    format!("default_transaction_read_only is on in {name}: transactions are read-only by default"),
                ));
            }
            if s.standby && s.receiver.is_none() && s.has_primary == Some(true) {
                findings.push(finding(
                    &REPLICATION,
                    Severity::Crit,
                    format!("{name} is a standby and receives nothing from its primary"),
                ));
            }
            if let Some(lag) = s.replay_s
                && let Some((severity, limit)) = self.settings.replay().exceeded(lag)
            {
                findings.push(finding(
                    &REPLICATION,
                    severity,
                    format!("{name} has a replay lag of {}, limit {}", seconds(lag), seconds(limit)),
                ));
            }
        }
        // a new replica catches up first, and a base backup is not a replica
        let behind =
            e.replicas.iter().filter(|r| !matches!(r.state.as_str(), "streaming" | "backup" | "unknown") && r.age_s > 60.0);
        for r in behind {
            let message =
                format!("the replica {} ({}) of {name} is not streaming: {} for {}", r.name, r.client, r.state, seconds(r.age_s));
            findings.push(finding(&REPLICATION, Severity::Warn, message));
        }
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}
