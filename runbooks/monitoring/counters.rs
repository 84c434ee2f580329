//! Counters of a server: growth since the last run a few minutes ago, or within the current run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::{Object, Sample};
use opsctl_core::probe::servers::metrics::MetricSample;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

/// Older samples do not describe the present.
const MAX_AGE_S: i64 = 600;

/// Between two scrapes of one run.
const WINDOW: Duration = Duration::from_millis(1500);

/// Counters by name and label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    pub(super) now: BTreeMap<String, f64>,
    /// A second scrape; only if a counter is above zero and no earlier run can be compared with.
    later: BTreeMap<String, f64>,
    before: BTreeMap<String, Sample>,
}

impl Counters {
    /// Reads them; series of one name are distinguished by `label`.
    pub(super) async fn read(
        cx: &ProbeCx,
        target: &Object,
        object: &str,
        names: &[&str],
        label: &str,
    ) -> Result<(Self, Vec<MetricSample>), ProbeError> {
        let numbers = cx.metrics(target, names).await?;
        let mut counters = Self { now: by_label(&numbers, label), ..Self::default() };
        for key in counters.now.keys() {
            if let Some(sample) = cx.history.oldest(object, key, MAX_AGE_S) {
                counters.before.insert(key.clone(), sample);
            }
        }
        let suspicious = counters.now.iter().any(|(key, n)| *n > 0.0 && !counters.before.contains_key(key));
        if suspicious {
            tokio::time::sleep(WINDOW).await;
            counters.later = by_label(&cx.metrics_now(target, names).await, label);
        }
        Ok((counters, numbers))
    }

    /// Growth of a counter since the last run or within this run; 0 if unknown.
    pub(super) fn grown(&self, key: &str) -> f64 {
        let Some(now) = self.now.get(key) else { return 0.0 };
        let since = self.before.get(key).map_or(0.0, |b| now - b.value);
        let meanwhile = self.later.get(key).map_or(0.0, |l| l - now);
        since.max(0.0) + meanwhile.max(0.0)
    }

    /// All series of one name: label, value, growth.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64, f64)> {
        self.now.iter().filter_map(move |(key, n)| {
            let label = key.strip_prefix(name)?.strip_prefix(' ')?;
            Some((label, *n, self.grown(key)))
        })
    }

    /// The samples for the next run.
    pub(super) fn samples(&self, object: &str, at: Timestamp) -> Vec<Sample> {
        let all = self.now.iter();
        all.map(|(key, value)| Sample { object: object.to_owned(), metric: key.clone(), at, value: *value }).collect()
    }

    /// Age of the earlier sample in seconds; `None` if both samples are of this run.
    pub(super) fn since(&self, now: Timestamp) -> Option<i64> {
        self.before.values().map(|s| now.duration_since(s.at).as_secs()).max()
    }
}

fn by_label(numbers: &[MetricSample], label: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for n in numbers {
        *found.entry(format!("{} {}", n.name, n.label(label))).or_insert(0.0) += n.value;
    }
    found
}
