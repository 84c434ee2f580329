//! A runbook: its checks, its links and its prose.

use super::{check::AnyCheck, link::Link};

/// One runbook, ready to run with its settings.
pub struct Runbook {
    /// Id = folder = subcommand = prefix of its codes.
    pub id: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// Its checks, in the order of the report.
    pub checks: Vec<Box<dyn AnyCheck>>,
    /// What may cause what, in one table or in several.
    pub links: &'static [&'static [Link]],
    /// RUNBOOK.md.
    pub doc: &'static str,
}

impl Runbook {
    /// What may cause what.
    pub fn links(&self) -> impl Iterator<Item = &'static Link> + use<> {
        self.links.iter().copied().flatten()
    }
}
