//! Parser of `nft --json list ruleset` (libnftables-json(5)) for the evaluation of its rules.

mod elements;
mod expression;
mod statement;
mod text;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::Value;

use super::packet::Hook;
use super::rule::{Base, Builder, Families, FilterRule, Kind, Names};
use crate::probe::network::firewall::Backend;

/// Tables of iptables in nftables: nft shows their rules without arguments, so those listed by iptables-save are used.
const IPTABLES_TABLES: &[&str] = &["filter", "nat", "mangle", "raw", "security"];

/// A table by its family and name.
type TableName<'a> = (&'a str, &'a str);

/// Tables while they are parsed.
struct Parser<'a> {
    rules: &'a mut Builder,
    chains: HashMap<TableName<'a>, Names>,
    /// Definitions of named sets and maps.
    sets: HashMap<(TableName<'a>, &'a str), &'a Value>,
    /// Sets to which rules add elements.
    dynamic: HashSet<(TableName<'a>, &'a str)>,
    /// Indices of parsed sets, by their name and keys.
    parsed: HashMap<(TableName<'a>, &'a str, String), usize>,
    /// The elements of named sets are listed.
    has_elements: bool,
}

fn word<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn table_of<'a>(item: &'a Value, key: &str) -> TableName<'a> {
    (word(item, "family"), word(item, key))
}

/// Adds the tables of nftables that iptables-save does not list.
pub(super) fn add(rules: &mut Builder, all: &Value, has_elements: bool) {
    let items = || all.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let listed: HashSet<(bool, String)> =
        rules.chains.iter().filter(|c| c.backend == Backend::Nft).map(|c| (c.ipv6, c.table.clone())).collect();
    let dormant: HashSet<TableName<'_>> =
        items().filter_map(|item| item.get("table")).filter(|t| is_dormant(t)).map(|t| table_of(t, "name")).collect();
    let of_iptables = |(family, table): TableName<'_>| {
        IPTABLES_TABLES.contains(&table)
            && (family == "ip" && listed.contains(&(false, table.to_owned()))
                || family == "ip6" && listed.contains(&(true, table.to_owned())))
    };
    // base chains that nft added to a table of iptables, which iptables-save lists without their hook
    let extended: HashSet<TableName<'_>> = items()
        .filter_map(|item| item.get("chain"))
        .filter(|chain| of_iptables(table_of(chain, "table")) && is_added_base(chain))
        .map(|chain| table_of(chain, "table"))
        .collect();
    let is_skipped = |table: TableName<'_>| {
        of_iptables(table) && !extended.contains(&table) || dormant.contains(&table) || families(table.0).is_none()
    };
    bridge_gaps(rules, items());
    let mut parser = Parser {
        rules,
        chains: HashMap::new(),
        sets: HashMap::new(),
        dynamic: HashSet::new(),
        parsed: HashMap::new(),
        has_elements,
    };
    for item in items() {
        if let Some(chain) = item.get("chain").filter(|c| !is_skipped(table_of(c, "table"))) {
            parser.chain(chain, !of_iptables(table_of(chain, "table")) || is_added_base(chain));
        }
        for kind in ["set", "map"] {
            if let Some(set) = item.get(kind) {
                parser.sets.insert((table_of(set, "table"), word(set, "name")), set);
            }
        }
        if let Some(rule) = item.get("rule") {
            let table = table_of(rule, "table");
            let changed = rule.get("expr").and_then(Value::as_array).into_iter().flatten().filter_map(|e| e.get("set"));
            parser.dynamic.extend(changed.map(|set| (table, word(set, "set").trim_start_matches('@'))));
        }
    }
    for item in items() {
        if let Some(rule) = item.get("rule").filter(|r| !is_skipped(table_of(r, "table"))) {
            parser.rule(rule);
        }
    }
}

/// Whether a base chain is not a built-in chain of iptables.
fn is_added_base(chain: &Value) -> bool {
    let name = word(chain, "name");
    Hook::named(word(chain, "hook")).is_some_and(|hook| hook.name() != name)
}

fn families(family: &str) -> Option<Families> {
    match family {
        "ip" => Some(Families { ipv4: true, ipv6: false }),
        "ip6" => Some(Families { ipv4: false, ipv6: true }),
        "inet" | "netdev" => Some(Families { ipv4: true, ipv6: true }),
        _ => None,
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

/// Bridge tables that discard packets.
fn bridge_gaps<'a>(rules: &mut Builder, items: impl Iterator<Item = &'a Value>) {
    let mut tables: Vec<&str> = Vec::new();
    for item in items {
        let (object, discards) = match (item.get("chain"), item.get("rule")) {
            (Some(chain), _) => (chain, word(chain, "policy") == "drop"),
            (_, Some(rule)) => {
                let mut steps = rule.get("expr").and_then(Value::as_array).into_iter().flatten();
                (rule, steps.any(|step| step.get("drop").is_some() || step.get("reject").is_some()))
            }
            _ => continue,
        };
        let (family, table) = table_of(object, "table");
        if family == "bridge" && discards && !tables.contains(&table) {
            tables.push(table);
        }
    }
    rules.gaps.extend(tables.iter().map(|table| format!("table bridge {table} discards packets and is not evaluated")));
}

impl<'a> Parser<'a> {
    /// Adds a chain, and its hook unless iptables-save lists it.
    fn chain(&mut self, chain: &'a Value, has_hook: bool) {
        let table = table_of(chain, "table");
        let Some(families) = families(table.0) else { return };
        let name = word(chain, "name");
        let index = self.rules.add_chain(Backend::Native, &format!("{} {}", table.0, table.1), name, false);
        self.chains.entry(table).or_default().insert(name.to_owned(), index);
        let Some(hook) = Hook::named(word(chain, "hook")).filter(|_| has_hook) else { return };
        let devices = match chain.get("dev") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let priority = chain.get("prio").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        let kind = if word(chain, "type") == "nat" { Kind::Nat } else { Kind::Filter };
        let accepts = word(chain, "policy") != "drop";
        self.rules.bases.push(Base { families, hook, priority, kind, accepts, chain: index, devices });
    }

    fn rule(&mut self, rule: &'a Value) {
        let table = table_of(rule, "table");
        let Some(chain) = self.chains.get(&table).and_then(|names| names.get(word(rule, "chain"))).copied() else { return };
        let expressions = rule.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let steps = self.steps(table, expressions);
        let mut text = text::rule(expressions);
        if let Some(comment) = rule.get("comment").and_then(Value::as_str) {
            let _ = write!(text, " comment \"{comment}\"");
        }
        let position = rule.get("handle").and_then(Value::as_u64).unwrap_or(0);
        self.rules.chains[chain].rules.push(FilterRule { steps, position, text });
    }
}
