//! The JSON Schema of the configuration, and a reader for it: keys, documentation and examples come from the types that serde
//! deserializes, so that they cannot differ.

use serde_json::Value;

use super::raw::Raw;

/// The JSON Schema of the configuration file.
#[must_use]
pub fn config_schema() -> Value {
    schemars::schema_for!(Raw).to_value()
}

/// The JSON Schema of the configuration file with the configured limits as defaults.
#[must_use]
pub fn config_schema_in_force(settings: &opsctl_runbooks::Settings) -> Value {
    let mut schema = config_schema();
    let values = serde_json::to_value(settings).unwrap_or_default();
    for (runbook, values) in values.as_object().into_iter().flatten() {
        let Some(of_runbook) = ["runbooks", runbook].iter().try_fold("#".to_owned(), |at, key| definition(&schema, &at, key))
        else {
            continue;
        };
        for (key, value) in values.as_object().into_iter().flatten() {
            let path = format!("{}/properties/{key}", of_runbook.trim_start_matches('#'));
            if let Some(property) = schema.pointer_mut(&path).and_then(Value::as_object_mut) {
                property.insert("default".to_owned(), value.clone());
            }
        }
    }
    schema
}

/// The reference to the type of a property.
fn definition(schema: &Value, of: &str, key: &str) -> Option<String> {
    let property = schema.pointer(&format!("{}/properties/{key}", of.trim_start_matches('#')))?;
    let references = [&property["$ref"], &property["allOf"][0]["$ref"], &property["anyOf"][0]["$ref"]];
    references.into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// The JSON Schema of a site runbook.
#[must_use]
pub fn runbook_schema() -> Value {
    schemars::schema_for!(super::site::raw::File).to_value()
}

/// The JSON Schema of the report (`--format json`).
#[must_use]
pub fn report_schema() -> Value {
    schemars::schema_for!(opsctl_core::model::Report).to_value()
}

/// A node of a schema.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    root: &'a Value,
    /// With the description of this use of a type.
    outer: &'a Value,
    /// The type itself.
    inner: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn root(root: &'a Value) -> Self {
        Self::new(root, root)
    }

    fn new(root: &'a Value, outer: &'a Value) -> Self {
        let mut inner = outer;
        // limits the depth of references and ends cycles; the schemas here are far below it
        for _ in 0..16 {
            let next = if let Some(reference) = inner["$ref"].as_str() {
                reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
            } else if let Some(choices) = inner["anyOf"].as_array() {
                // the schema of Option<T> by schemars
                let mut some = choices.iter().filter(|c| c["type"] != "null");
                some.next().filter(|_| some.next().is_none())
            } else {
                None
            };
            match next {
                Some(next) => inner = next,
                None => break,
            }
        }
        Self { root, outer, inner }
    }

    /// The keys of a table; `None` for other types, also for enums with tables as variants.
    pub(super) fn keys(self) -> Option<Vec<(&'a str, Node<'a>)>> {
        let Some(properties) = self.inner["properties"].as_object() else {
            // a table without keys
            return (self.inner["type"] == "object" && self.closed()).then(Vec::new);
        };
        Some(properties.iter().map(|(name, node)| (name.as_str(), Node::new(self.root, node))).collect())
    }

    /// Whether keys other than [`Self::keys`] are an error.
    pub(super) fn closed(self) -> bool {
        self.inner["additionalProperties"] == Value::Bool(false)
    }

    /// The schema of list elements.
    pub(super) fn items(self) -> Option<Node<'a>> {
        self.inner.get("items").map(|items| Node::new(self.root, items))
    }

    /// The schema of the values of a map with free keys.
    pub(super) fn values(self) -> Option<Node<'a>> {
        self.inner.get("additionalProperties").filter(|v| v.is_object()).map(|values| Node::new(self.root, values))
    }

    /// Documentation, one paragraph.
    pub(super) fn doc(self) -> &'a str {
        self.outer["description"].as_str().or_else(|| self.inner["description"].as_str()).unwrap_or_default()
    }

    /// An example, or the default, or a value of the right type.
    pub(super) fn example(self) -> Value {
        let first = |node: &Value| node["examples"].get(0).cloned();
        first(self.outer).or_else(|| first(self.inner)).unwrap_or_else(|| {
            let kind = match &self.inner["type"] {
                Value::Array(kinds) => kinds.first().and_then(Value::as_str),
                kind => kind.as_str(),
            };
            match kind {
                Some("integer" | "number") => Value::from(0),
                Some("boolean") => Value::Bool(false),
                Some("array") => Value::Array(vec![]),
                _ => Value::from(""),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_references_are_resolved() {
        let schema = config_schema();
        let root = Node::root(&schema);
        assert!(root.closed());
        let keys = root.keys().unwrap_or_default();
        let policy = keys.iter().find(|(name, _)| *name == "policy").map_or_else(|| panic!("{schema}"), |(_, n)| *n);
        assert!(policy.closed() && policy.doc().contains("without confirmation"));
        assert!(policy.keys().unwrap_or_default().iter().any(|(name, _)| *name == "max_fixes_per_hour"));
        let owner = keys.iter().find(|(name, _)| *name == "owner").and_then(|(_, n)| n.items());
        assert_eq!(owner.and_then(Node::keys).map(|k| k.len()), Some(2));
    }
}
