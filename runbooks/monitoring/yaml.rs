//! YAML configurations in the APIs of Prometheus and Alertmanager.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Limit of nested values.
const MAX_DEPTH: usize = 40;

/// A list or mapping that is not complete.
enum Open {
    List(Vec<Value>),
    /// The entries, and the key of the value that follows.
    Mapping(Map<String, Value>, Option<String>),
}

/// Parses one document. Scalars are strings, an absent one is null. `None` if it is invalid, or has aliases: these programs expand
/// them, and an alias can multiply the size of a document.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let value = match event.ok()?.0 {
            Event::SequenceStart(..) if open.len() < MAX_DEPTH => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) if open.len() < MAX_DEPTH => {
                open.push(Open::Mapping(Map::new(), None));
                continue;
            }
            Event::Scalar(text, style, ..) => match &*text {
                "" | "null" | "~" if style == ScalarStyle::Plain => Value::Null,
                text => Value::String(text.to_owned()),
            },
            Event::SequenceEnd | Event::MappingEnd => match open.pop()? {
                Open::List(items) => Value::Array(items),
                Open::Mapping(entries, _) => Value::Object(entries),
            },
            Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..) => return None,
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Mapping(entries, key)) => match (key.take(), value) {
                (Some(key), value) => _ = entries.insert(key, value),
                (None, Value::String(name)) => *key = Some(name),
                (None, Value::Null) => *key = Some("null".to_owned()),
                (None, _) => return None,
            },
            None if document.is_none() => document = Some(value),
            // a second document
            None => return None,
        }
    }
    Some(document.unwrap_or_default())
}

/// A list below a key; empty if it is absent.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The strings of a list below a key.
pub(super) fn texts<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list(value, key).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::parse;

    #[test]
    fn layout_of_prometheus() {
        let text = "global:\n  external_labels:\n    cluster: prod eu\nrule_files:\n- rules/*.yml\n- 'a: b.yml'\nscrape_configs:\n\
                    - job_name: 'a \"quoted\" name that is very long and goes on for more\n    than eighty characters: # odd'\n  metric_relabel_configs:\n\
                    \x20 - source_labels: [__name__, \"a,b\"]\n    regex: .*\n    action: drop\n  static_configs:\n  - targets:\n    - 127.0.0.1:1\n\
                    - job_name: \"null\"\n  params:\n    match[]:\n    - '{job=~\".+\"}'\n  empty: []\n  bearer:\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "global": {"external_labels": {"cluster": "prod eu"}},
                "rule_files": ["rules/*.yml", "a: b.yml"],
                "scrape_configs": [
                    {
                        "job_name": "a \"quoted\" name that is very long and goes on for more than eighty characters: # odd",
                        "metric_relabel_configs": [{"source_labels": ["__name__", "a,b"], "regex": ".*", "action": "drop"}],
                        "static_configs": [{"targets": ["127.0.0.1:1"]}],
                    },
                    {"job_name": "null", "params": {"match[]": ["{job=~\".+\"}"]}, "empty": [], "bearer": null},
                ],
            })
        );
    }

    /// Printed by Alertmanager 0.25 for nested time intervals: brackets from the second level on.
    #[test]
    fn layout_of_alertmanager() {
        let text = "time_intervals:\n- name: nights\n  time_intervals:\n  - times:\n    - start_time: \"22:00\"\n      end_time: \"24:00\"\n\
                    \x20   weekdays: ['monday:friday', saturday]\n- {name: past, time_intervals: [{days_of_month: [\"1:5\", '-3:-1'], months: [\"1\", \"3:5\"],\n\
                    \x20     years: ['2020:2021']}]}\nroute:\n  matchers:\n  - a!~\"b'c\"\n  text: |-\n    {{ a }}\n      b\n  last: x\n";
        let value = parse(text).unwrap();
        assert_eq!(value.pointer("/time_intervals/0/time_intervals/0/weekdays/0"), Some(&json!("monday:friday")));
        assert_eq!(value.pointer("/time_intervals/1/time_intervals/0/years/0"), Some(&json!("2020:2021")));
        assert_eq!(value["route"], json!({"matchers": ["a!~\"b'c\""], "text": "{{ a }}\n  b", "last": "x"}));
    }

    #[test]
    fn unknown_layouts_are_rejected() {
        for text in ["a: [b", "a: {b", "a: \"b", "- a\nb: c", "a: &x b\nc: *x", "a: 1\n---\nb: 2", "? [a]\n: b"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"- ".repeat(1000)), None);
        assert_eq!(parse(&format!("a: {}", "[".repeat(1000))), None);
        assert_eq!(parse(""), Some(json!(null)));
    }
}
