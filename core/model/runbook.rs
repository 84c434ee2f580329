//! A runbook: checks, links and documentation.

use super::{check::AnyCheck, code::Code, link::Link};

/// A runbook with its settings applied.
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
}

impl Runbook {
    /// The codes of its checks.
    pub fn codes(&self) -> impl Iterator<Item = &'static Code> {
        self.checks.iter().flat_map(|c| c.spec().codes)
    }
}
