//! The session, and queries that report their failure as a gap.

use std::sync::Arc;

use opsctl_core::model::Object;
use opsctl_core::model::quantity::count;
use opsctl_core::probe::servers::postgres::{PostgresError, Session};
use opsctl_core::probe::{ProbeCx, ProbeError, UNEXPECTED_FORMAT};
use serde::de::DeserializeOwned;

/// The session; without one the check is skipped.
pub(super) async fn session(cx: &ProbeCx, target: &Object) -> Result<Arc<Session>, ProbeError> {
    cx.postgres(target).await?.map_err(|why| why.skip("postgres.up"))
}

/// The rows of a query, or a gap with the reason of its failure. `subject` names the queried data.
pub(super) async fn rows<T: DeserializeOwned>(session: &Session, subject: &str, sql: &str, gaps: &mut Vec<String>) -> Vec<T> {
    match session.rows_one_by_one(sql).await {
        Ok((rows, 0)) => rows,
        Ok((rows, odd)) => {
            gaps.push(format!("{} of {subject} could not be read: {UNEXPECTED_FORMAT}", count(odd, "row")));
            rows
        }
        Err(why) => {
            gaps.extend(gap(session, subject, &why));
            Vec::new()
        }
    }
}

/// The single row of a query, or a gap.
pub(super) async fn row<T: DeserializeOwned>(session: &Session, subject: &str, sql: &str, gaps: &mut Vec<String>) -> Option<T> {
    match session.row(sql).await {
        Ok(row) => Some(row),
        Err(why) => {
            gaps.extend(gap(session, subject, &why));
            None
        }
    }
}

/// The gap of a failed query; `None` if the server does not have the queried object.
fn gap(session: &Session, subject: &str, why: &PostgresError) -> Option<String> {
    Some(match why {
        lacking if session.lacks(lacking) => return None,
        // insufficient_privilege
        PostgresError::Server { sqlstate, .. } if sqlstate == "42501" => {
            format!("role {0} may not read {subject}: `GRANT pg_monitor TO {0}`", session.user)
        }
        other => format!("{subject} could not be read: {other}"),
    })
}

/// Removes the literals from a statement, because they may contain private data.
pub(super) fn without_literals(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            out.push_str("'…'");
            // a doubled quote is part of the literal; a truncated literal extends to the end
            while let Some(inner) = chars.next() {
                if inner == '\'' && chars.next_if_eq(&'\'').is_none() {
                    break;
                }
            }
        } else {
            out.push(if c.is_whitespace() { ' ' } else { c });
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_replaced() {
        assert_eq!(
            without_literals("UPDATE t SET a = 'it''s', b = 'x'\n WHERE c = 3"),
            "UPDATE t SET a = '…', b = '…' WHERE c = 3"
        );
        assert_eq!(without_literals("SELECT 'cut off"), "SELECT '…'");
    }
}
