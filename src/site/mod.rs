//! Site runbooks ([`crate::config::site`]), equivalent to the built-in ones: `probe` collects evidence like every probe,
//! `judge` evaluates it, `fix` plans.

mod fix;
mod judge;
mod log;
mod probe;
#[cfg(test)]
mod tests;

use opsctl_core::model::{
    AnyCheck, Check, CheckSpec, Finding, Inventory, Judged, Judgement, Kind, Object, Plan, Refusal, Runbook,
};
use opsctl_core::probe::{ProbeCx, ProbeError};

use crate::config::Config;
use crate::config::site::{SiteCheck, SiteRunbook};
use probe::Evidence;

/// The built-in runbooks with their settings, then the custom ones.
#[must_use]
pub fn runbooks(config: &Config) -> Vec<Runbook> {
    let mut all = opsctl_runbooks::all(&config.runbooks);
    all.extend(config.site.iter().map(|own| runbook(own, &config.runbooks.tls.ca_files)));
    all
}

fn runbook(own: &'static SiteRunbook, ca_files: &[String]) -> Runbook {
    let check = |check: &'static SiteCheck| Box::new(CheckAdapter { check, ca_files: ca_files.to_vec() }) as Box<dyn AnyCheck>;
    Runbook {
        id: own.id,
        about: own.about,
        checks: own.checks.iter().map(check).collect(),
        links: own.links,
        doc: own.doc,
        ..Runbook::default()
    }
}

/// A site check as the engine runs it.
struct CheckAdapter {
    check: &'static SiteCheck,
    /// Additional trusted authorities: one list for the whole run.
    ca_files: Vec<String>,
}

impl Check for CheckAdapter {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        self.check.spec
    }

    fn targets(&self, _inventory: &Inventory) -> Vec<Object> {
        vec![Object::named(Kind::Service, self.check.runbook)]
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        Box::pin(probe::probe(self.check, cx, &self.ca_files)).await
    }

    fn judge(&self, judged: &Judged<'_>, evidence: &Evidence) -> Judgement {
        judge::judge(self.check, judged, evidence)
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, evidence: &Evidence) -> Result<Plan, Refusal> {
        fix::plan(self.check, fix, finding, judged, evidence)
    }
}
