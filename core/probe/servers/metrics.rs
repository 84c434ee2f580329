//! Samples in the Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>) and in that of `OpenMetrics`.

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

/// The samples with one of these names; other lines, and values that are no number, are ignored.
#[must_use]
pub fn parse(text: &str, names: &[&str]) -> Vec<MetricSample> {
    text.lines().filter_map(|line| sample(line.trim_start(), names)).take(MAX_SAMPLES).collect()
}

fn sample(line: &str, names: &[&str]) -> Option<MetricSample> {
    // names in UTF-8 are within the braces: `{"http.requests",method="GET"} 3`
    let (name, labels, rest) = if let Some(inside) = line.strip_prefix('{') {
        let (first, _) = inside.trim_start().strip_prefix('"')?.split_once('"')?;
        let name = names.iter().find(|name| **name == first)?;
        let (mut labels, rest) = labels(inside)?;
        labels.remove("");
        ((*name).to_owned(), labels, rest)
    } else {
        let (name, rest) = line.split_at(line.find(['{', ' ', '\t'])?);
        if !names.contains(&name) {
            return None;
        }
        let (labels, rest) = match rest.trim_start().strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (BTreeMap::new(), rest),
        };
        (name.to_owned(), labels, rest)
    };
    // a timestamp and an exemplar may follow
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some(MetricSample { name, labels, value })
}

/// Parses `a="b", c = "d"} 1` into the labels and the rest. A quoted name without a value is that of the metric, and has an empty key.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((found, behind));
        }
        let (name, behind) = if let Some(inside) = rest.strip_prefix('"') {
            quoted(inside)?
        } else {
            let end = rest.find(['=', '}']).filter(|end| rest[*end..].starts_with('='))?;
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        rest = behind;
        match rest.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, behind) = quoted(value.trim_start().strip_prefix('"')?)?;
                found.insert(name, crate::probe::servers::prometheus::without_secrets(&value));
                rest = behind;
            }
            None if rest.trim_start().starts_with([',', '}']) => {
                found.insert(String::new(), name);
            }
            None => return None,
        }
    }
}

/// The text up to the closing quotation mark, without escapes, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((found, &text[at + 1..])),
            (_, '\\') => found.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, c) => found.push(c),
        }
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
    use crate::corpus;

    #[test]
    fn corpus_of_exposition_formats() {
        let shown = |s: &MetricSample| {
            let labels: Vec<String> = s.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            format!("{}{labels} {}", s.name, s.value).replace('\n', "\\n")
        };
        corpus::check("metrics", 24, |text| {
            let names = text.lines().next().and_then(|line| line.strip_prefix("# names: ")).unwrap_or_default();
            let names: Vec<&str> = names.split(' ').collect();
            vec![("samples", parse(text, &names).iter().map(shown).collect::<Vec<_>>().join("; "))]
        });
    }

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

    #[test]
    fn white_space_exemplars_and_quoted_names() {
        let text = "a\t1\n b { x = \"1\" , \"y.z\"=\"2\", } +3.5e0 # {trace_id=\"b 9\"} 0.67 1.5\n{\"c\", x=\"1\"} 7\n\
                    {x=\"1\"} 9\nd{x=\"1\" 4\nd 0x10\nd +Inf\n# EOF\n";
        let found = parse(text, &["a", "b", "c", "d"]);
        let shown: Vec<(&str, f64, usize)> = found.iter().map(|s| (s.name.as_str(), s.value, s.labels.len())).collect();
        assert_eq!(shown, [("a", 1.0, 0), ("b", 3.5, 2), ("c", 7.0, 1)]);
        assert_eq!((found[1].label("y.z"), found[2].label("x")), ("2", "1"));
    }
}
