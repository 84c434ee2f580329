//! Findings of earlier runs: one row per episode, from the first run with a finding to the first run without it.

use jiff::Timestamp;
use opsctl_core::model::{CheckRow, Report, Reported, Severity};
use rusqlite::{Connection, params};

/// A day in milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Retention of closed episodes: period and maximum number.
const KEEP_MS: i64 = 365 * DAY_MS;
const MAX_EPISODES: i64 = 20_000;

/// Episodes within a day from which a finding counts as flapping (judgement).
const MIN_FLAPS: u32 = 3;

pub(super) const TABLES: &str = "
  CREATE TABLE IF NOT EXISTS episode (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL, subject TEXT NOT NULL, check_id TEXT NOT NULL, target TEXT NOT NULL,
    severity TEXT NOT NULL, message TEXT NOT NULL, owner TEXT, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    closed_ms INTEGER, runs INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, told_severity TEXT, told_end INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX IF NOT EXISTS episode_of ON episode (code, subject, first_ms);
  CREATE INDEX IF NOT EXISTS episode_open ON episode (closed_ms);
  CREATE TABLE IF NOT EXISTS told (what TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
";

/// Scope of a run: a missing finding has ended only if it was in scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All objects.
    Everything,
    /// Some runbooks with all their targets.
    Runbooks,
    /// Some targets only.
    Targets,
}

/// An earlier or open episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// Code of the finding.
    pub code: String,
    /// `kind:name`.
    pub subject: String,
    /// Severity.
    pub severity: Severity,
    /// Last message.
    pub message: String,
    /// Owner of the subject.
    pub owner: Option<String>,
    /// First observation.
    pub first: Timestamp,
    /// Last observation.
    pub last: Timestamp,
    /// First run without the finding; `None` while it is open.
    pub closed: Option<Timestamp>,
    /// Whether a report contained it.
    pub reported: bool,
    /// Whether a report called it flapping.
    pub reported_flapping: bool,
    /// Severity in the last report that contained it.
    pub reported_severity: Option<Severity>,
    /// Whether a report called it recovered.
    pub reported_end: bool,
}

impl Episode {
    /// Whether this number of recent episodes counts as flapping.
    #[must_use]
    pub fn flaps(times: u32) -> bool {
        times >= MIN_FLAPS
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Crit => "crit",
    }
}

fn severity(word: &str) -> Severity {
    match word {
        "crit" => Severity::Crit,
        "warn" => Severity::Warn,
        _ => Severity::Info,
    }
}

/// Stores the findings of a run, and closes the episodes of missing ones.
pub(super) fn observe(connection: &mut Connection, report: &Report, scope: Scope, now: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut open: Vec<(i64, String, String, String, String)> = transaction
            .prepare("SELECT id, code, subject, check_id, target FROM episode WHERE closed_ms IS NULL")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
            .collect::<Result<_, _>>()?;
        let mut go_on = transaction.prepare(
            "UPDATE episode SET last_ms = max(last_ms, ?2), severity = ?3, message = ?4, owner = ?5, runs = runs + 1 WHERE id = ?1",
        )?;
        let mut begin = transaction.prepare(
            "INSERT INTO episode (code, subject, check_id, target, severity, message, owner, first_ms, last_ms, runs)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 1)",
        )?;
        let mut end = transaction.prepare("UPDATE episode SET closed_ms = ?2 WHERE id = ?1")?;
        let mut seen = Vec::new();
        for finding in report.findings.iter().filter(|f| f.severity > Severity::Info) {
            let subject = finding.subject.to_string();
            // two checks may report the same finding
            if seen.contains(&(finding.code.clone(), subject.clone())) {
                continue;
            }
            let severity = word(finding.severity);
            if let Some(at) = open.iter().position(|(_, code, s, ..)| *code == finding.code && *s == subject) {
                let (id, ..) = open.swap_remove(at);
                go_on.execute(params![id, now, severity, finding.message, finding.owner])?;
            } else {
                let row = row_of(report, finding);
                let (check, target) = row.map_or(("", ""), |r| (&r.check, &r.target));
                begin.execute(params![finding.code, subject, check, target, severity, finding.message, finding.owner, now])?;
            }
            seen.push((finding.code.clone(), subject));
        }
        for (id, _, _, check, target) in open.iter().filter(|(_, _, _, check, target)| was_checked(report, scope, check, target))
        {
            tracing::debug!(check, target, "is over");
            end.execute(params![id, now])?;
        }
    }
    transaction.execute("DELETE FROM episode WHERE closed_ms < ?1", params![now - KEEP_MS])?;
    transaction.execute(
        "DELETE FROM episode WHERE closed_ms IS NOT NULL AND id <= (SELECT id FROM episode ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        params![MAX_EPISODES],
    )?;
    transaction.commit()
}

fn row_of<'a>(report: &'a Report, finding: &Reported) -> Option<&'a CheckRow> {
    report.checks.iter().find(|row| row.findings.contains(&finding.id))
}

/// Whether a run would have found a finding of this check for this target: an unknown or missing check proves nothing.
fn was_checked(report: &Report, scope: Scope, check: &str, target: &str) -> bool {
    let mut rows = report.checks.iter().filter(|r| r.check == check).peekable();
    match rows.clone().find(|r| r.target == target) {
        Some(row) => row.verdict != "unknown",
        // its target no longer exists
        None if scope == Scope::Targets => false,
        None if rows.peek().is_some() => rows.all(|r| r.verdict != "unknown"),
        // no object of its kind is left; the other checks of its runbook show whether discovery worked
        None => {
            let runbook = check.split('.').next().unwrap_or_default();
            let mut related = report.checks.iter().filter(|r| r.runbook == runbook || r.runbook == "discovery").peekable();
            (related.peek().is_some() || scope == Scope::Everything) && related.all(|r| r.verdict != "unknown")
        }
    }
}

/// Episodes that lasted beyond `since`, oldest first.
pub(super) fn since(connection: &Connection, since: i64) -> rusqlite::Result<Vec<Episode>> {
    select(connection, "closed_ms IS NULL OR closed_ms >= ?1 ORDER BY first_ms, id", params![since])
}

/// Closed episodes: of this code and subject first, then of this code alone, newest first.
pub(super) fn like(connection: &Connection, code: &str, subject: &str, limit: u32) -> rusqlite::Result<Vec<Episode>> {
    let order = "code = ?1 AND closed_ms IS NOT NULL ORDER BY subject = ?2 DESC, first_ms DESC LIMIT ?3";
    select(connection, order, params![code, subject, limit])
}

fn select(connection: &Connection, tail: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<Episode>> {
    let sql = format!(
        "SELECT code, subject, severity, message, owner, first_ms, last_ms, closed_ms, told, told_severity, told_end FROM episode WHERE {tail}"
    );
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
    connection
        .prepare(&sql)?
        .query_map(values, |row| {
            let reported: i64 = row.get(8)?;
            Ok(Episode {
                code: row.get(0)?,
                subject: row.get(1)?,
                severity: severity(&row.get::<_, String>(2)?),
                message: row.get(3)?,
                owner: row.get(4)?,
                first: at(row.get(5)?),
                last: at(row.get(6)?),
                closed: row.get::<_, Option<i64>>(7)?.map(at),
                reported: reported > 0,
                reported_flapping: reported > 1,
                reported_severity: row.get::<_, Option<String>>(9)?.map(|s| severity(&s)),
                reported_end: row.get::<_, i64>(10)? > 0,
            })
        })?
        .collect()
}

/// Records that a report contained all open findings (`flapping` marks the flapping ones) and all recovered ones.
pub(super) fn mark_reported(
    connection: &mut Connection,
    open: &[(String, String, bool)],
    kind: &str,
    now: i64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut update = transaction.prepare(
            "UPDATE episode SET told = ?3, told_severity = severity WHERE code = ?1 AND subject = ?2 AND closed_ms IS NULL",
        )?;
        for (code, subject, flapping) in open {
            update.execute(params![code, subject, if *flapping { 2 } else { 1 }])?;
        }
    }
    transaction.execute("UPDATE episode SET told_end = 1 WHERE closed_ms IS NOT NULL AND told > 0", [])?;
    transaction.execute("INSERT OR REPLACE INTO told VALUES (?1, ?2)", params![kind, now])?;
    transaction.commit()
}

/// Time of the last report of a kind.
pub(super) fn last_reported(connection: &Connection, kind: &str) -> rusqlite::Result<Option<Timestamp>> {
    let mut statement = connection.prepare("SELECT at_ms FROM told WHERE what = ?1")?;
    let mut rows = statement.query_map([kind], |row| row.get::<_, i64>(0))?;
    Ok(rows.next().transpose()?.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}

/// All values of a metric of an object since then, oldest first.
pub(super) fn series(connection: &Connection, object: &str, metric: &str, since: i64) -> rusqlite::Result<Vec<(Timestamp, f64)>> {
    connection
        .prepare("SELECT at_ms, value FROM sample WHERE object = ?1 AND metric = ?2 AND at_ms >= ?3 ORDER BY at_ms")?
        .query_map(params![object, metric, since], |row| {
            Ok((Timestamp::from_millisecond(row.get(0)?).unwrap_or_default(), row.get(1)?))
        })?
        .collect()
}
