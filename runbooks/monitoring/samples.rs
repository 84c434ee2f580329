//! Targets that are up and store no sample: `up` is 1 while relabelling drops everything, or the response is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::status::{fresh_since, prometheus_server};
use super::{Settings, some_of};
use crate::shared::servers::Server;

const DROPPED: Code = Code {
    id: "monitoring.samples-dropped",
    severities: &[Severity::Info, Severity::Warn],
    when: "a target is up, but metric_relabel_configs drop every sample of it (warn), or its response has no sample (info): `up` is 1, and rules on its metrics have no data",
    hint: "check metric_relabel_configs of the job: `action: keep` with an expression that matches nothing drops every sample; list jobs for which only `up` is wanted in samples_ok",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.samples-dropped",
    title: "Samples of targets are stored",
    codes: &[DROPPED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Targets that are up, with samples in the response and none after relabelling. The value is the number before it.
const RELABELLED: &str = "scrape_samples_scraped > 0 and scrape_samples_post_metric_relabeling == 0 and up == 1";
/// Targets that are up, with an empty response.
const EMPTY: &str = "scrape_samples_scraped == 0 and up == 1";

pub(super) struct Samples {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Time of its start or of its last configuration load.
    fresh_since: Option<Timestamp>,
    /// By job: targets with dropped samples, and the number of samples.
    dropped: BTreeMap<String, Vec<(String, f64)>>,
    /// By job: targets with an empty response.
    empty: BTreeMap<String, Vec<String>>,
    /// By job: number of targets that are up.
    up: BTreeMap<String, f64>,
}

impl Check for Samples {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which stores no samples").await?;
        let mut e = Evidence::default();
        for s in cx.query(target, RELABELLED).await? {
            e.dropped.entry(s.label("job").to_owned()).or_default().push((s.label("instance").to_owned(), s.value));
        }
        for s in cx.query(target, EMPTY).await? {
            e.empty.entry(s.label("job").to_owned()).or_default().push(s.label("instance").to_owned());
        }
        if !e.dropped.is_empty() || !e.empty.is_empty() {
            let up = cx.query(target, "count by (job) (up == 1)").await?;
            e.up = up.iter().map(|s| (s.label("job").to_owned(), s.value)).collect();
            e.up.retain(|job, _| e.dropped.contains_key(job) || e.empty.contains_key(job));
            let process = server.get().and_then(|s| s.process);
            e.fresh_since = fresh_since(cx, target, process).await;
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let young = SignedDuration::from_secs(self.settings.starting_s);
        if e.fresh_since.is_some_and(|t| judged.taken_at.duration_since(t) < young) {
            return Judgement::skip("it started or loaded its configuration moments ago");
        }
        let name = &judged.target.name;
        let mut findings = Vec::new();
        let wanted = |job: &String| !self.settings.samples_ok.contains(job);
        for (job, targets) in e.dropped.iter().filter(|(job, _)| wanted(job)) {
            let instances: Vec<String> = targets.iter().map(|(i, _)| i.clone()).collect();
            let samples: f64 = targets.iter().map(|(_, n)| n).sum();
            let text = format!(
                "{name} drops all {samples:.0} samples of {}{}: {} up, but metric_relabel_configs of the job {job} keep none",
                some_of(&instances),
                of_all(targets.len(), e.up.get(job)),
                if targets.len() == 1 { "it is" } else { "they are" }
            );
            findings.push(e.server.finding(&DROPPED, Severity::Warn, judged.target, text).cite("query", RELABELLED));
        }
        for (job, targets) in e.empty.iter().filter(|(job, _)| wanted(job)) {
            let text = format!(
                "{name}: the response of {}{} (job {job}) contains no sample, though {} up",
                some_of(targets),
                of_all(targets.len(), e.up.get(job)),
                if targets.len() == 1 { "it is" } else { "they are" }
            );
            let f = e.server.finding(&DROPPED, Severity::Info, judged.target, text).cite("query", EMPTY);
            findings.push(
                f.hint("check metrics_path and params of the job: a federation with match[] that selects no series is empty"),
            );
        }
        findings.into()
    }
}

fn of_all(n: usize, all: Option<&f64>) -> String {
    match all {
        Some(all) if *all > n as f64 => format!(" ({n} of {all:.0})"),
        _ => String::new(),
    }
}
