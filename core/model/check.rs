//! The traits and types that a runbook author implements.

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
    object::Object,
    table::Table,
};
use crate::probe::{ProbeCx, ProbeError};

/// Static description of a check.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// `runbook.name`, for example `container.state`.
    pub id: &'static str,
    /// Subject and predicate, true when healthy: "containers are running".
    pub title: &'static str,
    /// All codes it can report.
    pub codes: &'static [Code],
    /// All fixes it can plan.
    pub fixes: &'static [FixSpec],
    /// Timeout of one probe; the engine then reports the check as unknown.
    pub timeout: Duration,
}

/// A check. `probe` collects evidence, `judge` evaluates it, `plan` proposes fixes; everything else is up to the engine.
pub trait Check: Send + Sync + 'static {
    /// Evidence from `probe` for `judge`: plain data without secrets; all of it can be recorded.
    type Evidence: Serialize + DeserializeOwned + Send;

    /// Its static description.
    fn spec(&self) -> &'static CheckSpec;

    /// The targets of the check on this host; without targets the check has no row. Default: the host.
    fn targets(&self, _inventory: &Inventory) -> Vec<Object> {
        vec![Object::host()]
    }

    /// Collects evidence. The only method with I/O. A target that does not respond is evidence; errors are for failures of opsctl
    /// itself to read something.
    fn probe(&self, cx: &ProbeCx, target: &Object) -> impl Future<Output = Result<Self::Evidence, ProbeError>> + Send;

    /// Evaluates evidence. Pure: the current time is `judged.taken_at`.
    fn judge(&self, judged: &Judged<'_>, evidence: &Self::Evidence) -> Judgement;

    /// Plans `fix` for `finding` from evidence alone. The guard calls it again with fresh evidence right before it acts, so every
    /// precondition is written once, here.
    fn plan(&self, fix: &str, _finding: &Finding, _judged: &Judged<'_>, _evidence: &Self::Evidence) -> Result<Plan, Refusal> {
        Err(Refusal::Precondition(format!("{} has no fix {fix}", self.spec().id)))
    }
}

/// Context of an evaluation: the target and the time of its evidence.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The probed target.
    pub target: &'a Object,
    /// The current time for `judge`.
    pub taken_at: Timestamp,
}

/// Result of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// Faults and noteworthy facts.
    pub findings: Vec<Finding>,
    /// Relevant facts that could not be read: the check is at best unknown.
    pub gaps: Vec<String>,
    /// Names of the facts that were read. While there are gaps, a finding that names its facts ([`Finding::fact`]) is resolved only if
    /// all of them were read again.
    pub facts: Vec<String>,
    /// Reason why the check does not apply to this target.
    pub skip: Option<String>,
    /// Tables for the report.
    pub tables: Vec<Table>,
    /// Numbers to store for the next run.
    pub samples: Vec<Sample>,
    /// Numbers with their limits, for perfdata and metrics.
    pub measures: Vec<Measure>,
    /// Conditions that may change on their own within minutes, for better or worse, for example a starting unit or a clock that
    /// is being set. Commands that wait for a host to come up wait while there are any.
    pub pending: Vec<String>,
}

impl Judgement {
    /// The check does not apply, with the reason.
    pub fn skip(why: impl Into<String>) -> Self {
        Self { skip: Some(why.into()), ..Self::default() }
    }
}

impl From<Vec<Finding>> for Judgement {
    fn from(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }
}

/// Evidence that does not match the type of its check: an old or a handwritten recording.
#[derive(Debug, thiserror::Error)]
#[error("the evidence of {check} does not match the format of this version: {source}")]
pub struct EvidenceError {
    /// Check id.
    pub check: &'static str,
    /// Error from serde.
    #[source]
    pub source: serde_json::Error,
}

/// A boxed future, for collections of futures.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Check`] without its evidence type. The engine handles evidence as JSON text only, so a live run judges exactly the contents
/// of a recording.
pub trait AnyCheck: Send + Sync {
    /// See [`Check::spec`].
    fn spec(&self) -> &'static CheckSpec;
    /// See [`Check::targets`].
    fn targets(&self, inventory: &Inventory) -> Vec<Object>;
    /// See [`Check::probe`].
    fn probe<'a>(&'a self, cx: &'a ProbeCx, target: &'a Object) -> BoxFuture<'a, Result<EvidenceText, ProbeError>>;
    /// See [`Check::judge`].
    fn judge(&self, judged: &Judged<'_>, evidence: &EvidenceText) -> Result<Judgement, EvidenceError>;
    /// See [`Check::plan`].
    fn plan(
        &self,
        fix: &str,
        finding: &Finding,
        judged: &Judged<'_>,
        evidence: &EvidenceText,
    ) -> Result<Result<Plan, Refusal>, EvidenceError>;
}

impl<C: Check> AnyCheck for C {
    fn spec(&self) -> &'static CheckSpec {
        Check::spec(self)
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        Check::targets(self, inventory)
    }

    fn probe<'a>(&'a self, cx: &'a ProbeCx, target: &'a Object) -> BoxFuture<'a, Result<EvidenceText, ProbeError>> {
        Box::pin(async move {
            let evidence = Check::probe(self, cx, target).await?;
            EvidenceText::of(&evidence).map_err(|e| ProbeError::failed("the evidence", Check::spec(self).id, &e.to_string()))
        })
    }

    fn judge(&self, judged: &Judged<'_>, evidence: &EvidenceText) -> Result<Judgement, EvidenceError> {
        Ok(Check::judge(self, judged, &typed(self, evidence)?))
    }

    fn plan(
        &self,
        fix: &str,
        finding: &Finding,
        judged: &Judged<'_>,
        evidence: &EvidenceText,
    ) -> Result<Result<Plan, Refusal>, EvidenceError> {
        Ok(Check::plan(self, fix, finding, judged, &typed(self, evidence)?))
    }
}

fn typed<C: Check>(check: &C, evidence: &EvidenceText) -> Result<C::Evidence, EvidenceError> {
    evidence.typed().map_err(|source| EvidenceError { check: Check::spec(check).id, source })
}
