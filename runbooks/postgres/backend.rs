//! Sessions and prepared transactions of a PostgreSQL server, as its views report them.

use serde::{Deserialize, Serialize};

/// Columns of a session. `pg_blocking_pids` is called only for sessions that wait for a lock, because it takes a lock of its own. A
/// session is identified by its pid and its start in microseconds.
macro_rules! sessions {
    ($condition:literal) => {
        concat!(
            "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS started_us, usename AS role, datname AS db, \
             application_name AS app, coalesce(client_addr::text, 'local') AS client, state, \
             extract(epoch FROM clock_timestamp() - xact_start)::float8 AS xact_s, extract(epoch FROM clock_timestamp() - state_change)::float8 AS state_s, \
             extract(epoch FROM clock_timestamp() - query_start)::float8 AS query_s, wait_event_type AS waits_for, wait_event, left(query, 300) AS query, \
             CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) END AS blocked_by, \
             (SELECT rolsuper FROM pg_roles WHERE rolname = usename) AS superuser FROM pg_stat_activity WHERE ",
            $condition
        )
    };
}

/// Sessions in a transaction, the oldest first.
pub(super) const SESSIONS: &str = sessions!(
    "backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 500"
);

/// Any process of the server: a session outside of a transaction keeps the advisory locks that it took with `pg_advisory_lock`.
const ANY_PROCESS: &str = sessions!("pid = ANY ");

/// The processes with these pids.
pub(super) fn processes(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("{ANY_PROCESS}('{{{}}}'::int[])", pids.join(","))
}

pub(super) const PREPARED_XACTS: &str = "SELECT gid, owner, database AS db, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s FROM pg_prepared_xacts ORDER BY prepared LIMIT 20";

/// The number of sessions with a state that this role may not read.
pub(super) const UNSEEN: &str =
    "SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type IS NULL AND pid <> pg_backend_pid()";

pub(super) const GUARDS: &str = "SELECT rolname AS role, rolsuper AS superuser, \
    coalesce((SELECT string_agg(c, ',') FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c \
    WHERE s.setrole IN (r.oid, 0) AND c LIKE 'idle_in_transaction_session_timeout=%'), '') AS set, \
    (SELECT reset_val::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout') AS server_ms FROM pg_roles AS r";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Backend {
    pub(super) pid: i32,
    pub(super) started_us: i64,
    pub(super) role: Option<String>,
    pub(super) db: Option<String>,
    pub(super) app: Option<String>,
    pub(super) client: String,
    pub(super) state: Option<String>,
    pub(super) xact_s: f64,
    pub(super) state_s: f64,
    pub(super) query_s: Option<f64>,
    pub(super) waits_for: Option<String>,
    pub(super) wait_event: Option<String>,
    pub(super) query: String,
    pub(super) blocked_by: Option<Vec<i32>>,
    pub(super) superuser: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PreparedXact {
    pub(super) gid: String,
    pub(super) owner: String,
    pub(super) db: String,
    pub(super) age_s: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Guard {
    pub(super) role: String,
    pub(super) superuser: bool,
    /// `idle_in_transaction_session_timeout=…` of the role, or of a database for all roles.
    pub(super) set: String,
    /// The default of the server, in milliseconds; 0 is none.
    pub(super) server_ms: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) n: u64,
}

impl Backend {
    pub(super) fn identity(&self) -> String {
        format!("{}@{}", self.pid, self.started_us)
    }

    /// Its transaction is committed here, and a synchronous standby has not confirmed it.
    pub(super) fn waits_for_standby(&self) -> bool {
        self.wait_event.as_deref() == Some("SyncRep")
    }

    /// It waits for an advisory lock; the application defines its meaning.
    pub(super) fn waits_for_advisory_lock(&self) -> bool {
        self.waits_for.as_deref() == Some("Lock") && self.wait_event.as_deref() == Some("advisory")
    }

    pub(super) fn is_idle_in_tx(&self) -> bool {
        self.state.as_deref().is_some_and(|s| s.starts_with("idle in transaction"))
    }

    /// `app (web, pid 812) from 10.0.0.3`.
    pub(super) fn label(&self) -> String {
        let app = self.app.as_deref().filter(|a| !a.is_empty()).map_or(String::new(), |a| format!("{a}, "));
        if self.role.is_none() && self.query.starts_with("autovacuum:") {
            return format!("autovacuum (pid {})", self.pid);
        }
        format!("{} ({app}pid {}) from {}", self.role.as_deref().unwrap_or("?"), self.pid, self.client)
    }
}

pub(super) fn is_dump(b: &Backend) -> bool {
    let app = b.app.as_deref().unwrap_or_default();
    ["pg_dump", "pg_dumpall", "pg_basebackup", "pg_restore", "pgbackrest", "barman", "wal-g"].iter().any(|w| app.starts_with(w))
        || (b.query.trim_start().to_ascii_uppercase().starts_with("COPY") && b.query.to_ascii_uppercase().contains("TO STDOUT"))
}

pub(super) fn is_ddl(query: &str) -> bool {
    let start = query.trim_start().to_ascii_uppercase();
    ["ALTER ", "DROP ", "TRUNCATE", "CREATE INDEX", "LOCK ", "REINDEX", "CLUSTER", "VACUUM FULL", "REFRESH "]
        .iter()
        .any(|w| start.starts_with(w))
}
