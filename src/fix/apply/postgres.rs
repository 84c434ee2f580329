//! Changes to a PostgreSQL server. Every statement selects its object by identity and reports whether it acted, so that there is
//! no gap between check and action.

use opsctl_core::probe::servers::postgres::Session;
use serde::Deserialize;

#[derive(Deserialize)]
struct Done {
    done: bool,
}

/// Terminates a session if it is the same one and still idle in a transaction.
pub(super) async fn terminate_idle(session: &Session, pid: i32, started_us: i64, idle_ms: u64) -> Result<(), String> {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity WHERE pid = {pid} \
         AND (extract(epoch FROM backend_start) * 1000000)::bigint = {started_us} AND state LIKE 'idle in transaction%' \
         AND state_change < clock_timestamp() - interval '{idle_ms} milliseconds'"
    );
    one(session, &sql, "the session has ended, or is no longer idle in a transaction").await
}

/// Cancels the query of a session if it is the same one and runs a query.
pub(super) async fn cancel(session: &Session, pid: i32, started_us: i64) -> Result<(), String> {
    let sql = format!(
        "SELECT pg_cancel_backend(pid) AS done FROM pg_stat_activity WHERE pid = {pid} \
         AND (extract(epoch FROM backend_start) * 1000000)::bigint = {started_us} AND state = 'active'"
    );
    one(session, &sql, "the session has ended, or no longer runs a query").await
}

/// Drops a slot if it is inactive and at the same position.
pub(super) async fn drop_slot(session: &Session, slot: &str, restart_lsn: Option<&str>) -> Result<(), String> {
    let at =
        restart_lsn.map_or_else(|| "restart_lsn IS NULL".to_owned(), |lsn| format!("restart_lsn = {}::pg_lsn", literal(lsn)));
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name)::text IS NOT NULL AS done FROM pg_replication_slots \
         WHERE slot_name = {} AND NOT active AND {at}",
        literal(slot)
    );
    one(session, &sql, "the slot no longer exists, is active again, or has advanced").await
}

/// `ALTER ROLE … SET`, or `RESET` without a value.
pub(super) async fn set_role(session: &Session, role: &str, setting: &str, value: Option<&str>) -> Result<(), String> {
    let clause = value
        .map_or_else(|| format!("RESET {}", identifier(setting)), |v| format!("SET {} = {}", identifier(setting), literal(v)));
    // its own statement: takes effect from the next transaction on
    session.execute("SET default_transaction_read_only = off").await.map_err(|e| e.to_string())?;
    let result =
        session.execute(&format!("ALTER ROLE {} {clause}", identifier(role))).await.map(|_| ()).map_err(|e| e.to_string());
    // the session is read-only again
    let _ = session.execute("SET default_transaction_read_only = on").await;
    result
}

async fn one(session: &Session, sql: &str, otherwise: &str) -> Result<(), String> {
    let rows: Vec<Done> = session.rows(sql).await.map_err(|e| e.to_string())?;
    if rows.iter().any(|r| r.done) { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// A string constant with any content (`standard_conforming_strings` may be off: backslashes are escaped).
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A quoted name.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constants_cannot_break_out() {
        assert_eq!(literal("a'b\\c"), "E'a''b\\\\c'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
