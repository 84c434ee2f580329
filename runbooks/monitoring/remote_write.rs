//! Does what it passes on arrive?

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Product, Severity, Target};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::counters::Counters;
use super::tsdb::seconds;
use crate::servers::Server;

const REMOTE_WRITE: Code = Code {
    id: "monitoring.remote-write",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "samples for a remote store are over 2 min late (crit), or were refused for good since the last run (warn); some were in all its life (info)",
    hint: "look at the remote store and the way there; `msg` lines of its log with `remote` name the answer",
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.remote-write",
    title: "what it passes on arrives",
    codes: &[REMOTE_WRITE],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

const COUNTERS: &[&str] = &["prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total"];
const GAUGES: &[&str] = &[
    "prometheus_remote_storage_samples_pending",
    "prometheus_remote_storage_highest_timestamp_in_seconds",
    "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
];

pub(super) struct RemoteWrite {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    counters: Counters,
    /// By store: how late its newest sample is, in seconds.
    late: BTreeMap<String, f64>,
    /// By store: samples that wait.
    pending: BTreeMap<String, f64>,
}

impl Check for RemoteWrite {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let gauges = cx.metrics(target, GAUGES).await?;
        let of = |name: &'static str| gauges.iter().filter(move |n| n.name == name);
        let pending: BTreeMap<String, f64> = of(GAUGES[0]).map(|n| (n.label("url").to_owned(), n.value)).collect();
        if pending.is_empty() {
            return Err(ProbeError::Skip("it passes nothing on".to_owned()));
        }
        let newest = of(GAUGES[1]).map(|n| n.value).fold(0.0, f64::max);
        // before the first one was sent it is 0
        let late = of(GAUGES[2]).filter(|n| n.value > 0.0).map(|n| (n.label("url").to_owned(), newest - n.value)).collect();
        let (counters, _) = Counters::read(cx, target, &server.object(target), COUNTERS, "url").await?;
        Ok(Evidence { server, counters, late, pending })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, limit) = (&judged.target.name, self.settings.remote_write_behind_s);
        let finding = |severity, text: String| e.server.finding(&REMOTE_WRITE, severity, judged.target, text);
        let mut findings = Vec::new();
        for (url, late) in e.late.iter().filter(|(_, late)| **late > limit) {
            let text = format!("what {name} sends to {url} is {} late, limit {}", seconds(*late), seconds(limit));
            let waits = e.pending.get(url).map(|n| format!("{n:.0} samples"));
            findings.push(finding(Severity::Crit, text).cite_opt("waiting", waits));
        }
        for (url, all, grown) in e.counters.of(COUNTERS[0]).filter(|(_, all, _)| *all > 0.0) {
            let (severity, text) = if grown > 0.0 {
                (Severity::Warn, format!("{url} refused {grown:.0} samples of {name} for good since it was looked at last"))
            } else {
                (Severity::Info, format!("{url} refused {all:.0} samples of {name} since its start, none of them now"))
            };
            findings.push(finding(severity, text));
        }
        let samples = e.counters.samples(&e.server.object(judged.target), judged.taken_at);
        Judgement { findings, samples, ..Judgement::default() }
    }
}
