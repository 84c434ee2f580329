//! Rows of catalogues: statements for older versions, and rows read one by one.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Features that older versions lack: the first version with it, the text of a statement, and its replacement (PostgreSQL, "Release Notes", of
/// 10, 12 and 13).
const REPLACED: &[(u32, &str, &str)] = &[
    (13, "wal_status AS status, safe_wal_size AS safe", "NULL::text AS status, NULL::bigint AS safe"),
    (12, "pg_ls_archive_statusdir()", "(SELECT f AS name FROM pg_ls_dir('pg_wal/archive_status') AS f) AS files"),
    (12, "coalesce(sum(checksum_failures), 0)::bigint", "0::bigint"),
    (12, "string_agg(datname, ', ') FILTER (WHERE checksum_failures > 0)", "NULL::text"),
    (12, "EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)", "FALSE"),
    (12, "extract(epoch FROM clock_timestamp() - r.reply_time)::float8", "NULL::float8"),
    // a line of recovery.conf
    (12, "current_setting('primary_conninfo') <> ''", "NULL::bool"),
    (10, "active, temporary,", "active, FALSE AS temporary,"),
    (10, "coalesce(a.backend_type, 'client backend') = 'client backend'", "TRUE"),
    (10, "backend_type = 'client backend'", "query <> '<insufficient privilege>'"),
    (10, "backend_type = 'checkpointer'", "FALSE"),
    (10, "backend_type = 'startup'", "FALSE"),
    (10, "pg_is_wal_replay_paused", "pg_is_xlog_replay_paused"),
    (10, "backend_type IS NULL", "query = '<insufficient privilege>'"),
    (10, "pg_ls_waldir()", "(SELECT (pg_stat_file('pg_xlog/' || f)).size FROM pg_ls_dir('pg_xlog') AS f) AS files"),
    (10, "pg_ls_dir('pg_wal/", "pg_ls_dir('pg_xlog/"),
    (10, "pg_wal_lsn_diff", "pg_xlog_location_diff"),
    (10, "pg_current_wal_lsn", "pg_current_xlog_location"),
    (10, "pg_last_wal_receive_lsn", "pg_last_xlog_receive_location"),
    (10, "pg_last_wal_replay_lsn", "pg_last_xlog_replay_location"),
];

/// The statement without the features that a server of this major version lacks. An unknown version (0) counts as the newest.
pub(super) fn for_version(sql: &str, major: u32) -> Cow<'_, str> {
    let mut sql = Cow::Borrowed(sql);
    for (_, text, replacement) in REPLACED.iter().filter(|(before, ..)| major > 0 && major < *before) {
        if sql.contains(text) {
            sql = Cow::Owned(sql.replace(text, replacement));
        }
    }
    sql
}

/// A row in JSON, read by its column names. A column that is NULL, or a number that JSON does not have (`"Infinity"`), has its
/// default. `None` for a row of another shape.
pub(super) fn row<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut row: Value = serde_json::from_str(text).ok()?;
    if let Some(columns) = row.as_object_mut() {
        columns.retain(|_, value| !value.is_null());
    }
    if let Ok(found) = T::deserialize(&row) {
        return Some(found);
    }
    let is_number = |text: &str| !matches!(text, "NaN" | "Infinity" | "-Infinity");
    row.as_object_mut()?.retain(|_, value| value.as_str().is_none_or(is_number));
    T::deserialize(&row).ok()
}

/// Whether an SQLSTATE means that the server does not have the queried object: an undefined function, table, column or
/// setting, or a feature that is not supported.
#[must_use]
pub(super) fn is_missing_feature(sqlstate: &str) -> bool {
    matches!(sqlstate, "0A000" | "42P01" | "42883" | "42703" | "42704")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Slot {
        name: String,
        retained: Option<i64>,
        age_s: f64,
    }

    #[test]
    fn null_and_infinity_cost_their_column_only() {
        let slot = |age_s| Some(Slot { name: "s".to_owned(), retained: None, age_s });
        assert_eq!(row(r#"{"name":"s","retained":null,"age_s":1.5,"new":[1]}"#), slot(1.5));
        assert_eq!(row(r#"{"name":"s","age_s":null}"#), slot(0.0));
        assert_eq!(row(r#"{"name":"s","age_s":"Infinity"}"#), slot(0.0));
        assert_eq!((row::<Slot>(r#"{"name":7}"#), row::<Slot>("x")), (None, None));
    }

    #[test]
    fn statements_of_older_versions() {
        let sql =
            "SELECT count(*) FILTER (WHERE backend_type = 'client backend') FROM pg_stat_activity, pg_ls_archive_statusdir()";
        assert_eq!(for_version(sql, 17), sql);
        assert_eq!(for_version(sql, 0), sql);
        assert!(for_version(sql, 11).contains("pg_wal/archive_status") && for_version(sql, 11).contains("backend_type"));
        let old = for_version(sql, 9);
        assert!(old.contains("pg_xlog/archive_status") && !old.contains("backend_type"), "{old}");
    }

    #[test]
    fn replacements_of_replaced_text_follow_it() {
        // a replacement that an earlier row has already passed would stay in the statement
        for (i, (_, _, replacement)) in REPLACED.iter().enumerate() {
            let earlier = REPLACED[..i].iter().find(|(_, text, _)| replacement.contains(text));
            assert!(earlier.is_none(), "{replacement} contains {earlier:?}");
        }
    }
}
