//! The kinds of data in a recording, for the person who sends it.

use std::net::IpAddr;

use opsctl_core::model::address::Address;
use serde_json::Value;

use crate::engine::Recording;

/// A kind of data, by the keys of the evidence or by the form of a string.
struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
    form: fn(&str) -> bool,
}

fn is_never(_: &str) -> bool {
    false
}

/// In the order in which they are printed.
const KINDS: &[Kind] = &[
    Kind {
        name: "host, container, image and unit names",
        keys: &["hostname", "containers", "units", "image", "unit"],
        form: is_never,
    },
    Kind { name: "process names and arguments", keys: &["comm", "processes", "argv", "command", "program"], form: is_never },
    Kind {
        name: "user, role and database names",
        keys: &["user", "users", "role", "roles", "database", "owner"],
        form: is_never,
    },
    Kind { name: "IP addresses", keys: &[], form: is_address },
    Kind {
        name: "URLs and domain names",
        keys: &["url", "urls", "names", "server_name", "domains"],
        form: |text| text.contains("://"),
    },
    Kind { name: "file paths", keys: &["path", "paths", "mountpoint"], form: |text| text.starts_with('/') && text.len() > 1 },
    Kind { name: "log lines", keys: &["lines", "log", "logs", "journal", "tail", "stderr", "output"], form: is_never },
    Kind { name: "SQL statements", keys: &["query", "queries", "statement", "sql"], form: is_never },
];

fn is_address(text: &str) -> bool {
    Address::parse(text).host().parse::<IpAddr>().is_ok()
}

/// The kinds of data in `recording`.
pub(super) fn kinds(recording: &Recording) -> Vec<&'static str> {
    let value = serde_json::to_value(recording).unwrap_or_default();
    let mut found = vec![false; KINDS.len()];
    walk("", &value, &mut found);
    KINDS.iter().zip(found).filter(|(_, found)| *found).map(|(kind, _)| kind.name).collect()
}

fn walk(key: &str, value: &Value, found: &mut [bool]) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(key, value, found)),
        Value::Array(list) => list.iter().for_each(|value| walk(key, value, found)),
        Value::String(text) if !text.is_empty() => {
            for (kind, found) in KINDS.iter().zip(found) {
                *found |= kind.keys.contains(&key) || (kind.form)(text);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &Value) -> Vec<&'static str> {
        let mut found = vec![false; KINDS.len()];
        walk("", value, &mut found);
        KINDS.iter().zip(found).filter(|(_, found)| *found).map(|(kind, _)| kind.name).collect()
    }

    #[test]
    fn kinds_follow_keys_and_forms() {
        let value = serde_json::json!({
            "query": "SELECT 1",
            "peer": "10.0.0.1:5432",
            "file": "/etc/hosts",
            "message": "ok",
            "user": "",
        });
        assert_eq!(of(&value), ["IP addresses", "file paths", "SQL statements"]);
    }

    #[test]
    fn address_with_port_mask_or_scheme() {
        for text in ["10.0.0.1", "10.0.0.1:80/tcp", "10.0.0.0/8", "::1", "[::1]:80", "::1:50000", "http://[::1]/"] {
            assert!(is_address(text), "{text}");
        }
        assert!(!is_address("db:5432") && !is_address("1.2.3"));
    }

    #[test]
    fn recording_without_names_has_no_kinds() {
        assert_eq!(of(&serde_json::json!({"used": 1, "state": "running", "version": "1.2.3"})), Vec::<&str>::new());
    }
}
