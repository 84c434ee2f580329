//! Remote write of Prometheus: delay and rejected samples.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::counters::Counters;
use super::tsdb::seconds;
use crate::shared::servers::Server;

const REMOTE_WRITE: Code = Code {
    id: "monitoring.remote-write",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "samples for a remote store are over {remote_write_behind_s} late (crit), or were permanently rejected since the last run (warn); samples were rejected earlier since its start (info)",
    hint: "check the remote store and the network path to it; `msg` fields with `remote` in its log contain the reply",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.remote-write",
    title: "Remote write is current",
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
    /// By store: delay of the newest sample in seconds.
    late: BTreeMap<String, f64>,
    /// By store: pending samples.
    pending: BTreeMap<String, f64>,
}

impl Check for RemoteWrite {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let gauges = cx.metrics(target, GAUGES).await?;
        let of = |name: &'static str| gauges.iter().filter(move |n| n.name == name);
        let pending: BTreeMap<String, f64> = of(GAUGES[0]).map(|n| (n.label("url").to_owned(), n.value)).collect();
        if pending.is_empty() {
            return Err(ProbeError::Skip("it has no remote write".to_owned()));
        }
        let newest = of(GAUGES[1]).map(|n| n.value).fold(0.0, f64::max);
        // 0 until the first sample is sent
        let late = of(GAUGES[2]).filter(|n| n.value > 0.0).map(|n| (n.label("url").to_owned(), newest - n.value)).collect();
        let (counters, _) = Counters::read(cx, target, &server.object(target), COUNTERS, "url").await?;
        Ok(Evidence { server, counters, late, pending })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, limit) = (&judged.target.name, self.settings.remote_write_behind_s);
        let finding = |severity, text: String| e.server.finding(&REMOTE_WRITE, severity, judged.target, text);
        let mut findings = Vec::new();
        for (url, late) in e.late.iter().filter(|(_, late)| **late > limit) {
            let text = format!("samples of {name} for {url} are {} late, limit {}", seconds(*late), seconds(limit));
            let waits = e.pending.get(url).map(|n| format!("{n:.0} samples"));
            findings.push(finding(Severity::Crit, text).cite_opt("pending", waits));
        }
        for (url, all, grown) in e.counters.of(COUNTERS[0]).filter(|(_, all, _)| *all > 0.0) {
            let (severity, text) = if grown > 0.0 {
                (Severity::Warn, format!("{url} permanently rejected {grown:.0} samples of {name} since the last run"))
            } else {
                (
                    Severity::Info,
                    format!("{url} permanently rejected {all:.0} samples of {name} since its start, none since the last run"),
                )
            };
            findings.push(finding(severity, text));
        }
        let samples = e.counters.samples(&e.server.object(judged.target), judged.taken_at);
        Judgement { findings, samples, ..Judgement::default() }
    }
}
