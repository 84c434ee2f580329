//! A waiver: the findings that it silences, its period, kind and reason. Waivers are in the configuration (`[[waiver]]`) and in
//! the state directory (`opsctl waive`).

mod window;

use jiff::Timestamp;
use opsctl_core::model::{Object, quantity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::glob;

pub use window::Window;

/// Kind of a waiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// The problem is known and worked on
    #[default]
    KnownIssue,
    /// Work on the host is planned or under way
    Maintenance,
    /// The check is flaky without a real problem
    Flaky,
}

impl Tag {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::KnownIssue => "known issue",
            Self::Maintenance => "maintenance",
            Self::Flaky => "flaky",
        }
    }
}

/// Selects findings: `CODE[@SUBJECT]`, `*` matches any text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Which {
    /// Pattern of the code.
    pub code: String,
    /// Pattern of the subject, as `name` or `kind:name`; `None` matches any subject.
    pub subject: Option<String>,
}

impl From<String> for Which {
    fn from(text: String) -> Self {
        match text.split_once('@') {
            Some((code, subject)) => Self { code: code.to_owned(), subject: Some(subject.to_owned()) },
            None => Self { code: text, subject: None },
        }
    }
}

impl From<Which> for String {
    fn from(which: Which) -> Self {
        which.to_string()
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        self.subject.iter().try_for_each(|s| write!(f, "@{s}"))
    }
}

impl Which {
    /// Whether it selects a finding with this code and subject.
    pub(crate) fn covers(&self, code: &str, subject: &Object) -> bool {
        let named = |pattern: &String| glob(pattern, &subject.name) || glob(pattern, &subject.to_string());
        glob(&self.code, code) && self.subject.as_ref().is_none_or(named)
    }
}

/// A waiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The silenced findings.
    #[serde(rename = "match")]
    pub which: Which,
    /// The period.
    pub window: Window,
    /// The kind.
    pub tag: Tag,
    /// The reason.
    pub reason: String,
    /// Author: a user of this host, or `configuration`.
    pub by: String,
}

impl Waiver {
    /// One line: `known issue until 2026-11-22 10:00 UTC: the disk is on order (root)`.
    #[must_use]
    pub fn describe(&self, now: Timestamp) -> String {
        let until = self.window.ends(now).map_or_else(String::new, |end| format!(" until {}", quantity::minute(end)));
        format!("{}{until}: {} ({})", self.tag.words(), self.reason, self.by)
    }
}
