//! Numbers in Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More numbers than are wanted of one server.
const MOST: usize = 2000;

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// What it measures.
    pub name: String,
    /// Its labels; what is an address in them is without login and query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

impl Number {
    /// The value of a label, or nothing.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The numbers that are called like one of these; what is not a number is left out.
#[must_use]
pub fn parse(text: &str, names: &[&str]) -> Vec<Number> {
    let wanted = |line: &&str| {
        let name = &line[..line.find(['{', ' ']).unwrap_or(0)];
        !name.is_empty() && names.contains(&name)
    };
    text.lines().filter(wanted).filter_map(number).take(MOST).collect()
}

fn number(line: &str) -> Option<Number> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    // a time may follow
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then(|| Number { name: name.to_owned(), labels, value })
}

/// `a="b",c="d"} 1`: the labels, and what is behind them.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((found, behind));
        }
        let (name, value) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, c) => text.push(c),
            }
        };
        found.insert(name.trim().to_owned(), super::prometheus::without_secrets(&text));
        rest = &value[end + 1..];
    }
}

/// All numbers of one name added up; none when there is none.
#[must_use]
pub fn sum(numbers: &[Number], name: &str) -> Option<f64> {
    let mut all = numbers.iter().filter(|n| n.name == name).map(|n| n.value).peekable();
    all.peek()?;
    Some(all.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_labels() {
        let text = "# HELP a x\na 1\nb{x=\"1\",y=\"q\\\"}\"} 2.5 1700000000\nb{} 1\nc NaN\nab 9\n\
                    d{alertmanager=\"http://u:canary@am:9093/api/v2/alerts?token=canary\"} 3\n";
        let found = parse(text, &["a", "b", "c", "d"]);
        assert_eq!(found.len(), 4);
        assert_eq!((found[1].label("y"), found[1].value), ("q\"}", 2.5));
        assert_eq!(found[3].label("alertmanager"), "http://am:9093/api/v2/alerts");
        assert_eq!((sum(&found, "b"), sum(&found, "z")), (Some(3.5), None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|\n| |\\{|\")*") {
            let _ = (parse(&text, &["a"]), number(&text));
        }
    }
}
