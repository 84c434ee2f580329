//! Fields of JSON that another program produced, picked one by one.
//!
//! Engines, brokers and alert senders add fields, leave fields out and change their shapes between versions and products. A
//! deserializer for whole types loses the document for one of them; a [`Pick`] loses the field. A field of an unexpected shape is
//! recorded in [`Gaps`], which the caller reports; an absent or `null` field is not a gap.

use std::cell::RefCell;

use serde_json::Value;

/// Limit of the recorded gaps of one document; the others are counted.
const MAX_GAPS: usize = 8;

/// Limit of a value shown in a gap, in characters.
const MAX_SHOWN_CHARS: usize = 40;

static NULL: Value = Value::Null;

/// Fields of a document that could not be read.
#[derive(Debug, Default)]
pub struct Gaps {
    document: String,
    found: RefCell<Vec<String>>,
}

impl Gaps {
    /// Gaps of a document with this name: `inspect of web`.
    #[must_use]
    pub fn new(document: &str) -> Self {
        Self { document: document.to_owned(), found: RefCell::default() }
    }

    /// Records a gap, once.
    pub fn add(&self, gap: &str) {
        let mut found = self.found.borrow_mut();
        if !found.iter().any(|known| known == gap) {
            found.push(gap.to_owned());
        }
    }

    /// The gaps in the order of their discovery, each with the name of the document; those beyond the limit are one entry.
    #[must_use]
    pub fn into_sentences(self) -> Vec<String> {
        let mut found = self.found.into_inner();
        let more = found.len().saturating_sub(MAX_GAPS);
        if more > 0 {
            found.truncate(MAX_GAPS);
            found.push(format!("{more} more values have an unexpected shape"));
        }
        let document = self.document;
        let sentence = |gap| if document.is_empty() { gap } else { format!("{document}: {gap}") };
        found.into_iter().map(sentence).collect()
    }
}

/// A value inside a document.
#[derive(Debug, Clone)]
pub struct Pick<'v> {
    value: &'v Value,
    /// `HostConfig.Memory`; empty for the document itself.
    path: String,
    gaps: &'v Gaps,
}

impl<'v> Pick<'v> {
    /// A document.
    #[must_use]
    pub fn new(value: &'v Value, gaps: &'v Gaps) -> Self {
        Self { value, path: String::new(), gaps }
    }

    /// The value itself.
    #[must_use]
    pub fn value(&self) -> &'v Value {
        self.value
    }

    /// A field of an object; a field of an absent object is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Pick<'v> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Pick { value: self.child(name), path, gaps: self.gaps }
    }

    /// The first of these fields that is present.
    #[must_use]
    pub fn first(&self, names: &[&str]) -> Pick<'v> {
        let present = names.iter().find(|name| !self.child(name).is_null());
        self.get(present.or(names.first()).copied().unwrap_or_default())
    }

    /// Whether the value is absent or `null`.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.value.is_null()
    }

    /// Whether the value is text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.value.is_string()
    }

    /// Whether the value is an object; another value is recorded as a gap.
    #[must_use]
    pub fn is_object(&self) -> bool {
        if !self.value.is_object() {
            self.reject("an object");
        }
        self.value.is_object()
    }

    /// Records that the value is not as expected: `a number`.
    pub fn reject(&self, expected: &str) {
        let path = if self.path.is_empty() { "the reply" } else { &self.path };
        self.gaps.add(&format!("{path} is {}, not {expected}", shown(self.value)));
    }

    /// Text; numbers and booleans in their JSON spelling.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match self.child(name) {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            _ => self.get(name).as_text(),
        }
    }

    /// [`Pick::text`] of the value itself.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null => None,
            Value::Array(_) | Value::Object(_) => {
                self.reject("text");
                None
            }
        }
    }

    /// A whole number: also numeric text and fractions, which are truncated; beyond the range of `i64` its nearest limit. Empty
    /// text is absent.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.child(name) {
            Value::Null => None,
            _ => self.get(name).as_int(),
        }
    }

    /// [`Pick::int`] of the value itself.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        let number = self.number()?;
        let limit = if number < 0 { i64::MIN } else { i64::MAX };
        Some(i64::try_from(number).unwrap_or(limit))
    }

    /// [`Pick::int`] that is not negative, up to the limit of `u64`.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        if self.child(name).is_null() {
            return None;
        }
        let field = self.get(name);
        let number = field.number()?;
        if number < 0 {
            field.reject("a count");
            return None;
        }
        Some(u64::try_from(number).unwrap_or(u64::MAX))
    }

    fn number(&self) -> Option<i128> {
        let number = match self.value {
            Value::Number(number) => integer(&number.to_string()),
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => integer(text.trim()),
            Value::Null => return None,
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if number.is_none() {
            self.reject("a number");
        }
        number
    }

    /// A boolean: also 0 and 1, and the words of Go's `strconv.ParseBool`. Empty text is absent.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.child(name) {
            Value::Bool(flag) => Some(*flag),
            Value::Null => None,
            _ => self.get(name).as_flag(),
        }
    }

    /// [`Pick::flag`] of the value itself.
    #[must_use]
    pub fn as_flag(&self) -> Option<bool> {
        let flag = match self.value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => boolean(text),
            Value::Null => return None,
            Value::Array(_) | Value::Object(_) => None,
        };
        if flag.is_none() {
            self.reject("true or false");
        }
        flag
    }

    /// The items of a list. An absent value and empty text have none; any other single value is the only item.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<Pick<'v>> {
        self.get(name).items()
    }

    /// [`Pick::list`] of the value itself.
    #[must_use]
    pub fn items(&self) -> Vec<Pick<'v>> {
        match self.value {
            Value::Null => Vec::new(),
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::Array(items) => {
                let item = |(n, value)| Pick { value, path: format!("{}[{n}]", self.path), gaps: self.gaps };
                items.iter().enumerate().map(item).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// The texts of a list, or one text.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(Pick::as_text).collect()
    }

    /// The fields of an object with arbitrary names; an empty list has none.
    #[must_use]
    pub fn entries(&self, name: &str) -> Vec<(&'v str, Pick<'v>)> {
        let object = self.get(name);
        match object.value {
            Value::Object(fields) => fields.keys().map(|key| (key.as_str(), object.get(key))).collect(),
            Value::Null => Vec::new(),
            Value::Array(items) if items.is_empty() => Vec::new(),
            _ => {
                object.reject("an object");
                Vec::new()
            }
        }
    }

    /// Names with texts: an object, or a list of `name=text`. A `null` is empty text.
    #[must_use]
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        if self.child(name).is_array() {
            let pair = |text: String| match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (text, String::new()),
            };
            return self.texts(name).into_iter().map(pair).collect();
        }
        let fields = self.entries(name).into_iter();
        fields.map(|(name, value)| (name.to_owned(), value.as_text().unwrap_or_default())).collect()
    }

    /// The names of an object, or the texts of a list.
    #[must_use]
    pub fn names(&self, name: &str) -> Vec<String> {
        match self.child(name) {
            Value::Object(fields) => fields.keys().cloned().collect(),
            _ => self.texts(name),
        }
    }

    fn child(&self, name: &str) -> &'v Value {
        match self.value {
            Value::Object(fields) => fields.get(name).unwrap_or(&NULL),
            Value::Null => &NULL,
            _ => {
                self.reject("an object");
                &NULL
            }
        }
    }
}

/// A number in decimal or scientific notation.
fn integer(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite())?;
    #[expect(clippy::cast_possible_truncation, reason = "a cast from f64 saturates")]
    let whole = number as i128;
    Some(whole)
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" => Some(true),
        "false" | "f" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// A value as shown in a gap.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() > MAX_SHOWN_CHARS => {
            format!("{:?}…", text.chars().take(MAX_SHOWN_CHARS).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::redundant_closure_for_method_calls, reason = "the methods have a lifetime that these closures do not name")]
    use serde_json::json;

    use super::*;

    /// The gaps of reading the field `a`.
    fn gaps(value: &Value, read: impl Fn(&Pick<'_>)) -> Vec<String> {
        let gaps = Gaps::new("inspect of web");
        read(&Pick::new(value, &gaps));
        gaps.into_sentences()
    }

    /// The result of reading the field `a` with this value.
    fn with<T>(value: &Value, read: impl Fn(&Pick<'_>, &str) -> T) -> T {
        let gaps = Gaps::default();
        read(&Pick::new(&json!({"a": value}), &gaps), "a")
    }

    #[test]
    fn gap_names_document_field_and_value() {
        let value = json!({"HostConfig": {"Memory": "x"}});
        let read = |pick: &Pick<'_>| assert_eq!(pick.get("HostConfig").int("Memory"), None);
        assert_eq!(gaps(&value, read), ["inspect of web: HostConfig.Memory is \"x\", not a number"]);
    }

    #[test]
    fn numbers_of_every_spelling_are_read() {
        for (value, expected) in [
            (json!(7), 7),
            (json!("7"), 7),
            (json!(" -7 "), -7),
            (json!(7.9), 7),
            (json!("1e3"), 1000),
            (json!(u64::MAX), i64::MAX),
            (json!("-99999999999999999999"), i64::MIN),
            (json!(1e300), i64::MAX),
        ] {
            assert_eq!(with(&value, |pick, name| pick.int(name)), Some(expected), "{value}");
        }
    }

    #[test]
    fn values_of_another_type_are_no_numbers() {
        for value in [json!("x"), json!(true), json!([1]), json!({}), json!("inf")] {
            assert_eq!(with(&value, |pick, name| pick.int(name)), None, "{value}");
        }
    }

    #[test]
    fn count_is_not_negative() {
        assert_eq!(with(&json!(u64::MAX), |pick, name| pick.count(name)), Some(u64::MAX));
        assert_eq!(with(&json!(-1), |pick, name| pick.count(name)), None);
    }

    #[test]
    fn booleans_of_every_spelling_are_read() {
        for value in [json!(true), json!(1), json!("true"), json!("True"), json!("1")] {
            assert_eq!(with(&value, |pick, name| pick.flag(name)), Some(true), "{value}");
        }
        for value in [json!(false), json!(0), json!("FALSE"), json!("f")] {
            assert_eq!(with(&value, |pick, name| pick.flag(name)), Some(false), "{value}");
        }
    }

    #[test]
    fn absent_and_empty_values_are_no_gaps() {
        let value = json!({"a": null, "b": ""});
        let read = |pick: &Pick<'_>| {
            for name in ["a", "b", "c"] {
                assert!(pick.int(name).is_none() && pick.flag(name).is_none() && pick.list(name).is_empty());
            }
            assert!(pick.get("c").get("d").text("e").is_none() && pick.entries("c").is_empty());
        };
        assert_eq!(gaps(&value, read), Vec::<String>::new());
    }

    #[test]
    fn list_may_be_one_item() {
        assert_eq!(with(&json!("/entrypoint.sh"), |pick, name| pick.texts(name)), ["/entrypoint.sh"]);
        assert_eq!(with(&json!(["a", 1, null]), |pick, name| pick.texts(name)), ["a", "1"]);
    }

    #[test]
    fn pairs_may_be_a_list() {
        let expected = [("a".to_owned(), "b=c".to_owned()), ("d".to_owned(), String::new())];
        assert_eq!(with(&json!(["a=b=c", "d"]), |pick, name| pick.pairs(name)), expected);
        assert_eq!(with(&json!({"a": "b=c", "d": null}), |pick, name| pick.pairs(name)), expected);
    }

    #[test]
    fn wrong_item_costs_only_itself() {
        let value = json!({"Env": ["A=b", {}, "C=d"]});
        let read = |pick: &Pick<'_>| assert_eq!(pick.texts("Env"), ["A=b", "C=d"]);
        assert_eq!(gaps(&value, read), ["inspect of web: Env[1] is an object, not text"]);
    }

    #[test]
    fn wrong_object_is_one_gap() {
        let value = json!({"HostConfig": "x"});
        let read = |pick: &Pick<'_>| {
            let host = pick.get("HostConfig");
            assert_eq!((host.int("Memory"), host.text("NetworkMode")), (None, None));
        };
        assert_eq!(gaps(&value, read), ["inspect of web: HostConfig is \"x\", not an object"]);
    }

    #[test]
    fn value_of_a_gap_is_bounded() {
        let value = json!({"a": "x".repeat(1000)});
        let found = gaps(&value, |pick| assert_eq!(pick.int("a"), None));
        assert!(found.len() == 1 && found[0].len() < 100, "{found:?}");
    }

    #[test]
    fn gaps_are_bounded() {
        let value = json!({"a": (0..100).map(|_| json!({})).collect::<Vec<_>>()});
        let found = gaps(&value, |pick| assert!(pick.texts("a").is_empty()));
        assert_eq!((found.len(), found[8].as_str()), (9, "inspect of web: 92 more values have an unexpected shape"));
    }
}
