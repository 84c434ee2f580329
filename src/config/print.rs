//! The configuration as text: a commented template, and the effective values.

use std::fmt::Write as _;

use opsctl_core::probe::{REDACTED, Redactor};
use toml::{Table, Value};

use super::parse::positions;
use super::problem::position;
use super::raw::Raw;
use super::schema::{Node, config_schema};

/// Width of comments, in characters.
const WIDTH: usize = 100;

/// A file with the documentation and the default of every key, commented out.
#[must_use]
pub fn commented_defaults() -> String {
    let mut out = String::from(
        "# opsctl configuration. All keys are optional: a commented line is the default,\n\
         # or an example if there is no default. `opsctl config check` validates changes.\n\
         # Custom checks are files in the directory runbooks.d beside this file.\n",
    );
    let schema = config_schema();
    section(Node::root(&schema), &Table::try_from(Raw::default()).unwrap_or_default(), &[], &mut out);
    out
}

fn section(node: Node<'_>, defaults: &Table, path: &[&str], out: &mut String) {
    let keys = node.keys().unwrap_or_default();
    for (name, key) in keys.iter().filter(|(_, k)| !is_table(*k) && rows(*k).is_none()) {
        comment(key.doc(), out);
        let default = defaults.get(*name).cloned();
        let example = default.is_none();
        let value = default.or_else(|| Value::try_from(key.example()).ok()).map_or_else(String::new, |v| v.to_string());
        let _ = writeln!(out, "# {} = {value}{}", bare(name), if example { "   # example" } else { "" });
    }
    for (name, key) in &keys {
        let path: Vec<&str> = path.iter().copied().chain([*name]).collect();
        if let Some(row) = rows(*key) {
            out.push('\n');
            comment(key.doc(), out);
            let _ = writeln!(out, "# [[{}]]", dotted(&path));
            for (name, key) in row.keys().unwrap_or_default() {
                let value = Value::try_from(key.example()).map_or_else(|_| String::new(), |v| v.to_string());
                let _ = writeln!(out, "# {} = {value}   # {}", bare(name), key.doc().replace('\n', " "));
            }
        } else if is_table(*key) {
            let own = key.keys().unwrap_or_default();
            // a table that contains only tables needs no header, a runbook without settings no section
            if own.iter().any(|(_, k)| !is_table(*k)) {
                out.push('\n');
                comment(key.doc(), out);
                let _ = writeln!(out, "[{}]", dotted(&path));
            }
            let inner = defaults.get(*name).and_then(Value::as_table).cloned().unwrap_or_default();
            section(*key, &inner, &path, out);
        }
    }
}

/// The effective values, each with the line that set it.
#[must_use]
pub fn effective(raw: &Raw, text: &str) -> String {
    let positions = positions(text);
    let origin = |path: &[&str]| {
        positions
            .iter()
            .find(|(p, _)| p == path)
            .map_or_else(|| "default".to_owned(), |(_, span)| format!("line {}", position(text, span.start).0))
    };
    let mut out = String::new();
    values(&Table::try_from(raw).unwrap_or_default(), &[], &origin, &mut out);
    out
}

fn values(table: &Table, path: &[&str], origin: &dyn Fn(&[&str]) -> String, out: &mut String) {
    let child = |name: &'_ str| -> Vec<String> { path.iter().map(|p| (*p).to_owned()).chain([name.to_owned()]).collect() };
    let mut header = path.is_empty();
    for (name, value) in table.iter().filter(|(_, v)| !v.is_table() && !is_rows(v)) {
        let path_here = child(name);
        let path_here: Vec<&str> = path_here.iter().map(String::as_str).collect();
        if !header {
            let _ = writeln!(out, "{}[{}]", if out.is_empty() { "" } else { "\n" }, dotted(path));
            header = true;
        }
        let _ = writeln!(out, "{} = {}   # {}", bare(name), without_secret(name, value), origin(&path_here));
    }
    for (name, value) in table {
        let path_here = child(name);
        let path_here: Vec<&str> = path_here.iter().map(String::as_str).collect();
        match value {
            Value::Table(inner) => values(inner, &path_here, origin, out),
            Value::Array(rows) if is_rows(value) => {
                for row in rows.iter().filter_map(Value::as_table) {
                    let from = origin(&path_here);
                    let _ = writeln!(out, "{}[[{}]]   # {from}", if out.is_empty() { "" } else { "\n" }, dotted(&path_here));
                    row.iter().for_each(|(name, value)| {
                        let _ = writeln!(out, "{} = {}", bare(name), without_secret(name, value));
                    });
                }
            }
            _ => {}
        }
    }
}

/// Masks passwords; variables are shown.
fn without_secret(name: &str, value: &Value) -> String {
    let shown = value.to_string();
    match value.as_str() {
        Some(text) if name == "password" && !text.starts_with("${") => format!("\"{REDACTED}\""),
        // the URL of a webhook is sufficient to post there
        Some(text) if matches!(name, "to" | "heartbeat") && text.starts_with("http") && !text.contains("${") => {
            let host = url::Url::parse(text).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
            format!("\"https://{host}/{REDACTED}\"")
        }
        Some(text) if name == "url" && !text.contains("${") => Redactor::default().scrub(&shown),
        _ => shown,
    }
}

fn is_table(node: Node<'_>) -> bool {
    node.keys().is_some()
}

/// The schema of the elements of a list of tables.
fn rows(node: Node<'_>) -> Option<Node<'_>> {
    node.items().filter(|item| is_table(*item))
}

fn is_rows(value: &Value) -> bool {
    value.as_array().is_some_and(|a| !a.is_empty() && a.iter().all(Value::is_table))
}

fn dotted(path: &[&str]) -> String {
    path.iter().map(|p| bare(p)).collect::<Vec<_>>().join(".")
}

/// A key, quoted if TOML requires it.
fn bare(key: &str) -> String {
    if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

fn comment(text: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
            let _ = writeln!(out, "{line}");
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::parse::parse;
    use super::*;

    #[test]
    fn template_equals_the_defaults_also_when_uncommented() {
        let text = commented_defaults();
        assert_eq!(parse(&text).unwrap_or_else(|p| panic!("{p:?}\n{text}")), Raw::default());
        let uncommented: String = text
            .lines()
            // rows of example tables have a trailing comment
            .filter(|l| !l.ends_with("# example") && !l.starts_with("# [[") && !l.contains("   # "))
            .map(|l| l.strip_prefix("# ").filter(|l| l.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '))).unwrap_or(l))
            .fold(String::new(), |all, l| all + l + "\n");
        assert!(uncommented.contains("\nmax_fixes_per_hour = 3\n"), "{uncommented}");
        let read = parse(&uncommented).unwrap_or_else(|p| panic!("{p:?}\n{uncommented}"));
        let plain = |raw: &Raw| Table::try_from(raw).unwrap();
        assert_eq!(plain(&read), plain(&Raw::default()));
    }

    #[test]
    fn every_key_of_the_template_is_documented() {
        let text = commented_defaults();
        let lines: Vec<&str> = text.lines().collect();
        let mut keys = 0;
        for pair in lines
            .windows(2)
            .filter(|p| p[1].starts_with("# ") && p[1].split_once(" = ").is_some_and(|(k, _)| !k[2..].contains(' ')))
        {
            keys += 1;
            assert!(pair[0].starts_with('#') || pair[1].contains("   # "), "{} has no comment", pair[1]);
        }
        assert!(keys >= 7, "{text}");
    }

    #[test]
    fn effective_values_with_their_lines() {
        let text = "[policy]\nmax_fixes_per_hour = 5\n\n[[owner]]\nmatch = \"web*\"\nowner = \"a\"\n";
        let shown = effective(&parse(text).unwrap(), text);
        insta::assert_snapshot!(shown.split("[runbooks").next().unwrap().trim_end(), @r#"
        alert = []   # default
        delivery = []   # default
        endpoint = []   # default
        server = []   # default
        waiver = []   # default

        [listen]
        address = "127.0.0.1:9797"   # default
        hmac_header = "X-Grafana-Alerting-Signature"   # default
        hmac_timestamp_header = "X-Grafana-Alerting-Timestamp"   # default
        hmac_window = "5m"   # default
        hosts = []   # default
        origins = []   # default
        queue = 1000   # default
        repeat_after = "5m"   # default
        runs_per_minute = 6   # default
        socket_groups = []   # default
        socket_users = []   # default

        [[owner]]   # line 4
        match = "web*"
        owner = "a"

        [policy]
        allow = []   # default
        max_fixes_per_hour = 5   # line 2
        max_fixes_per_hour_per_fix = 10   # default
        max_fixes_per_hour_per_host = 20   # default

        [report]
        file_mode = "0600"   # default
        remind_after = "24h"   # default

        [run]
        deadline = "10s"   # default
        history_days = 14   # default
        skip = []   # default
        "#);
        assert_eq!(parse(&shown).unwrap().policy, parse(text).unwrap().policy);
    }

    #[test]
    fn passwords_are_masked_and_variables_are_shown() {
        let text = "[[server]]\nname = \"a\"\npassword = \"canary-1\"\n[[server]]\nname = \"b\"\nurl = \"redis://:canary-2@h\"\n\
                    [[server]]\nname = \"c\"\npassword = \"${PW}\"\n";
        let shown = effective(&parse(text).unwrap(), text);
        assert!(!shown.contains("canary") && shown.contains("${PW}") && shown.contains("@h"), "{shown}");
        let text = "[report]\nheartbeat = \"https://hc.example.org/canary-3\"\n[[delivery]]\nto = \"https://hooks.slack.com/services/canary-4\"\n";
        let shown = effective(&parse(text).unwrap(), text);
        assert!(!shown.contains("canary") && shown.contains("hooks.slack.com") && shown.contains("hc.example.org"), "{shown}");
    }
}
