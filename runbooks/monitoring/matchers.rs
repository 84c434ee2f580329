//! Matchers of Alertmanager (<https://prometheus.io/docs/alerting/latest/configuration/#matcher>): routes, inhibition rules and
//! silences. Labels can be partly unknown: those of a rule before it fires.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::yaml::texts;

/// Limit of a compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 18;

/// Limit of matchers of one route; more of them are unknown.
const MAX_MATCHERS: usize = 50;

/// One matcher.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    pub(super) label: String,
    value: String,
    /// `=` and `=~`; the others are negations.
    equal: bool,
    /// `None` for `=` and `!=`, and for an expression that this implementation does not support.
    regex: Option<Regex>,
    is_regex: bool,
}

/// The labels of an alert.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels {
    pub(super) known: BTreeMap<String, String>,
    /// Labels without a known value.
    pub(super) unknown: BTreeSet<String>,
    /// All other labels are absent; otherwise they are unknown too.
    pub(super) complete: bool,
}

impl Labels {
    /// The value of a label; an absent one is empty, and `None` stands for an unknown value.
    pub(super) fn get(&self, label: &str) -> Option<&str> {
        match self.known.get(label) {
            Some(value) => Some(value),
            None => (self.complete && !self.unknown.contains(label)).then_some(""),
        }
    }
}

impl Matcher {
    fn new(label: &str, value: &str, equal: bool, is_regex: bool) -> Self {
        let regex = is_regex.then(|| {
            // expressions are anchored at both ends
            regex::RegexBuilder::new(&format!("^(?:{value})$")).size_limit(MAX_REGEX_BYTES).build().ok()
        });
        Self { label: label.to_owned(), value: value.to_owned(), equal, is_regex, regex: regex.flatten() }
    }

    /// Parses `label="value"`; quotes are optional, also around the label.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (label, rest) = if let Some(inside) = text.strip_prefix('"') {
            let (label, rest) = inside.split_once('"')?;
            (label, rest.trim_start())
        } else {
            let end = text.find(['=', '!'])?;
            (text[..end].trim_end(), &text[end..])
        };
        let operators = [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)];
        let (rest, equal, is_regex) = operators
            .into_iter()
            .find_map(|(operator, equal, regex)| Some((rest.strip_prefix(operator)?.trim(), equal, regex)))?;
        let value = match rest.strip_prefix('"').and_then(|r| r.strip_suffix('"')) {
            Some(inside) => unescaped(inside),
            None => rest.to_owned(),
        };
        Some(Self::new(label, &value, equal, is_regex))
    }

    /// Whether it matches; `None` if that depends on an unknown label.
    pub(super) fn matches(&self, labels: &Labels) -> Option<bool> {
        let value = labels.get(&self.label)?;
        let same = match (&self.regex, self.is_regex) {
            (Some(regex), _) => regex.is_match(value),
            (None, true) => return None,
            (None, false) => self.value == value,
        };
        Some(same == self.equal)
    }

    /// Whether it matches nearly every alert: `=~".+"`, `=~".*"`, `!=""`.
    fn is_broad(&self) -> bool {
        let any = matches!(self.value.as_str(), ".*" | ".+" | "^.*$" | "^.+$");
        if self.equal { self.is_regex && any } else { self.value.is_empty() }
    }

    /// As printed by Alertmanager.
    pub(super) fn shown(&self) -> String {
        let operator = match (self.equal, self.is_regex) {
            (true, false) => "=",
            (true, true) => "=~",
            (false, false) => "!=",
            (false, true) => "!~",
        };
        format!("{}{operator}\"{}\"", self.label, self.value)
    }
}

fn unescaped(text: &str) -> String {
    let mut found = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => found.push('\n'),
                Some(c @ ('"' | '\\')) => found.push(c),
                // not an escape: the backslash belongs to the expression
                Some(other) => found.extend(['\\', other]),
                None => found.push('\\'),
            },
            c => found.push(c),
        }
    }
    found
}

/// The matchers of a route or of one side of an inhibition rule: `matchers`, `match` and `match_re` with this prefix.
/// `None` if one of them is unknown.
pub(super) fn of(value: &Value, prefix: &str) -> Option<Vec<Matcher>> {
    let mut found: Vec<Matcher> = texts(value, &format!("{prefix}matchers"))
        .flat_map(split)
        .take(MAX_MATCHERS + 1)
        .map(|m| Matcher::parse(&m))
        .collect::<Option<_>>()?;
    for (key, is_regex) in [("match", false), ("match_re", true)] {
        let pairs = value.get(format!("{prefix}{key}")).and_then(Value::as_object).into_iter().flatten();
        found.extend(
            pairs.take(MAX_MATCHERS + 1).map(|(label, v)| Matcher::new(label, v.as_str().unwrap_or_default(), true, is_regex)),
        );
    }
    (found.len() <= MAX_MATCHERS).then_some(found)
}

/// The matchers of a silence in the API.
pub(super) fn of_silence(silence: &Value) -> Vec<Matcher> {
    let all = silence.get("matchers").and_then(Value::as_array).into_iter().flatten();
    let text = |m: &Value, name: &str| m.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |m: &Value, name: &str| m.get(name).and_then(Value::as_bool);
    let matcher = |m: &Value| {
        let equal = flag(m, "isEqual") != Some(false);
        Matcher::new(&text(m, "name"), &text(m, "value"), equal, flag(m, "isRegex") == Some(true))
    };
    all.take(MAX_MATCHERS).map(matcher).collect()
}

/// One entry of `matchers` can contain several, separated by commas outside of quotes, also within braces.
fn split(text: &str) -> Vec<String> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        let separator = c == ',' && !quoted;
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        if separator {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.retain(|p| !p.trim().is_empty());
    parts
}

/// Whether all of them match; `None` if that depends on an unknown label.
pub(super) fn all_match(matchers: &[Matcher], labels: &Labels) -> Option<bool> {
    let mut certain = true;
    for m in matchers {
        match m.matches(labels) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => certain = false,
        }
    }
    certain.then_some(true)
}

/// Whether they select no particular alerts.
pub(super) fn are_broad(matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.is_broad() || !m.equal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn labels(pairs: &[(&str, &str)], complete: bool) -> Labels {
        let known = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels { known, complete, ..Labels::default() }
    }

    #[test]
    fn operators_quotes_and_names_in_utf8() {
        let alert = labels(&[("severity", "critical"), ("foo.bar", "x y"), ("a", "b\"c\\d")], true);
        for (text, matches) in [
            ("severity=critical", true),
            ("severity = \"critical\"", true),
            ("severity!=\"critical\"", false),
            ("severity=~\"crit|warn\"", false),
            ("severity=~\"crit.*|warn\"", true),
            ("severity!~\"info|none\"", true),
            ("\"foo.bar\"=~\"x.y\"", true),
            ("a=\"b\\\"c\\\\d\"", true),
            ("team=\"\"", true),
            ("team=~\".+\"", false),
            ("team!=\"db\"", true),
            ("severity=~\"\\\\w+\"", true),
        ] {
            assert_eq!(Matcher::parse(text).unwrap().matches(&alert), Some(matches), "{text}");
        }
        assert!(Matcher::parse("severity").is_none());
    }

    #[test]
    fn unknown_labels_leave_the_result_open() {
        let rule = labels(&[("severity", "critical")], false);
        let result = |texts: &[&str]| all_match(&texts.iter().map(|t| Matcher::parse(t).unwrap()).collect::<Vec<_>>(), &rule);
        assert_eq!(result(&["severity=\"critical\""]), Some(true));
        assert_eq!(result(&["severity=\"critical\"", "team=\"db\""]), None);
        assert_eq!(result(&["severity=\"info\"", "team=\"db\""]), Some(false));
        // not supported by this implementation: look-around does not exist in RE2 either
        assert_eq!(result(&["severity=~\"(?=c)\""]), None);
    }

    #[test]
    fn lists_in_one_entry_and_old_notations() {
        let value = serde_json::json!({
            "matchers": ["{a=\"x,y\", b=~\"1|2\"}"], "match": {"c": "d"}, "match_re": {"e": "f.*"},
            "source_matchers": ["g=h"], "target_match": {"i": "j"},
        });
        let shown = |prefix| of(&value, prefix).unwrap().iter().map(Matcher::shown).collect::<Vec<_>>();
        assert_eq!(shown(""), ["a=\"x,y\"", "b=~\"1|2\"", "c=\"d\"", "e=~\"f.*\""]);
        assert_eq!((shown("source_"), shown("target_")), (vec!["g=\"h\"".to_owned()], vec!["i=\"j\"".to_owned()]));
        assert!(of(&serde_json::json!({"matchers": ["?"]}), "").is_none());
    }

    #[test]
    fn broad_matchers() {
        let broad = |texts: &[&str]| are_broad(&texts.iter().map(|t| Matcher::parse(t).unwrap()).collect::<Vec<_>>());
        assert!(broad(&[]) && broad(&["severity=~\".+\""]) && broad(&["alertname!=\"\"", "alertname!=\"Watchdog\""]));
        assert!(!broad(&["alertname=\"Watchdog\""]) && !broad(&["severity=~\"info|none\"", "a=~\".*\""]));
    }
}
