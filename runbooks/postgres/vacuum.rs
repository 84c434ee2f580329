//! Transaction ID wraparound and dead rows.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity,
    quantity::{count_of, percent},
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::session::{rows, session};
use crate::shared::servers::Server;

const WRAPAROUND: Code = Code {
    id: "postgres.wraparound",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the oldest transaction ID of a database has an age of {wraparound_warn}, and over twice autovacuum_freeze_max_age (warn), or {wraparound_crit} (crit); at two billion the server stops accepting writes",
    hint: "terminate the holders of old rows (see the evidence), then VACUUM (FREEZE) the oldest tables; do not cancel a running autovacuum",
    ..Code::BASE
};
const AUTOVACUUM: Code = Code {
    id: "postgres.autovacuum",
    severities: &[Severity::Warn],
    when: "autovacuum is off, or a table has five times the dead rows of its autovacuum threshold and was last vacuumed over a day ago",
    hint: "turn it on, or find the cause of the delay: a lock, an old transaction, too few workers",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.vacuum",
    title: "PostgreSQL tables are vacuumed in time",
    codes: &[WRAPAROUND, AUTOVACUUM],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const AGES: &str = "SELECT datname AS name, age(datfrozenxid)::bigint AS xid_age, mxid_age(datminmxid)::bigint AS mxid_age, \
    current_setting('autovacuum_freeze_max_age')::bigint AS freeze_max, current_setting('autovacuum_multixact_freeze_max_age')::bigint AS mxid_max \
    FROM pg_database ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC LIMIT 5";

/// Sessions, slots and prepared transactions that retain dead rows.
const HOLDERS: &str = "SELECT * FROM (\
    SELECT 'session ' || pid || ' (' || coalesce(usename, '?') || ', ' || coalesce(state, '?') || ')' AS who, age(backend_xmin)::bigint AS xid_age FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() \
    UNION ALL SELECT 'replication slot ' || slot_name, greatest(age(xmin), age(catalog_xmin))::bigint FROM pg_replication_slots WHERE coalesce(xmin, catalog_xmin) IS NOT NULL \
    UNION ALL SELECT 'prepared transaction ' || gid, age(transaction)::bigint FROM pg_prepared_xacts) AS holders ORDER BY xid_age DESC LIMIT 3";

const SETTINGS_ON: &str =
    "SELECT current_setting('autovacuum') = 'on' AS autovacuum, current_setting('track_counts') = 'on' AS track_counts";

const TABLES: &str = "SELECT schemaname || '.' || relname AS name, n_dead_tup AS dead, n_live_tup AS live FROM pg_stat_user_tables \
    WHERE n_dead_tup > 5 * (50 + 0.2 * n_live_tup) AND n_dead_tup > 10000 \
    AND coalesce(greatest(last_autovacuum, last_vacuum), '-infinity') < now() - interval '1 day' \
    AND (SELECT coalesce(stats_reset, '-infinity') < now() - interval '1 day' FROM pg_stat_database WHERE datname = current_database()) \
    ORDER BY n_dead_tup DESC LIMIT 5";

pub(super) struct Vacuum {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    name: String,
    xid_age: u64,
    mxid_age: u64,
    freeze_max: u64,
    mxid_max: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Holder {
    who: String,
    xid_age: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct On {
    autovacuum: bool,
    track_counts: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Table {
    name: String,
    dead: u64,
    live: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    ages: Vec<Database>,
    holders: Vec<Holder>,
    on: Option<On>,
    tables: Vec<Table>,
    database: String,
    gaps: Vec<String>,
}

impl Check for Vacuum {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let mut e = Evidence { server: Server::of(cx, target)?, database: session.database.clone(), ..Evidence::default() };
        e.ages = rows(&session, "ages of databases", AGES, &mut e.gaps).await;
        e.on = rows(&session, "settings", SETTINGS_ON, &mut e.gaps).await.into_iter().next();
        e.tables = rows(&session, "statistics of tables", TABLES, &mut e.gaps).await;
        if e.ages.iter().any(|a| self.aged(a).is_some()) || !e.tables.is_empty() {
            e.holders = rows(&session, "the holders of old rows", HOLDERS, &mut e.gaps).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.ages.iter().filter_map(|a| self.wraparound(judged, e, a)).collect();
        let name = &judged.target.name;
        if let Some(on) = &e.on
            && !(on.autovacuum && on.track_counts)
        {
            let cause = if on.autovacuum { "track_counts is off, which disables autovacuum" } else { "autovacuum is off" };
            findings.push(e.server.finding(&AUTOVACUUM, Severity::Warn, judged.target, format!("{name}: {cause}")));
        } else if let Some(worst) = e.tables.first() {
            let message = format!(
                "{} tables of {} in {name} have too many dead rows, {} has {} dead and {} live rows",
                e.tables.len(),
                e.database,
                worst.name,
                count_of(worst.dead),
                count_of(worst.live)
            );
            findings.push(
                e.server.finding(&AUTOVACUUM, Severity::Warn, judged.target, message).cite("dead rows retained by", holders(e)),
            );
        }
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

fn holders(e: &Evidence) -> String {
    let line = |h: &Holder| format!("{}: {} transactions", h.who, count_of(u64::try_from(h.xid_age).unwrap_or(0)));
    e.holders.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Vacuum {
    /// The exceeded age, its kind, its severity and the limit.
    fn aged(&self, a: &Database) -> Option<(u64, &'static str, Severity, u64)> {
        let s = &self.settings;
        let pairs = [(a.xid_age, "transaction", a.freeze_max), (a.mxid_age, "multixact", a.mxid_max)];
        pairs.into_iter().find_map(|(age, kind, freeze)| {
            let warn = s.wraparound_warn.max(freeze.saturating_mul(2));
            if age >= s.wraparound_crit {
                Some((age, kind, Severity::Crit, s.wraparound_crit))
            } else if age >= warn {
                Some((age, kind, Severity::Warn, warn))
            } else {
                None
            }
        })
    }

    fn wraparound(&self, judged: &Judged<'_>, e: &Evidence, a: &Database) -> Option<Finding> {
        let (age, kind, severity, limit) = self.aged(a)?;
        let share = age as f64 * 100.0 / f64::from(i32::MAX);
        let message = format!(
            "the oldest {kind} ID of database {} in {} has an age of {}, {} of the maximum, limit {}",
            a.name,
            judged.target.name,
            count_of(age),
            percent(share),
            count_of(limit)
        );
        Some(e.server.finding(&WRAPAROUND, severity, judged.target, message).cite("dead rows retained by", holders(e)))
    }
}
