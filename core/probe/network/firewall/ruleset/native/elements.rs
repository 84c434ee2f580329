//! Elements of sets and maps.

use serde_json::Value;

use super::{Parser, TableName, expression, word};
use crate::probe::network::firewall::ruleset::condition::{Key, Span, number};
use crate::probe::network::firewall::ruleset::rule::{Action, Element, NamedSet};

/// Limit of elements of one set that are kept; a set with more is not evaluated.
const MAX_ELEMENTS: usize = 50_000;

/// Content of the elements of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing: it is a set.
    None,
    Verdicts,
    Data,
}

impl<'a> Parser<'a> {
    /// The index of the set that a rule refers to: a named one (`@name`), or an anonymous one.
    pub(super) fn set(&mut self, table: TableName<'a>, data: &'a Value, keys: &[Key], content: Content) -> usize {
        let Some(name) = data.as_str().and_then(|name| name.strip_prefix('@')) else {
            let elements = data.get("set").unwrap_or(data);
            let set = self.parsed_set(table, Some(elements), keys, content, true);
            return self.rules.add_set(set);
        };
        let id = (table, name, format!("{keys:?} {content:?}"));
        if let Some(index) = self.parsed.get(&id) {
            return *index;
        }
        let definition = self.sets.get(&(table, name)).copied();
        let elements = definition.and_then(|d| d.get("elem"));
        // without elements in the listing a set is empty, or its elements are left out
        let is_complete =
            definition.is_some() && (self.has_elements || elements.is_some()) && !self.dynamic.contains(&(table, name));
        let set = self.parsed_set(table, elements, keys, content, is_complete);
        let index = self.rules.add_set(set);
        self.parsed.insert(id, index);
        index
    }

    fn parsed_set(
        &self,
        table: TableName<'a>,
        elements: Option<&'a Value>,
        keys: &[Key],
        content: Content,
        is_complete: bool,
    ) -> NamedSet {
        let mut set = NamedSet { is_complete, ..NamedSet::default() };
        let all = elements.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut others = Vec::new();
        for one in all.iter().take(MAX_ELEMENTS) {
            let (left, right) = match (content, one.as_array()) {
                (Content::None, _) => (one, None),
                (_, Some(pair)) => match pair.as_slice() {
                    [left, right] => (left, Some(right)),
                    _ => continue,
                },
                (_, None) => {
                    set.is_complete = false;
                    continue;
                }
            };
            let mut element = Element { spans: spans(left, keys), ..Element::default() };
            match (content, right) {
                (Content::Verdicts, Some(right)) => element.action = Some(self.verdict(table, right)),
                (Content::Data, Some(right)) => match data(right) {
                    Some(data) => element.data = data,
                    None => set.is_complete = false,
                },
                _ => {}
            }
            // the wildcard fits if no other element does
            if element.spans.iter().all(|span| *span == Span::Any) { &mut others } else { &mut set.elements }.push(element);
        }
        set.is_complete &= all.len() <= MAX_ELEMENTS;
        set.elements.append(&mut others);
        set
    }

    /// The verdict of an element.
    pub(super) fn verdict(&self, table: TableName<'a>, value: &'a Value) -> Action {
        let Some((name, body)) = value.as_object().and_then(|o| o.iter().next()) else { return Action::External };
        match name.as_str() {
            "accept" => Action::Accept,
            "drop" => Action::Drop,
            "return" => Action::Return,
            "jump" | "goto" => {
                let chain = self.chains.get(&table).and_then(|names| names.get(word(body, "target"))).copied();
                match chain {
                    Some(chain) if name == "jump" => Action::Jump(chain),
                    Some(chain) => Action::Goto(chain),
                    None => Action::External,
                }
            }
            _ => Action::External,
        }
    }
}

/// The values of an element, one for each key.
fn spans(value: &Value, keys: &[Key]) -> Vec<Span> {
    let value = value.pointer("/elem/val").unwrap_or(value);
    if value.as_str() == Some("*") {
        return vec![Span::Any; keys.len()];
    }
    match value.get("concat").and_then(Value::as_array) {
        Some(parts) => parts
            .iter()
            .enumerate()
            .map(|(at, part)| keys.get(at).and_then(|k| expression::atom(part, k)).unwrap_or(Span::Open))
            .collect(),
        None => vec![keys.first().and_then(|k| expression::atom(value, k)).unwrap_or(Span::Open)],
    }
}

/// Addresses and ports of an element.
fn data(value: &Value) -> Option<Vec<u128>> {
    let one = |value: &Value| match value {
        Value::Number(n) => n.as_u64().map(u128::from),
        Value::String(text) => text.parse().ok().map(number).or_else(|| text.parse().ok()),
        _ => None,
    };
    match value.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(one).collect(),
        None => Some(vec![one(value)?]),
    }
}
