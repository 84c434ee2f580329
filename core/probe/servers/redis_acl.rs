//! `ACL LOG`: rejected logins and commands of clients (Redis 6 and later).

use std::collections::BTreeMap;

use redis::{FromRedisValue, Value};
use serde::{Deserialize, Serialize};

use super::redis::{RedisCommandError, Session};
use super::redis_info::text;

/// Entries that are read; the server keeps 128 by default (`acllog-max-len`).
const MAX_ENTRIES: &str = "128";

/// An entry of `ACL LOG`. The server counts equal events within a minute in one entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclEntry {
    /// `auth`, `command`, `key`, `channel`.
    pub reason: String,
    /// The command for the reason `command`; empty otherwise, because names of keys are user data.
    pub command: String,
    /// Name of the user.
    pub user: String,
    /// Number of events.
    pub count: u64,
    /// Seconds since the last event.
    pub age_s: f64,
    /// Unix time of the first event in milliseconds (Redis 7.2 and later).
    pub created_ms: Option<i64>,
    /// Address of the client, with its port: `10.0.0.3:40112`.
    pub client: String,
}

impl AclEntry {
    fn of(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let reason = field("reason");
        let client = field("client-info");
        let address = client.split(' ').find_map(|f| f.strip_prefix("addr=")).unwrap_or_default().to_owned();
        Self {
            command: if reason == "command" { field("object").chars().take(64).collect() } else { String::new() },
            reason,
            user: field("username").chars().take(64).collect(),
            count: field("count").parse().unwrap_or(0),
            age_s: field("age-seconds").parse().unwrap_or(f64::MAX),
            created_ms: field("timestamp-created").parse().ok(),
            client: address,
        }
    }
}

/// A list of entries; one of another shape has no fields.
struct Entries(Vec<BTreeMap<String, String>>);

impl FromRedisValue for Entries {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let Value::Array(entries) = value else { return Ok(Self(Vec::new())) };
        Ok(Self(entries.iter().map(fields).collect()))
    }
}

/// Names and values of an entry, in RESP2 (a list) or RESP3 (a map).
fn fields(entry: &Value) -> BTreeMap<String, String> {
    let pair = |(name, value): (&Value, &Value)| Some((text(name)?, text(value)?));
    match entry {
        Value::Array(parts) => parts.chunks_exact(2).filter_map(|p| pair((&p[0], &p[1]))).collect(),
        Value::Map(parts) => parts.iter().filter_map(|(name, value)| pair((name, value))).collect(),
        _ => BTreeMap::new(),
    }
}

/// The log of a server, with the users that it knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AclLog {
    /// Entries, the newest first.
    pub entries: Vec<AclEntry>,
    /// The user of this session.
    pub own_user: String,
    /// Names of all users.
    pub users: Vec<String>,
}

/// Reads the log; `None` if the server has none, or this user may not read it.
pub async fn acl_log(session: &Session) -> Result<Option<AclLog>, RedisCommandError> {
    let entries = match session.query::<Entries>(&["ACL", "LOG", MAX_ENTRIES]).await {
        Ok(Entries(entries)) => entries,
        Err(RedisCommandError::Rejected(_)) => return Ok(None),
        Err(lost) => return Err(lost),
    };
    if entries.is_empty() {
        return Ok(Some(AclLog::default()));
    }
    let own_user = session.text(&["ACL", "WHOAMI"]).await.unwrap_or_default();
    let users = session.query::<Vec<String>>(&["ACL", "USERS"]).await.unwrap_or_default();
    let entries = entries.iter().map(AclEntry::of).collect();
    Ok(Some(AclLog { entries, own_user, users }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn entry_of_a_rejected_login() {
        let words = [
            ("count", "12"),
            ("reason", "auth"),
            ("context", "toplevel"),
            ("object", "AUTH"),
            ("username", "default"),
            ("age-seconds", "4.096"),
            ("client-info", "id=7 addr=10.0.0.3:40112 laddr=10.0.0.2:6379 fd=8 name= cmd=auth user=default"),
            ("timestamp-created", "1795262400000"),
        ];
        let list = Value::Array(words.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect());
        let entry = AclEntry::of(&fields(&list));
        assert_eq!((entry.count, entry.user.as_str(), entry.client.as_str()), (12, "default", "10.0.0.3:40112"));
        assert_eq!((entry.command.as_str(), entry.created_ms, entry.age_s), ("", Some(1_795_262_400_000), 4.096));
        let map = Value::Map(words.iter().map(|(name, value)| (bulk(name), bulk(value))).collect());
        assert_eq!(AclEntry::of(&fields(&map)), entry);
        assert_eq!(AclEntry::of(&fields(&Value::Nil)).count, 0);
    }

    #[test]
    fn names_of_keys_are_left_out() {
        let entry = |reason: &str| {
            let fields = [("reason", reason), ("object", "session:canary")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            AclEntry::of(&BTreeMap::from(fields)).command
        };
        assert_eq!((entry("key").as_str(), entry("channel").as_str(), entry("command").as_str()), ("", "", "session:canary"));
    }
}
