//! Comparison of the clock with references. Runs only if the configuration names references: opsctl contacts no host by default.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{Check, CheckSpec, Finding, Inventory, Judged, Judgement, Object};
use opsctl_core::probe::io::http;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::clock::OFFSET;
use crate::shared::processes::of_host;

static SPEC: CheckSpec = CheckSpec {
    id: "time.reference",
    title: "the system clock agrees with its references",
    codes: &[OFFSET],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Time limit of a request to one reference.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// `Date` has a resolution of one second: two servers with the same time differ by up to one second.
const AGREE_S: f64 = 1.0;

pub(super) struct Reference {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// By reference: its offset ahead of this clock in seconds, or the reason of a failed request.
    answers: Vec<(String, Result<f64, String>)>,
}

impl Check for Reference {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, _inventory: &Inventory) -> Vec<Object> {
        // without references the check has no target
        if self.settings.references.is_empty() { Vec::new() } else { vec![Object::host()] }
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let query = |url: &String| {
            let url = url.clone();
            async move { (url.clone(), http::clock_offset(&url, REQUEST_TIMEOUT).await) }
        };
        Ok(Evidence { answers: join_all(self.settings.references.iter().map(query)).await })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let failed: Vec<String> =
            e.answers.iter().filter_map(|(url, answer)| answer.as_ref().err().map(|why| format!("{url}: {why}"))).collect();
        let offsets: Vec<(&str, f64)> =
            e.answers.iter().filter_map(|(url, a)| a.as_ref().ok().map(|s| (url.as_str(), *s))).collect();
        let Some(offset) = agreed(&offsets) else {
            let mut gaps = failed;
            gaps.insert(0, format!("{} references answered, and no two agree within {AGREE_S:.0} s", offsets.len()));
            return Judgement { gaps, ..Judgement::default() };
        };
        let Some((severity, limit)) = self.settings.reference().exceeded(offset.abs()) else { return Judgement::default() };
        let direction = if offset > 0.0 { "behind" } else { "ahead of" };
        let message = format!("the clock is {:.0} s {direction} its references, limit {limit:.0} s", offset.abs());
        let all = offsets.iter().map(|(url, s)| format!("{url} {s:+.1} s")).collect::<Vec<_>>().join(", ");
        vec![of_host(Finding::new(&OFFSET, severity, Object::host(), message).cite("references", all))].into()
    }
}

/// The mean of the first two references that agree: a single one may be wrong.
fn agreed(offsets: &[(&str, f64)]) -> Option<f64> {
    offsets.iter().enumerate().find_map(|(i, (_, a))| {
        offsets[i + 1..].iter().find(|(_, b)| (a - b).abs() <= AGREE_S).map(|(_, b)| f64::midpoint(*a, *b))
    })
}
