//! Parser of `nft --json list ruleset` (libnftables-json(5)).

use serde_json::Value;

use crate::probe::network::firewall::{Backend, Chain, Effect, Firewall, Rule};

/// Tables of iptables in nftables: read through iptables, because nft shows their rules without arguments.
const IPTABLES_TABLES: &[&str] = &["filter", "nat", "mangle", "raw", "security"];

/// Adds the tables in `text` that belong to nftables only.
pub(super) fn add(firewall: &mut Firewall, text: &str) -> Result<(), serde_json::Error> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let all: Value = serde_json::from_str(text)?;
    let listed: Vec<Chain> = firewall.chains.iter().filter(|c| c.backend == Backend::Nft).cloned().collect();
    for item in all.get("nftables").and_then(Value::as_array).into_iter().flatten() {
        let (kind, item) = match (item.get("chain"), item.get("rule")) {
            (Some(chain), _) => ("chain", chain),
            (_, Some(rule)) => ("rule", rule),
            _ => continue,
        };
        let word = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let (family, table) = (word("family"), word("table"));
        // IPv6 and the bridge family are out of scope
        if !matches!(family, "ip" | "inet" | "netdev") {
            continue;
        }
        if kind == "chain" {
            firewall.nft_chains.insert(format!("{family} {table} {}", word("name")));
        }
        if family == "ip" && IPTABLES_TABLES.contains(&table) && listed.iter().any(|c| c.table == table) {
            continue;
        }
        let table = format!("{family} {table}");
        if kind == "chain" {
            let hook = item.get("hook").and_then(Value::as_str).map(str::to_uppercase);
            let accepts = word("policy") != "drop";
            firewall.chains.push(Chain { backend: Backend::Native, table, name: word("name").to_owned(), hook, accepts });
        } else {
            firewall.rules.push(rule(table, word("chain").to_owned(), item));
        }
    }
    Ok(())
}

fn rule(table: String, chain: String, item: &Value) -> Rule {
    let expressions = item.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut rule = Rule::new(Backend::Native, table, chain);
    let mut parts: Vec<String> = Vec::new();
    let mut other_protocol = false;
    for expression in expressions {
        let Some((name, body)) = expression.as_object().and_then(|o| o.iter().next()) else { continue };
        match name.as_str() {
            "counter" => rule.packets = body.get("packets").and_then(Value::as_u64),
            "comment" | "log" => {}
            "match" => {
                rule.every = false;
                let (left, right) = (short(body.get("left")), short(body.get("right")));
                let not = body.get("op").and_then(Value::as_str) == Some("!=");
                let value = if not { format!("!{right}") } else { right.clone() };
                match left.as_str() {
                    "iifname" | "iif" | "oifname" | "oif" if right.contains(", ") => rule.plain = false,
                    "iifname" | "iif" => rule.input = Some(value.clone()),
                    "oifname" | "oif" => rule.output = Some(value.clone()),
                    "ip saddr" => rule.source = Some(value.clone()),
                    "ct state" => rule.established = !right.contains("new") && !right.contains("invalid") && !not,
                    "icmp type" => rule.icmp = right.contains("destination-unreachable") && !not,
                    "icmp code" => other_protocol |= !right.contains("frag-needed") && right != "4",
                    "l4proto" | "ip protocol" => {
                        rule.icmp |= right.split(", ").any(|p| p == "icmp" || p == "1") && !not;
                        other_protocol |= !rule.icmp;
                    }
                    _ => {}
                }
                rule.plain &= matches!(left.as_str(), "iifname" | "iif" | "oifname" | "oif");
                parts.push(format!("{left} {value}"));
            }
            "mangle" if short(body.get("key")).contains("maxseg") => {
                let value = body.get("value");
                rule.effect = match value.and_then(Value::as_u64) {
                    Some(n) => Effect::SetMss(u32::try_from(n).unwrap_or(u32::MAX)),
                    None => Effect::ClampMss,
                };
                let to = value.and_then(Value::as_u64).map_or_else(|| "rt mtu".to_owned(), |n| n.to_string());
                parts.push(format!("tcp option maxseg size set {to}"));
            }
            "accept" => rule.effect = Effect::Accept,
            "drop" | "reject" => rule.effect = Effect::Drop,
            "return" => rule.effect = Effect::Return,
            "masquerade" | "snat" => rule.effect = Effect::Masquerade,
            "jump" | "goto" => {
                let to = body.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
                parts.push(format!("{name} {to}"));
                rule.effect = Effect::Jump(to);
            }
            other => {
                // an unknown expression may match anything
                (rule.every, rule.plain) = (false, false);
                parts.push(other.to_owned());
            }
        }
        if matches!(name.as_str(), "accept" | "drop" | "reject" | "return" | "masquerade" | "snat") {
            parts.push(name.clone());
        }
    }
    rule.icmp &= !other_protocol;
    rule.text = parts.join(" ");
    rule
}

/// The essential part of an expression: `iifname`, `ip saddr`, `established, related`.
fn short(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        Some(Value::Array(all)) => all.iter().map(|v| short(Some(v))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(o)) => match o.iter().next() {
            Some((kind, body)) => match kind.as_str() {
                "meta" | "ct" => {
                    let key = short(body.get("key"));
                    if kind == "ct" { format!("ct {key}") } else { key }
                }
                "payload" => format!("{} {}", short(body.get("protocol")), short(body.get("field"))),
                "tcp option" => format!("tcp option {} {}", short(body.get("name")), short(body.get("field"))),
                "prefix" => format!("{}/{}", short(body.get("addr")), short(body.get("len"))),
                "set" | "|" | "&" => short(Some(body)),
                other => other.to_owned(),
            },
            None => String::new(),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parsed(rules: &str) -> Firewall {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"json_schema_version": 1}}}},
            {{"chain": {{"family": "inet", "table": "f", "name": "forward", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}}},
            {rules}]}}"#
        );
        let mut firewall = Firewall::default();
        add(&mut firewall, &text).unwrap();
        firewall
    }

    fn rule_of(expr: &str) -> Rule {
        let rule =
            format!(r#"{{"rule": {{"family": "inet", "table": "f", "chain": "forward", "handle": 2, "expr": [{expr}]}}}}"#);
        parsed(&rule).rules.remove(0)
    }

    #[test]
    fn mss_clamp_is_parsed() {
        let syn = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}}"#;
        let key = r#""key": {"tcp option": {"name": "maxseg", "field": "size"}}"#;
        let clamp = rule_of(&format!(
            r#"{syn}, {{"counter": {{"packets": 4, "bytes": 9}}}}, {{"mangle": {{{key}, "value": {{"rt": {{"key": "mtu"}}}}}}}}"#
        ));
        assert_eq!((clamp.effect, clamp.packets), (Effect::ClampMss, Some(4)));
        assert_eq!(clamp.text, "tcp flags syn tcp option maxseg size set rt mtu");
        let set = rule_of(&format!(r#"{syn}, {{"mangle": {{{key}, "value": 1360}}}}"#));
        assert_eq!(set.effect, Effect::SetMss(1360));
    }

    #[test]
    fn policies_states_and_icmp_are_parsed() {
        let f = parsed(
            r#"{"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [
                {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]}},
               {"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [
                {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "docker0"}}, {"accept": null}]}},
               {"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "icmp", "field": "type"}}, "right": "destination-unreachable"}}, {"drop": null}]}},
               {"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}}, {"drop": null}]}},
               {"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "icmp", "field": "type"}}, "right": "echo-request"}}, {"drop": null}]}},
               {"rule": {"family": "inet", "table": "f", "chain": "forward", "expr": [{"drop": null}]}}"#,
        );
        assert_eq!((f.chains[0].hook.as_deref(), f.chains[0].accepts), (Some("FORWARD"), false));
        let parts: Vec<_> = f.rules.iter().map(|r| (r.established, r.icmp, r.every)).collect();
        let (est, icmp, every, none) = ((true, false, false), (false, true, false), (false, false, true), (false, false, false));
        assert_eq!(parts, [est, none, icmp, icmp, none, every]);
        assert_eq!(f.rules[1].input.as_deref(), Some("docker0"));
        assert_eq!(f.rules[0].text, "ct state established, related accept");
    }

    #[test]
    fn iptables_tables_are_skipped_if_listed() {
        let text = r#"{"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "accept"}}]}"#;
        let mut firewall = Firewall::default();
        add(&mut firewall, text).unwrap();
        assert_eq!(firewall.chains.len(), 1, "not listed by iptables");
        let chain = Chain { backend: Backend::Nft, table: "filter".into(), name: "FORWARD".into(), hook: None, accepts: true };
        let mut firewall = Firewall { chains: vec![chain], ..Firewall::default() };
        add(&mut firewall, text).unwrap();
        assert_eq!(firewall.chains.len(), 1);
    }

    #[test]
    fn invalid_ruleset_is_an_error_or_empty() {
        for bad in ["", "{}", "[]", r#"{"nftables": [{"rule": 1}, {"rule": {"family": "ip", "expr": [1, {}, {"match": 2}]}}]}"#] {
            add(&mut Firewall::default(), bad).unwrap();
        }
        assert!(add(&mut Firewall::default(), "{").is_err());
    }
}
