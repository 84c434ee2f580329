//! Rules in the syntax of nft, as `nft list ruleset` prints them.

use serde_json::Value;

use super::word;

/// Limit of elements of an anonymous set in a text.
const MAX_ELEMENTS: usize = 12;

/// The text of a rule, without counters.
pub(super) fn rule(expressions: &[Value]) -> String {
    let parts: Vec<String> = expressions.iter().map(statement).filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

fn statement(expression: &Value) -> String {
    let Some((name, body)) = expression.as_object().and_then(|o| o.iter().next()) else { return text(expression) };
    let field = |key: &str| body.get(key).map(text).unwrap_or_default();
    match name.as_str() {
        "counter" | "comment" => String::new(),
        "match" => {
            let op = match word(body, "op") {
                "==" | "in" | "" => String::new(),
                op => format!("{op} "),
            };
            format!("{} {op}{}", field("left"), field("right"))
        }
        "vmap" => format!("{} vmap {}", field("key"), field("data")),
        "jump" | "goto" => format!("{name} {}", word(body, "target")),
        "mangle" => format!("{} set {}", field("key"), field("value")),
        "limit" => {
            format!("limit rate {}{}/{}", if body["inv"] == true { "over " } else { "" }, field("rate"), word(body, "per"))
        }
        "log" => match body.get("prefix").and_then(Value::as_str) {
            Some(prefix) => format!("log prefix \"{prefix}\""),
            None => "log".to_owned(),
        },
        "reject" => match body.get("type").and_then(Value::as_str) {
            Some(kind) => match body.get("expr") {
                Some(with) => format!("reject with {kind} {}", text(with)),
                None => format!("reject with {kind}"),
            },
            None => "reject".to_owned(),
        },
        "dnat" | "snat" | "redirect" | "masquerade" => {
            let (address, port) = (field("addr"), field("port"));
            match (address.is_empty(), port.is_empty()) {
                (true, true) => name.clone(),
                (false, true) => format!("{name} to {address}"),
                (true, false) => format!("{name} to :{port}"),
                (false, false) => format!("{name} to {address}:{port}"),
            }
        }
        "set" => format!("{} {} {{ {} }}", word(body, "op"), word(body, "set"), field("elem")),
        "xt" => format!("xt {} \"{}\"", word(body, "type"), word(body, "name")),
        _ => name.clone(),
    }
}

/// An expression.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => joined(all, ","),
        Value::Object(object) => object.iter().next().map(|(kind, body)| of_kind(kind, body)).unwrap_or_default(),
        Value::Bool(exists) => if *exists { "exists" } else { "missing" }.to_owned(),
        Value::Null => String::new(),
        Value::Number(n) => n.to_string(),
    }
}

fn of_kind(kind: &str, body: &Value) -> String {
    let pair = |separator: &str| joined(body.as_array().map(Vec::as_slice).unwrap_or_default(), separator);
    match kind {
        "meta" => match word(body, "key") {
            key @ ("iifname" | "oifname" | "iif" | "oif") => key.to_owned(),
            key => format!("meta {key}"),
        },
        "ct" => match word(body, "dir") {
            "" => format!("ct {}", word(body, "key")),
            direction => format!("ct {direction} {}", word(body, "key")),
        },
        "payload" => format!("{} {}", word(body, "protocol"), word(body, "field")),
        "fib" => {
            let flags = body.get("flags").map(text).unwrap_or_default();
            format!("fib {} {}", flags.replace(',', " . "), word(body, "result"))
        }
        "prefix" => format!("{}/{}", body.get("addr").map(text).unwrap_or_default(), body["len"]),
        "range" => pair("-"),
        "concat" => pair(" . "),
        "set" => match body.as_array() {
            Some(all) => {
                let shown: Vec<String> = all.iter().take(MAX_ELEMENTS).map(element).collect();
                let more = if all.len() > MAX_ELEMENTS { ", …" } else { "" };
                format!("{{ {}{more} }}", shown.join(", "))
            }
            None => text(body),
        },
        "elem" => body.get("val").map(text).unwrap_or_default(),
        "|" | "&" | "^" => pair(&format!(" {kind} ")),
        "map" => {
            format!("{} map {}", body.get("key").map(text).unwrap_or_default(), body.get("data").map(text).unwrap_or_default())
        }
        "accept" | "drop" | "return" | "continue" => kind.to_owned(),
        "jump" | "goto" => format!("{kind} {}", word(body, "target")),
        other => other.to_owned(),
    }
}

/// An element of a set, or of a map with its value.
fn element(value: &Value) -> String {
    match value.as_array().map(Vec::as_slice) {
        Some([key, data]) => format!("{} : {}", text(key), text(data)),
        _ => text(value),
    }
}

fn joined(all: &[Value], separator: &str) -> String {
    all.iter().map(text).collect::<Vec<_>>().join(separator)
}
