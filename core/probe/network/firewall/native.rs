//! Parser of `nft --json list ruleset` (libnftables-json(5)).

use serde_json::{Value, json};

use crate::probe::network::firewall::{Backend, Chain, Effect, Firewall, Rule};

/// Tables of iptables in nftables: read through iptables, because nft shows their rules without arguments.
const IPTABLES_TABLES: &[&str] = &["filter", "nat", "mangle", "raw", "security"];

/// Adds the tables in `text` that belong to nftables only.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn add(firewall: &mut Firewall, text: &str) -> Result<(), serde_json::Error> {
    if text.trim().is_empty() {
        return Ok(());
    }
    add_parsed(firewall, &serde_json::from_str(text)?);
    Ok(())
}

/// Adds the tables of a listing that belong to nftables only.
pub(super) fn add_parsed(firewall: &mut Firewall, all: &Value) {
    let listed: Vec<Chain> = firewall.chains.iter().filter(|c| c.backend == Backend::Nft).cloned().collect();
    let items = || all.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let dormant: Vec<&Value> = items().filter_map(|item| item.get("table")).filter(|table| is_dormant(table)).collect();
    for item in items() {
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
        if dormant.iter().any(|t| (t.get("family"), t.get("name")) == (item.get("family"), item.get("table"))) {
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
            let expressions = item.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let expanded = expanded(expressions).into_iter();
            firewall.rules.extend(expanded.map(|expressions| rule(&table, word("chain"), &expressions)));
        }
    }
}

/// A dormant table has no effect (nft(8)).
fn is_dormant(table: &Value) -> bool {
    match table.get("flags") {
        Some(Value::Array(flags)) => flags.iter().any(|f| f == "dormant"),
        Some(flag) => flag == "dormant",
        None => false,
    }
}

/// A rule that ends in a map of verdicts as one rule for each element of the map.
fn expanded(expressions: &[Value]) -> Vec<Vec<Value>> {
    let map = expressions.iter().enumerate().find_map(|(at, e)| Some((at, e.get("vmap")?)));
    let elements = map.and_then(|(_, map)| map.get("data")?.get("set")?.as_array());
    let (Some((at, map)), Some(elements)) = (map, elements) else { return vec![expressions.to_vec()] };
    let key = map.get("key").unwrap_or(&Value::Null);
    let of_element = |element: &Value| {
        let right = element.get(0)?;
        let mut one = expressions[..at].to_vec();
        if right != "*" {
            one.push(json!({"match": {"op": "==", "left": key, "right": right}}));
        }
        one.push(element.get(1)?.clone());
        Some(one)
    };
    elements.iter().filter_map(of_element).collect()
}

fn is_interface(left: &str) -> bool {
    matches!(left, "iifname" | "iif" | "oifname" | "oif")
}

/// Whether a condition compares interfaces in a way that is not read: with a named set, by kind or group, or in a concatenation.
fn is_open(body: &Value, left: &str, right: &str) -> bool {
    let keys = body.pointer("/left/concat").and_then(Value::as_array);
    keys.is_some_and(|keys| keys.iter().any(|key| is_interface(&short(Some(key)))))
        || matches!(left, "iifkind" | "oifkind" | "iifgroup" | "oifgroup")
        || right.starts_with('@') && is_interface(left)
}

/// Adds a condition to a rule. Returns whether ICMP "fragmentation needed" can still match.
fn narrow(rule: &mut Rule, left: &str, right: &str, not: bool) -> bool {
    let (value, mut icmp) = (if not { format!("!{right}") } else { right.to_owned() }, true);
    let several = right.contains(", ");
    let each = || right.split(", ").map(|one| if not { format!("!{one}") } else { one.to_owned() }).collect();
    // conditions of the first packet of every connection over IPv4
    let always = match left {
        "ct state" => right.split(", ").any(|s| s == "new") != not,
        "nfproto" => right == "ipv4" && !not,
        _ => is_interface(left) && !several,
    };
    match left {
        "iifname" | "iif" if several => rule.inputs = each(),
        "oifname" | "oif" if several => rule.outputs = each(),
        "iifname" | "iif" => rule.input = Some(value),
        "oifname" | "oif" => rule.output = Some(value),
        "ip saddr" => rule.source = Some(value),
        "ct state" => {
            rule.established = !always && (not || !right.contains("invalid"));
            rule.conditional |= !always;
        }
        "icmp type" => {
            rule.icmp = right.contains("destination-unreachable") && !not;
            (rule.protocol, rule.conditional) = (Some("icmp".to_owned()), true);
        }
        "icmp code" => {
            icmp = right.contains("frag-needed") || right == "4";
            rule.conditional = true;
        }
        "l4proto" | "ip protocol" => {
            rule.icmp |= right.split(", ").any(|p| p == "icmp" || p == "1") && !not;
            icmp = rule.icmp;
            rule.protocol = Some(value);
        }
        _ => rule.conditional |= !always,
    }
    (rule.every, rule.plain) = (false, rule.plain && always);
    icmp
}

fn rule(table: &str, chain: &str, expressions: &[Value]) -> Rule {
    let mut rule = Rule::new(Backend::Native, table.to_owned(), chain.to_owned());
    let mut parts: Vec<String> = Vec::new();
    let (mut other_protocol, mut unlisted, mut unlisted_source) = (false, false, false);
    for expression in expressions {
        let Some((name, body)) = expression.as_object().and_then(|o| o.iter().next()) else { continue };
        match name.as_str() {
            "counter" => rule.packets = body.get("packets").and_then(Value::as_u64),
            "comment" | "log" => {}
            "match" => {
                let (left, right) = (short(body.get("left")), short(body.get("right")));
                let not = body.get("op").and_then(Value::as_str) == Some("!=");
                if is_open(body, &left, &right) {
                    (rule.every, rule.plain, unlisted) = (false, false, true);
                } else {
                    other_protocol |= !narrow(&mut rule, &left, &right, not);
                }
                unlisted_source |= right.starts_with('@') && left == "ip saddr";
                let value = if not { format!("!{right}") } else { right };
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
            // the elements of a named map are not listed, and a program decides for a queue
            "vmap" | "queue" => {
                rule.effect = Effect::External;
                parts.push(name.clone());
            }
            // statements without a condition
            "mangle" | "notrack" | "set" | "flow" | "ct helper" => parts.push(name.clone()),
            other => {
                // an unknown expression may match anything
                (rule.every, rule.plain, rule.conditional) = (false, false, true);
                parts.push(other.to_owned());
            }
        }
        if matches!(name.as_str(), "accept" | "drop" | "reject" | "return" | "masquerade" | "snat") {
            parts.push(name.clone());
        }
    }
    rule.icmp &= !other_protocol;
    let passes = matches!(rule.effect, Effect::Accept | Effect::Jump(_));
    // a list of sources or interfaces to drop does not contain the own networks
    if (unlisted || unlisted_source) && passes {
        rule.effect = Effect::External;
    } else if unlisted && rule.effect != Effect::External {
        rule.conditional = true;
    }
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
                "elem" => short(body.get("val")),
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
    fn map_of_verdicts_is_one_rule_for_each_element() {
        let map = r#"{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["docker0", {"accept": null}], ["eth0", {"jump": {"target": "wan"}}]]}}}"#;
        let rule = format!(r#"{{"rule": {{"family": "inet", "table": "f", "chain": "forward", "expr": [{map}]}}}}"#);
        let rules = parsed(&rule).rules;
        let found: Vec<_> = rules.iter().map(|r| (r.input.as_deref(), r.effect.clone(), r.plain)).collect();
        assert_eq!(found, [(Some("docker0"), Effect::Accept, true), (Some("eth0"), Effect::Jump("wan".into()), true)]);
    }

    #[test]
    fn elements_that_are_not_listed_leave_the_effect_open() {
        let left = r#"{"meta": {"key": "iifname"}}"#;
        let set = rule_of(&format!(r#"{{"match": {{"op": "==", "left": {left}, "right": "@trusted"}}}}, {{"accept": null}}"#));
        let map = rule_of(&format!(r#"{{"vmap": {{"key": {left}, "data": "@dispatch"}}}}"#));
        assert_eq!((set.effect, map.effect), (Effect::External, Effect::External));
        let from = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@list"}}"#;
        let (accepts, drops) =
            (rule_of(&format!(r#"{from}, {{"accept": null}}"#)), rule_of(&format!(r#"{from}, {{"drop": null}}"#)));
        assert_eq!((accepts.effect, drops.effect), (Effect::External, Effect::Drop));
    }

    #[test]
    fn concatenation_is_open_if_it_contains_interfaces() {
        let of = |keys: &str, verdict: &str| {
            let left = format!(r#"{{"concat": [{keys}]}}"#);
            let rule = rule_of(&format!(r#"{{"match": {{"op": "==", "left": {left}, "right": "@x"}}}}, {{"{verdict}": null}}"#));
            (rule.effect, rule.conditional)
        };
        let interfaces = r#"{"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}"#;
        let service = r#"{"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "tcp", "field": "dport"}}"#;
        assert_eq!(of(interfaces, "accept"), (Effect::External, false));
        assert_eq!(of(interfaces, "drop"), (Effect::Drop, true));
        assert_eq!(of(service, "accept"), (Effect::Accept, true));
    }

    #[test]
    fn several_interfaces_are_a_list() {
        let rule = rule_of(
            r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["docker0", "br-*"]}}}, {"accept": null}"#,
        );
        assert_eq!((rule.inputs, rule.input, rule.conditional), (vec!["docker0".to_owned(), "br-*".to_owned()], None, false));
    }

    #[test]
    fn dormant_table_has_no_rules() {
        let text = r#"{"nftables": [{"table": {"family": "inet", "name": "f", "flags": ["dormant"]}},
            {"chain": {"family": "inet", "table": "f", "name": "forward", "hook": "forward", "policy": "drop"}}]}"#;
        let mut firewall = Firewall::default();
        add(&mut firewall, text).unwrap();
        assert!(firewall.chains.is_empty() && firewall.nft_chains.is_empty());
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
