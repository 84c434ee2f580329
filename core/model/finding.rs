//! Findings: the results of judging a target.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    link::{Key, KeyKind},
    object::Object,
    verdict::Severity,
};

/// Confidence of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The evidence proves the finding.
    Confirmed,
    /// The evidence is consistent with the finding; other causes are possible.
    Likely,
}

/// A piece of cited evidence: label and value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cited {
    /// Source, for example `kernel log`.
    pub label: String,
    /// Its content.
    pub value: String,
}

/// A fault, or (with severity info) a noteworthy fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Code of the finding.
    pub code: String,
    /// The runbook that reports it.
    pub runbook: String,
    /// Severity.
    pub severity: Severity,
    /// Confidence.
    pub confidence: Confidence,
    /// The affected object.
    pub subject: Object,
    /// A lowercase phrase that contains the number and the limit.
    pub message: String,
    /// Cited evidence.
    pub evidence: Vec<Cited>,
    /// Applicable fixes.
    pub fixes: Vec<String>,
    /// Start of the fault, if known.
    pub since: Option<Timestamp>,
    /// Recommended action, one line.
    pub hint: String,
    /// Keys that tie it to other findings; not part of the report.
    #[serde(skip)]
    pub keys: Vec<Key>,
    /// Objects that its object needs: keys of the findings that explain it, which it does not explain itself.
    #[serde(skip)]
    pub needs: Vec<Key>,
    /// Share of a common effect (bytes for a filesystem): the largest of several causes comes first.
    #[serde(skip)]
    pub weight: u64,
    /// The part of its object that its fixes act on, as on the command line: `pid 812`, `slot standby`; empty for the object itself.
    #[serde(skip)]
    pub part: String,
    /// Names of the facts that prove it ([`super::Judgement::facts`]); empty if it follows from the evidence as a whole.
    #[serde(skip)]
    pub facts: Vec<String>,
}

impl Finding {
    /// A confirmed finding without cited evidence, tied to its object.
    pub fn new(code: &'static Code, severity: Severity, subject: Object, message: impl Into<String>) -> Self {
        debug_assert!(code.severities.contains(&severity), "{} is not declared with severity {severity}", code.id);
        Self {
            code: code.id.to_owned(),
            runbook: code.id.split('.').next().unwrap_or_default().to_owned(),
            severity,
            confidence: Confidence::Confirmed,
            keys: subject.natural_keys(),
            subject,
            message: message.into(),
            evidence: Vec::new(),
            fixes: Vec::new(),
            since: None,
            hint: code.hint.to_owned(),
            needs: Vec::new(),
            weight: 0,
            part: String::new(),
            facts: Vec::new(),
        }
    }

    /// Cites a piece of evidence; an empty value is omitted.
    #[must_use]
    pub fn cite(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.evidence.push(Cited { label: label.into(), value });
        }
        self
    }

    /// Cites a piece of evidence that may be missing.
    #[must_use]
    pub fn cite_opt(self, label: impl Into<String>, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.cite(label, value),
            None => self,
        }
    }

    /// Sets the confidence to [`Confidence::Likely`].
    #[must_use]
    pub fn likely(mut self) -> Self {
        self.confidence = Confidence::Likely;
        self
    }

    /// Replaces the general hint of the code by a specific one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds an applicable fix.
    #[must_use]
    pub fn fix(mut self, id: &'static str) -> Self {
        self.fixes.push(id.to_owned());
        self
    }

    /// Adds a fix that is only sometimes applicable.
    #[must_use]
    pub fn fix_if(self, applicable: bool, id: &'static str) -> Self {
        if applicable { self.fix(id) } else { self }
    }

    /// Sets the start of the fault.
    #[must_use]
    pub fn since(mut self, at: Option<Timestamp>) -> Self {
        self.since = at;
        self
    }

    /// Adds a key that ties it to other findings.
    #[must_use]
    pub fn key(mut self, kind: KeyKind, value: impl Into<String>) -> Self {
        let key = Key { kind, value: value.into() };
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self
    }

    /// [`Finding::key`] for an optional value.
    #[must_use]
    pub fn key_opt(self, kind: KeyKind, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.key(kind, value),
            None => self,
        }
    }

    /// Names an object that its object needs: the full id of a container, or the name of a unit.
    #[must_use]
    pub fn needs(mut self, value: impl Into<String>) -> Self {
        let key = Key { kind: KeyKind::Requirement, value: value.into() };
        if !self.needs.contains(&key) && !self.keys.contains(&key) {
            self.needs.push(key);
        }
        self
    }

    /// Sets the part of its object that its fixes act on: a kind of one word, and a name.
    #[must_use]
    pub fn part(mut self, kind: &str, name: impl std::fmt::Display) -> Self {
        self.part = format!("{kind} {name}");
        self
    }

    /// Names a fact that proves it.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>) -> Self {
        self.facts.push(name.into());
        self
    }

    /// Sets its share of a common effect.
    #[must_use]
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = weight;
        self
    }
}
