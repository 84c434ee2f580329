//! Parser of TOML files that reports all unknown keys and names the key in every message.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::names::did_you_mean;
use super::problem::ValidationError;
use super::raw::Raw;
use super::schema::{Node, config_schema};

/// Parses the text of a configuration file.
pub fn parse(text: &str) -> Result<Raw, Vec<ValidationError>> {
    parse_as(text, &config_schema())
}

/// Parses the text of a file with this schema.
pub(super) fn parse_as<T: DeserializeOwned>(text: &str, schema: &Value) -> Result<T, Vec<ValidationError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |e: &toml::de::Error| ValidationError::new(e.span().unwrap_or(0..0), syntax(e, text, &table));
        let mut problems: Vec<ValidationError> = errors.iter().map(problem).collect();
        problems.sort_by_key(|p| p.span.start);
        return Err(problems);
    }
    let mut problems = Vec::new();
    unknown_keys(Node::root(schema), table.get_ref(), &mut Vec::new(), schema, &mut problems);
    if !problems.is_empty() {
        problems.sort_by_key(|p| p.span.start);
        return Err(problems);
    }
    T::deserialize(toml::de::Deserializer::from(table.clone())).map_err(|e| {
        let span = e.span().unwrap_or(0..0);
        let key = path_at(table.get_ref(), span.start).unwrap_or_default();
        let message = toml_terms(e.message());
        vec![ValidationError::new(
            span,
            if key.is_empty() { message } else { format!("`{}`{}: {message}", last(&key), inside(&key)) },
        )]
    })
}

/// Positions of the values of a TOML file: path and byte range.
pub(super) fn positions(text: &str) -> Vec<(Vec<String>, Range<usize>)> {
    fn walk(table: &DeTable<'_>, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Range<usize>)>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            out.push((path.clone(), key.span()));
            if let DeValue::Table(inner) = value.get_ref() {
                walk(inner, path, out);
            }
            path.pop();
        }
    }
    let mut out = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        walk(table.get_ref(), &mut Vec::new(), &mut out);
    }
    out
}

fn syntax(error: &toml::de::Error, text: &str, table: &Spanned<DeTable<'_>>) -> String {
    let message = toml_terms(error.message());
    match (error.message(), error.span()) {
        ("duplicate key", Some(span)) => {
            let key = text.get(span.clone()).unwrap_or_default();
            let first = spans(table.get_ref())
                .into_iter()
                .filter(|s| text.get(s.clone()) == Some(key) && s.start < span.start)
                .max_by_key(|s| s.start);
            match first {
                Some(first) => format!("`{key}` is set twice; first in line {}", super::problem::position(text, first.start).0),
                None => format!("`{key}` is set twice"),
            }
        }
        _ => message,
    }
}

/// Spans of all keys, also for a text with errors.
fn spans(table: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    for (key, value) in table {
        out.push(key.span());
        if let DeValue::Table(inner) = value.get_ref() {
            out.extend(spans(inner));
        }
    }
    out
}

fn unknown_keys(
    node: Node<'_>,
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    schema: &Value,
    problems: &mut Vec<ValidationError>,
) {
    let Some(known) = node.keys() else {
        if let Some(values) = node.values() {
            table.iter().for_each(|(key, value)| nested(values, key, value, path, schema, problems));
        }
        return;
    };
    for (key, value) in table {
        match known.iter().find(|(name, _)| *name == key.get_ref().as_ref()) {
            Some((_, inner)) => nested(*inner, key, value, path, schema, problems),
            None if node.closed() => {
                let name = key.get_ref().as_ref();
                let label = if path.as_slice() == ["runbooks"] { "unknown runbook" } else { "unknown key" };
                let mut hint = did_you_mean(name, known.iter().map(|(n, _)| *n));
                if hint.is_empty()
                    && let Some(home) = home_of(name, Node::root(schema), &mut Vec::new())
                {
                    hint = format!("; `{name}` belongs in [{home}]");
                }
                problems.push(ValidationError::new(key.span(), format!("{label} `{name}`{}{hint}", here(path))));
            }
            None => {}
        }
    }
}

fn nested(
    node: Node<'_>,
    key: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    path: &mut Vec<String>,
    schema: &Value,
    problems: &mut Vec<ValidationError>,
) {
    path.push(key.get_ref().to_string());
    match value.get_ref() {
        DeValue::Table(inner) => unknown_keys(node, inner, path, schema, problems),
        DeValue::Array(items) => {
            if let Some(item) = node.items() {
                for element in items {
                    if let DeValue::Table(inner) = element.get_ref() {
                        unknown_keys(item, inner, path, schema, problems);
                    }
                }
            }
        }
        _ => {}
    }
    path.pop();
}

/// The table that has a key of this name.
fn home_of(name: &str, node: Node<'_>, path: &mut Vec<String>) -> Option<String> {
    for (key, inner) in node.keys()? {
        if !path.is_empty() && key == name {
            return Some(path.join("."));
        }
        path.push(key.to_owned());
        let found = home_of(name, inner, path);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The key of the value at `offset`.
fn path_at(table: &DeTable<'_>, offset: usize) -> Option<Vec<String>> {
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let deeper = match value.get_ref() {
            DeValue::Table(inner) => path_at(inner, offset),
            DeValue::Array(items) => items.iter().find_map(|e| match e.get_ref() {
                DeValue::Table(inner) => path_at(inner, offset),
                _ => None,
            }),
            _ => None,
        };
        if let Some(mut path) = deeper {
            path.insert(0, name);
            return Some(path);
        }
        if value.span().contains(&offset) {
            return Some(vec![name]);
        }
    }
    None
}

fn last(path: &[String]) -> &str {
    path.last().map_or("", String::as_str)
}

fn inside(path: &[String]) -> String {
    here(&path[..path.len().saturating_sub(1)])
}

fn here(table: &[String]) -> String {
    if table.is_empty() { String::new() } else { format!(" in [{}]", table.join(".")) }
}

/// Replaces Rust types in messages of serde with TOML terms.
fn toml_terms(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "f64" | "f32" => "a number",
        "i64" | "i32" | "i16" | "i8" => "a whole number",
        "u64" | "u32" | "u16" | "u8" | "usize" => "a whole number that is not negative",
        "a string" | "a spanned value" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other => other,
    };
    let found = found.strip_prefix("invalid type: ").or_else(|| found.strip_prefix("invalid value: ")).unwrap_or(found);
    format!("{found}, expected {expected}")
}
