//! A runbook: checks, links and documentation.

use super::{check::AnyCheck, code::Code, link::Link, setting};

/// A runbook with its settings applied.
#[derive(Default)]
pub struct Runbook {
    /// Id, which is also its directory, its subcommand and the prefix of its codes.
    pub id: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// Its checks, in the order of the report.
    pub checks: Vec<Box<dyn AnyCheck>>,
    /// Its causal links that do not follow from roles, in one or more tables.
    pub links: &'static [&'static [Link]],
    /// Contents of RUNBOOK.md.
    pub doc: &'static str,
    /// Its settings by key, for texts.
    pub settings: serde_json::Value,
}

impl Runbook {
    /// The same with these settings in its texts.
    #[must_use]
    pub fn configured(mut self, settings: &impl serde::Serialize) -> Self {
        self.settings = serde_json::to_value(settings).unwrap_or_default();
        self
    }

    /// The condition for a code with the limits in force.
    #[must_use]
    pub fn when(&self, code: &Code) -> String {
        setting::with_values(code.when, &self.settings)
    }

    /// The codes of its checks.
    pub fn codes(&self) -> impl Iterator<Item = &'static Code> {
        self.checks.iter().flat_map(|c| c.spec().codes)
    }
}
