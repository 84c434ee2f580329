//! `INFO` of Redis and of the servers that speak its protocol.
//!
//! Valkey, KeyDB and the services of clouds report the fields of Redis. Others report the same facts by other names, and a server
//! without a fact omits its field: a Sentinel saves nothing, a service of a cloud hides its files.

use std::collections::BTreeMap;

/// `INFO` by its keys.
pub type Info = BTreeMap<String, String>;

/// Fields of kvrocks and their names in Redis (kvrocks, `Server::GetPersistenceInfo`).
const KVROCKS: &[(&str, &str)] = &[
    ("last_bgsave_status", "rdb_last_bgsave_status"),
    ("bgsave_in_progress", "rdb_bgsave_in_progress"),
    ("last_bgsave_time", "rdb_last_save_time"),
];

/// Fields of Dragonfly and their names in Redis (dragonfly, `INFO PERSISTENCE`).
const DRAGONFLY: &[(&str, &str)] = &[
    ("saving", "rdb_bgsave_in_progress"),
    ("last_success_save", "rdb_last_save_time"),
    ("current_save_duration_sec", "rdb_current_bgsave_time_sec"),
    ("rdb_changes_since_last_success_save", "rdb_changes_since_last_save"),
];

/// Parses `key:value` lines, with the names of Redis; headings and other lines are ignored.
#[must_use]
pub fn parse_info(text: &str) -> Info {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let mut info: Info =
        lines.filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).collect();
    let names = if info.contains_key("dragonfly_version") { DRAGONFLY } else { KVROCKS };
    for (own, redis) in names {
        if let Some(value) = info.get(*own).cloned() {
            info.entry((*redis).to_owned()).or_insert(value);
        }
    }
    let time = |name: &str| info.get(name)?.parse::<i64>().ok();
    if let (Some(saved), Some(failed)) = (time("last_success_save"), time("last_failed_save")) {
        let status = if failed > saved { "err" } else { "ok" };
        info.entry("rdb_last_bgsave_status".to_owned()).or_insert_with(|| status.to_owned());
    }
    info
}

/// Number of keys in all databases: `db0:keys=5,expires=0`.
#[must_use]
pub fn keys(info: &Info) -> u64 {
    let databases = info.iter().filter(|(k, _)| k.strip_prefix("db").is_some_and(|n| n.parse::<u32>().is_ok()));
    let counts =
        databases.filter_map(|(_, v)| v.split(',').find_map(|part| part.trim().strip_prefix("keys=")?.parse::<u64>().ok()));
    counts.fold(0, u64::saturating_add)
}

/// Text of a reply: a bulk, simple or verbatim string or an integer; bytes that are not UTF-8 are replaced.
pub(super) fn text(reply: &redis::Value) -> Option<String> {
    match reply {
        redis::Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        redis::Value::SimpleString(text) | redis::Value::VerbatimString { text, .. } => Some(text.clone()),
        redis::Value::Int(n) => Some(n.to_string()),
        _ => None,
    }
}

/// The value of one setting in the reply to `CONFIG GET`, a list of names and values or a map.
pub(super) fn setting(reply: &redis::Value, name: &str) -> Option<String> {
    let is_named = |key: &redis::Value| text(key).is_some_and(|key| key.eq_ignore_ascii_case(name));
    match reply {
        redis::Value::Array(items) => items.chunks_exact(2).find(|pair| is_named(&pair[0])).and_then(|pair| text(&pair[1])),
        redis::Value::Map(pairs) => pairs.iter().find(|(key, _)| is_named(key)).and_then(|(_, value)| text(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    #[test]
    fn info_is_parsed_by_key_and_ignores_other_lines() {
        let info = parse_info(
            "# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\nnonsense\r\n",
        );
        assert_eq!(info.len(), 3);
        assert_eq!(info["db0"], "keys=1,expires=0");
    }

    #[test]
    fn failed_snapshot_of_dragonfly_has_the_name_of_redis() {
        let info =
            |failed| parse_info(&format!("dragonfly_version:df-v1.25\nlast_success_save:100\nlast_failed_save:{failed}\n"));
        assert_eq!(info(90)["rdb_last_bgsave_status"], "ok");
        assert_eq!((info(110)["rdb_last_bgsave_status"].as_str(), info(0)["rdb_last_save_time"].as_str()), ("err", "100"));
    }

    #[test]
    fn fields_of_redis_are_not_replaced() {
        let info = parse_info("rdb_last_bgsave_status:ok\nlast_bgsave_status:err\n");
        assert_eq!(info["rdb_last_bgsave_status"], "ok");
    }

    #[test]
    fn keys_of_all_databases() {
        let info = parse_info("db0:keys=5,expires=0\ndb1: expires=0, keys=2\ndb2:nonsense\ndb_size:9\n");
        assert_eq!(keys(&info), 7);
    }

    #[test]
    fn setting_in_lists_and_maps() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let list = Value::Array(vec![bulk("Save"), bulk("3600 1")]);
        let map = Value::Map(vec![(Value::SimpleString("save".to_owned()), bulk("\u{fffd}"))]);
        assert_eq!((setting(&list, "save").as_deref(), setting(&map, "save").as_deref()), (Some("3600 1"), Some("\u{fffd}")));
        assert_eq!((setting(&list, "dir"), setting(&Value::Nil, "save")), (None, None));
        assert_eq!(setting(&Value::Array(vec![bulk("save")]), "save"), None);
    }
}
