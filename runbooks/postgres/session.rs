//! The session, and questions of which one may go without an answer.

use std::sync::Arc;

use opsctl_core::model::Target;
use opsctl_core::probe::servers::postgres::{NoAnswer, Session};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::de::DeserializeOwned;

/// The session, for checks that have nothing to say without one.
pub(super) async fn session(cx: &ProbeCx, target: &Target) -> Result<Arc<Session>, ProbeError> {
    cx.postgres(target).await?.map_err(|why| why.skip("postgres.up"))
}

/// The rows of a query, or a gap that says what could not be seen.
pub(super) async fn rows<T: DeserializeOwned>(session: &Session, what: &str, sql: &str, gaps: &mut Vec<String>) -> Vec<T> {
    session.rows(sql).await.unwrap_or_else(|why| {
        gaps.push(gap(session, what, &why));
        Vec::new()
    })
}

/// The one row of a query, or a gap.
pub(super) async fn row<T: DeserializeOwned>(session: &Session, what: &str, sql: &str, gaps: &mut Vec<String>) -> Option<T> {
    match session.row(sql).await {
        Ok(row) => Some(row),
        Err(why) => {
            gaps.push(gap(session, what, &why));
            None
        }
    }
}

fn gap(session: &Session, what: &str, why: &NoAnswer) -> String {
    match why {
        // insufficient_privilege
        NoAnswer::Said { sqlstate, .. } if sqlstate == "42501" => {
            format!("role {0} may not see {what}: `GRANT pg_monitor TO {0}`", session.user)
        }
        other => format!("{what} could not be read: {other}"),
    }
}

/// A statement without its literals, which are other people's data.
pub(super) fn without_literals(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            out.push_str("'…'");
            // a doubled quote is part of the literal; one that is cut off goes to the end
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
    fn literals_are_not_shown() {
        assert_eq!(
            without_literals("UPDATE t SET a = 'it''s', b = 'x'\n WHERE c = 3"),
            "UPDATE t SET a = '…', b = '…' WHERE c = 3"
        );
        assert_eq!(without_literals("SELECT 'cut off"), "SELECT '…'");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".*") {
            let _ = without_literals(&text);
        }
    }
}
