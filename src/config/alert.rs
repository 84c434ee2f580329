//! `[[alert]]`: assignment of alerts to runbooks.

use super::names::{did_you_mean, glob};
use super::problem::ValidationError;
use super::raw;
use super::valid::KnownNames;

/// A validated entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Pattern of the alert's name.
    pub name: String,
    /// Runbooks of the alert.
    pub runbooks: Vec<String>,
    /// The label with the subject.
    pub subject_label: Option<String>,
}

impl Alert {
    /// Whether the entry matches an alert of this name.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        glob(&self.name, name)
    }
}

/// Validates one entry.
pub(super) fn validate(raw: &raw::Alert, known: &KnownNames) -> Result<Alert, ValidationError> {
    for runbook in &raw.runbooks {
        let name = runbook.get_ref();
        if !known.checks.contains(name) || name.contains('.') {
            let hint = did_you_mean(name, known.checks.iter().map(String::as_str).filter(|c| !c.contains('.')));
            return Err(ValidationError::new(
                runbook.span(),
                format!("`runbooks` in [[alert]]: no runbook is called `{name}`{hint}"),
            ));
        }
    }
    let runbooks = raw.runbooks.iter().map(|r| r.get_ref().clone()).collect();
    Ok(Alert { name: raw.name.clone(), runbooks, subject_label: raw.subject_label.clone() })
}
