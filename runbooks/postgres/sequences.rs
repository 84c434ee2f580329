//! Sequences of every database, with the columns that they fill.

use std::time::Duration;

use opsctl_core::model::{Object, quantity::count};
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::servers::postgres::{Session, in_database};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::session::rows;

/// The maximum of a sequence is its own, or that of the narrowest column that it fills: a column that owns it (`serial`, identity),
/// or one with `DEFAULT nextval(…)`, on which `pg_depend` has the dependency of the default.
pub(super) const SEQUENCES: &str = "SELECT name, last, filled, max FROM (SELECT s.schemaname || '.' || s.sequencename AS name, s.last_value AS last, \
    narrow.filled, least(s.max_value, narrow.max) AS max \
    FROM pg_sequences s JOIN pg_namespace n ON n.nspname = s.schemaname JOIN pg_class c ON c.relname = s.sequencename AND c.relnamespace = n.oid \
    LEFT JOIN LATERAL (SELECT a.attrelid::regclass::text || '.' || a.attname AS filled, \
    CASE coalesce(nullif(t.typbasetype, 0), t.oid) WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END AS max \
    FROM (SELECT d.refobjid AS relation, d.refobjsubid AS field FROM pg_depend d WHERE d.objid = c.oid \
    AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
    UNION ALL SELECT f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid \
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid) AS filling \
    JOIN pg_attribute a ON a.attrelid = filling.relation AND a.attnum = filling.field AND NOT a.attisdropped \
    JOIN pg_type t ON t.oid = a.atttypid ORDER BY max NULLS LAST LIMIT 1) AS narrow ON true \
    WHERE s.last_value IS NOT NULL AND NOT s.cycle AND s.increment_by > 0) AS sequences \
    ORDER BY last::float8 / max DESC LIMIT 5";

/// The other databases with tables, the busiest first. The administrative database usually has none: it counts with this many rows
/// (judgement). A role that cannot connect to a database is named.
const DATABASES: &str = "SELECT d.datname AS name, has_database_privilege(d.oid, 'CONNECT') AS may_connect, \
    current_setting('max_connections')::bigint - (SELECT count(*) FROM pg_stat_activity) AS free \
    FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid \
    WHERE d.datallowconn AND NOT d.datistemplate AND d.datname <> current_database() \
    AND (d.datname <> 'postgres' OR coalesce(s.tup_inserted, 0) > 10000) \
    ORDER BY coalesce(s.tup_inserted, 0) DESC, d.datname LIMIT 500";

/// Databases that are read in a run (judgement).
const MAX_DATABASES: usize = 50;

/// Time for all other databases together (judgement).
const DATABASES_TIMEOUT: Duration = Duration::from_secs(3);

/// Free connections below which no further one is opened (judgement).
const MIN_FREE_CONNECTIONS: i64 = 10;

/// Names of databases in a gap.
const MAX_NAMED: usize = 5;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Sequence {
    pub(super) name: String,
    pub(super) last: i64,
    pub(super) filled: Option<String>,
    pub(super) max: i64,
    /// `None` for the database of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Database {
    name: String,
    may_connect: bool,
    free: i64,
}

impl Sequence {
    /// Share of its maximum that is used.
    pub(super) fn percent(&self) -> f64 {
        self.last as f64 * 100.0 / self.max.max(1) as f64
    }
}

/// The fullest sequences of the databases other than that of the session, and a gap with those that were not read.
pub(super) async fn of_other_databases(
    cx: &ProbeCx,
    target: &Object,
    session: &Session,
    gaps: &mut Vec<String>,
) -> Result<Vec<Sequence>, ProbeError> {
    let databases: Vec<Database> = rows(session, "databases", DATABASES, gaps).await;
    let deadline = Instant::now() + DATABASES_TIMEOUT;
    let (mut found, mut unread, mut why) = (Vec::new(), Vec::new(), String::new());
    for (at, database) in databases.into_iter().enumerate() {
        let refusal = if !database.may_connect {
            Some(format!("role {} may not connect", session.user))
        } else if database.free < MIN_FREE_CONNECTIONS {
            Some(format!("{} connections are free", database.free))
        } else if at >= MAX_DATABASES {
            Some(format!("{MAX_DATABASES} are read in a run"))
        } else {
            match timeout_at(deadline, of_database(cx, target, &database.name, gaps)).await {
                Err(_) => Some(format!("no reply within {} s", DATABASES_TIMEOUT.as_secs())),
                Ok(read) => match read? {
                    Ok(own) => {
                        found.extend(own);
                        None
                    }
                    Err(refused) => Some(refused.words()),
                },
            }
        };
        if let Some(refusal) = refusal {
            why = refusal;
            unread.push(database.name);
        }
    }
    if !unread.is_empty() {
        let named = unread.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if unread.len() > MAX_NAMED { ", …" } else { "" };
        gaps.push(format!("sequences of {} could not be read ({why}): {named}{more}", count(unread.len(), "database")));
    }
    Ok(found)
}

/// The fullest sequences of one other database.
async fn of_database(
    cx: &ProbeCx,
    target: &Object,
    database: &str,
    gaps: &mut Vec<String>,
) -> Result<Result<Vec<Sequence>, SessionError>, ProbeError> {
    let session = match Box::pin(in_database(cx, target, database)).await? {
        Ok(session) => session,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut found: Vec<Sequence> = rows(&session, &format!("sequences of {database}"), SEQUENCES, gaps).await;
    for sequence in &mut found {
        sequence.database = Some(database.to_owned());
    }
    Ok(Ok(found))
}
