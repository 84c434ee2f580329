//! What a judge says about a target.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{code::Code, link::Key, link::KeyKind, target::Subject, verdict::Severity};

/// How sure the judge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The evidence proves it.
    Confirmed,
    /// The evidence fits it; something else could look the same.
    Likely,
}

/// One piece of cited evidence: a label and what was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cited {
    /// What was read, for example `kernel log`.
    pub label: String,
    /// What it said.
    pub value: String,
}

/// Something that is not as it should be (or, with severity info, is worth knowing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `f1`, `f2`, … in report order; given by the engine.
    pub id: String,
    /// What kind of finding.
    pub code: String,
    /// The runbook that reports it.
    pub runbook: String,
    /// How much it matters.
    pub severity: Severity,
    /// How sure the judge is.
    pub confidence: Confidence,
    /// What it is about.
    pub subject: Subject,
    /// A lowercase phrase with the number and the limit in it.
    pub message: String,
    /// What was read.
    pub evidence: Vec<Cited>,
    /// Fixes that apply to it.
    pub fixes: Vec<String>,
    /// The finding that causes it.
    pub explained_by: Option<String>,
    /// When it began, where that is known.
    pub since: Option<Timestamp>,
    /// The waiver that covers it.
    pub waived: Option<String>,
    /// Who owns the subject, from the configuration.
    pub owner: Option<String>,
    /// What to do, one line.
    pub hint: String,
    /// What ties it to other findings; not part of the report.
    #[serde(skip)]
    pub keys: Vec<Key>,
    /// How much of a shared effect it accounts for (bytes for a filesystem): the largest of several causes comes first.
    #[serde(skip)]
    pub weight: u64,
}

impl Finding {
    /// A confirmed finding with nothing cited yet.
    pub fn new(code: &'static Code, severity: Severity, subject: Subject, message: impl Into<String>) -> Self {
        debug_assert!(code.severities.contains(&severity), "{} is not declared with severity {severity}", code.id);
        Self {
            id: String::new(),
            code: code.id.to_owned(),
            runbook: code.id.split('.').next().unwrap_or_default().to_owned(),
            severity,
            confidence: Confidence::Confirmed,
            subject,
            message: message.into(),
            evidence: Vec::new(),
            fixes: Vec::new(),
            explained_by: None,
            since: None,
            waived: None,
            owner: None,
            hint: code.hint.to_owned(),
            keys: Vec::new(),
            weight: 0,
        }
    }

    /// Adds a piece of evidence; an empty value is left out.
    #[must_use]
    pub fn cite(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.evidence.push(Cited { label: label.into(), value });
        }
        self
    }

    /// Adds a piece of evidence that may not have been read.
    #[must_use]
    pub fn cite_opt(self, label: impl Into<String>, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.cite(label, value),
            None => self,
        }
    }

    /// Marks it as fitting the evidence without being proved by it.
    #[must_use]
    pub fn likely(mut self) -> Self {
        self.confidence = Confidence::Likely;
        self
    }

    /// Replaces the code's general hint by one that fits this case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Offers a fix.
    #[must_use]
    pub fn fix(mut self, id: &'static str) -> Self {
        self.fixes.push(id.to_owned());
        self
    }

    /// Says when it began.
    #[must_use]
    pub fn since(mut self, at: Option<Timestamp>) -> Self {
        self.since = at;
        self
    }

    /// Adds something it shares with other findings.
    #[must_use]
    pub fn key(mut self, kind: KeyKind, value: impl Into<String>) -> Self {
        self.keys.push(Key { kind, value: value.into() });
        self
    }

    /// Says how much of a shared effect it accounts for.
    #[must_use]
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = weight;
        self
    }
}
