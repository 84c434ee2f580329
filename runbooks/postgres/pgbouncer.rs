//! PgBouncer: waiting clients, client limit and availability.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
    quantity::{percent, seconds},
};
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::{Server, Silence};

const PGBOUNCER: Code = Code {
    id: "postgres.pgbouncer",
    severities: &[Severity::Warn, Severity::Crit],
    when: "clients of a pool wait for a connection for {pool_wait_warn_s} (warn) or {pool_wait_crit_s} (crit); {pool_clients_warn_percent} of max_client_conn are in use (warn); PgBouncer is not running or does not answer (crit)",
    hint: "check the pool's server connections: they are idle in transactions, or the pool is too small for its load",
    impacts: &[Impact::likely(Role::Exhausted, KeyKind::Server, "connection pooler has no free connections")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.pgbouncer",
    title: "PgBouncer clients get a server connection in time",
    codes: &[PGBOUNCER],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Pgbouncer {
    pub(super) settings: Settings,
}

/// A row of `SHOW POOLS`; only columns that every version has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    database: String,
    user: String,
    cl_active: u64,
    cl_waiting: u64,
    sv_active: u64,
    sv_idle: u64,
    sv_used: u64,
    maxwait_s: f64,
    mode: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    pools: Vec<Pool>,
    max_client_conn: Option<u64>,
    gaps: Vec<String>,
}

impl Check for Pgbouncer {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Pgbouncer)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let session = match cx.postgres(target).await? {
            Ok(session) => session,
            Err(why) => return Ok(Evidence { silence: Silence::about(cx, &server, why).await, server, ..Evidence::default() }),
        };
        let mut e = Evidence { server, ..Evidence::default() };
        match session.show("SHOW POOLS").await {
            Ok(rows) => e.pools = rows.iter().map(pool).filter(|p| p.database != "pgbouncer").collect(),
            Err(why) => e.gaps.push(format!("its pools cannot be read: {why}")),
        }
        match session.show("SHOW CONFIG").await {
            Ok(rows) => {
                let setting = rows.iter().find(|r| r.get("key").is_some_and(|k| k == "max_client_conn"));
                e.max_client_conn = setting.and_then(|r| r.get("value")?.parse().ok());
            }
            Err(why) => e.gaps.push(format!("its configuration cannot be read: {why}")),
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        match e.silence.why() {
            None => {}
            Some(SessionError::Rejected { message, .. }) if message.contains("max_client_conn") => {
                let message = format!("{name} accepts no more clients: {message}");
                return vec![e.server.finding(&PGBOUNCER, Severity::Crit, judged.target, message)].into();
            }
            Some(_) => {
                return e.silence.judge(
                    &PGBOUNCER,
                    &e.server,
                    judged.target,
                    judged.taken_at,
                    "the PostgreSQL protocol",
                    "PGBOUNCER_PASSWORD",
                );
            }
        }
        let mut findings: Vec<Finding> = e.pools.iter().filter_map(|p| self.waits(judged, e, p)).collect();
        let clients: u64 = e.pools.iter().fold(0, |sum: u64, p| sum.saturating_add(p.cl_active).saturating_add(p.cl_waiting));
        if let Some(max) = e.max_client_conn.filter(|m| *m > 0) {
            let share = clients as f64 * 100.0 / max as f64;
            let limit = self.settings.pool_clients_warn_percent;
            if share >= limit {
                let message = format!("{name} has {clients} of {max} clients, {}, limit {}", percent(share), percent(limit));
                findings.push(e.server.finding(&PGBOUNCER, Severity::Warn, judged.target, message));
            }
        }
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

fn pool(row: &BTreeMap<String, String>) -> Pool {
    let text = |name: &str| row.get(name).cloned().unwrap_or_default();
    let number = |name: &str| row.get(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    Pool {
        database: text("database"),
        user: text("user"),
        cl_active: number("cl_active"),
        cl_waiting: number("cl_waiting"),
        sv_active: number("sv_active"),
        sv_idle: number("sv_idle"),
        sv_used: number("sv_used"),
        maxwait_s: number("maxwait") as f64 + number("maxwait_us") as f64 / 1e6,
        mode: text("pool_mode"),
    }
}

impl Pgbouncer {
    fn waits(&self, judged: &Judged<'_>, e: &Evidence, p: &Pool) -> Option<Finding> {
        if p.cl_waiting == 0 {
            return None;
        }
        let (severity, limit) = self.settings.pool_wait().exceeded(p.maxwait_s)?;
        let message = format!(
            "{} clients wait for a connection to {} as {} in {}, the longest for {}, limit {}",
            p.cl_waiting,
            p.database,
            p.user,
            judged.target.name,
            seconds(p.maxwait_s),
            seconds(limit)
        );
        let servers = format!("{} busy, {} free", p.sv_active, p.sv_idle.saturating_add(p.sv_used));
        Some(
            e.server
                .finding(&PGBOUNCER, severity, judged.target, message)
                .cite("server connections", servers)
                .cite("pool mode", &p.mode),
        )
    }
}
