//! What a runbook author writes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    code::Code,
    evidence::{EvidenceText, Sample},
    finding::Finding,
    fix::{FixSpec, Plan, Refusal},
    inventory::Inventory,
    measure::Measure,
    table::Table,
    target::Target,
};
use crate::probe::{ProbeCx, ProbeError};

/// What a check is, before it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// `runbook.name`, for example `container.state`.
    pub id: &'static str,
    /// Reads true when healthy: "containers are running".
    pub title: &'static str,
    /// Every code it can report.
    pub codes: &'static [Code],
    /// Every fix it can plan.
    pub fixes: &'static [FixSpec],
    /// How long one probe may take; the engine gives up then and says so.
    pub timeout: Duration,
}

/// One check. `probe` reads, `judge` decides, `plan` proposes; the engine does everything else.
pub trait Check: Send + Sync + 'static {
    /// What `probe` brings back and `judge` sees: plain data, no secrets, all of it recordable.
    type Evidence: Serialize + DeserializeOwned + Send;

    /// What it is.
    fn spec(&self) -> &'static CheckSpec;

    /// What it applies to on this host; nothing means the check has no row. The machine itself unless a check says otherwise.
    fn targets(&self, _inventory: &Inventory) -> Vec<Target> {
        vec![Target::host()]
    }

    /// Reads the facts. The only I/O. A target that does not answer is evidence, not an error:
    /// errors are for what *we* could not look at.
    fn probe(&self, cx: &ProbeCx, target: &Target) -> impl Future<Output = Result<Self::Evidence, ProbeError>> + Send;

    /// Decides. Pure: what it needs to know about time is in `judged.taken_at`.
    fn judge(&self, judged: &Judged<'_>, evidence: &Self::Evidence) -> Judgement;

    /// Proposes how to carry out `fix` for `finding`, from evidence alone. The guard calls it again with
    /// fresh evidence just before acting, so every precondition is written once, here.
    fn plan(&self, fix: &str, _finding: &Finding, _judged: &Judged<'_>, _evidence: &Self::Evidence) -> Result<Plan, Refusal> {
        Err(Refusal::Precondition(format!("{} has no fix {fix}", self.spec().id)))
    }
}

/// What is judged: the target and the moment its evidence was taken.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// What was probed.
    pub target: &'a Target,
    /// Now, as far as `judge` is concerned.
    pub taken_at: Timestamp,
}

/// What a judge says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
    /// What it could not see although it matters: the check is at best unknown.
    pub gaps: Vec<String>,
    /// Why the check says nothing about this target after all.
    pub skip: Option<String>,
    /// Tables for the report.
    pub tables: Vec<Table>,
    /// Numbers to remember for the next run.
    pub samples: Vec<Sample>,
    /// Numbers with their limits, for whoever draws or compares them.
    pub measures: Vec<Measure>,
    /// What may still change by itself in the next minutes, good or bad: something is starting, a clock is being set. Who waits
    /// for a host to come up waits while there is any, and no longer.
    pub pending: Vec<String>,
}

impl Judgement {
    /// Does not apply; why.
    pub fn skip(why: impl Into<String>) -> Self {
        Self { skip: Some(why.into()), ..Self::default() }
    }
}

impl From<Vec<Finding>> for Judgement {
    fn from(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }
}

/// Evidence that does not have the shape of its check: an old recording, or a hand-made one.
#[derive(Debug, thiserror::Error)]
#[error("the evidence of {check} does not have the shape this version reads: {source}")]
pub struct EvidenceMismatch {
    /// Check id.
    pub check: &'static str,
    /// What serde said.
    #[source]
    pub source: serde_json::Error,
}

/// A future that can be put in a list with others.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Check`] without its evidence type. The engine sees evidence only as JSON text, so what is judged live is
/// exactly what a recording holds.
pub trait AnyCheck: Send + Sync {
    /// See [`Check::spec`].
    fn spec(&self) -> &'static CheckSpec;
    /// See [`Check::targets`].
    fn targets(&self, inventory: &Inventory) -> Vec<Target>;
    /// See [`Check::probe`].
    fn probe<'a>(&'a self, cx: &'a ProbeCx, target: &'a Target) -> BoxFuture<'a, Result<EvidenceText, ProbeError>>;
    /// See [`Check::judge`].
    fn judge(&self, judged: &Judged<'_>, evidence: &EvidenceText) -> Result<Judgement, EvidenceMismatch>;
    /// See [`Check::plan`].
    fn plan(
        &self,
        fix: &str,
        finding: &Finding,
        judged: &Judged<'_>,
        evidence: &EvidenceText,
    ) -> Result<Result<Plan, Refusal>, EvidenceMismatch>;
}

impl<C: Check> AnyCheck for C {
    fn spec(&self) -> &'static CheckSpec {
        Check::spec(self)
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        Check::targets(self, inventory)
    }

    fn probe<'a>(&'a self, cx: &'a ProbeCx, target: &'a Target) -> BoxFuture<'a, Result<EvidenceText, ProbeError>> {
        Box::pin(async move {
            let evidence = Check::probe(self, cx, target).await?;
            EvidenceText::of(&evidence).map_err(|e| ProbeError::failed("the evidence", Check::spec(self).id, &e.to_string()))
        })
    }

    fn judge(&self, judged: &Judged<'_>, evidence: &EvidenceText) -> Result<Judgement, EvidenceMismatch> {
        Ok(Check::judge(self, judged, &typed(self, evidence)?))
    }

    fn plan(
        &self,
        fix: &str,
        finding: &Finding,
        judged: &Judged<'_>,
        evidence: &EvidenceText,
    ) -> Result<Result<Plan, Refusal>, EvidenceMismatch> {
        Ok(Check::plan(self, fix, finding, judged, &typed(self, evidence)?))
    }
}

fn typed<C: Check>(check: &C, evidence: &EvidenceText) -> Result<C::Evidence, EvidenceMismatch> {
    evidence.typed().map_err(|source| EvidenceMismatch { check: Check::spec(check).id, source })
}
