//! Samples in the Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limit of samples of one server.
const MAX_SAMPLES: usize = 2000;

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// The metric name.
    pub name: String,
    /// Its labels; URLs in them are without credentials and query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl MetricSample {
    /// The value of a label, or an empty string.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The samples with one of these names; other lines are ignored.
#[must_use]
pub fn parse(text: &str, names: &[&str]) -> Vec<MetricSample> {
    let has_name = |line: &&str| {
        let name = &line[..line.find(['{', ' ']).unwrap_or(0)];
        !name.is_empty() && names.contains(&name)
    };
    text.lines().filter(has_name).filter_map(number).take(MAX_SAMPLES).collect()
}

fn number(line: &str) -> Option<MetricSample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    // a timestamp may follow
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then(|| MetricSample { name: name.to_owned(), labels, value })
}

/// Parses `a="b",c="d"} 1` into the labels and the rest.
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
        found.insert(name.trim().to_owned(), crate::probe::servers::prometheus::without_secrets(&text));
        rest = &value[end + 1..];
    }
}

/// The sum of all samples with one name; `None` if there is none.
#[must_use]
pub fn sum(numbers: &[MetricSample], name: &str) -> Option<f64> {
    let mut all = numbers.iter().filter(|n| n.name == name).map(|n| n.value).peekable();
    all.peek()?;
    Some(all.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_labels() {
        let text = "# HELP a x\na 1\nb{x=\"1\",y=\"q\\\"}\"} 2.5 1700000000\nb{} 1\nc NaN\nab 9\n\
                    d{alertmanager=\"http://u:canary@am:9093/api/v2/alerts?token=canary\"} 3\n";
        let found = parse(text, &["a", "b", "c", "d"]);
        assert_eq!(found.len(), 4);
        assert_eq!((found[1].label("y"), found[1].value), ("q\"}", 2.5));
        assert_eq!(found[3].label("alertmanager"), "http://am:9093/api/v2/alerts");
        assert_eq!((sum(&found, "b"), sum(&found, "z")), (Some(3.5), None));
    }
}
