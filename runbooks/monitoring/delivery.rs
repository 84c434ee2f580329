//! Delivery of logs by Promtail and Alloy: requests to Loki that fail, and entries that are dropped.

use jiff::Timestamp;
use opsctl_core::model::Object;
use opsctl_core::probe::servers::metrics::MetricSample;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::losses::{Loss, period};
use super::peers::{self, Peer};
use crate::shared::servers::Server;

/// The counters of one product.
#[derive(Debug)]
pub(super) struct Sender {
    /// Requests by `status_code` and `host`.
    requests: &'static str,
    /// Entries dropped after all retries, by `reason` and `host`.
    pub(super) dropped: Loss,
}

/// Promtail (`clients/pkg/promtail/client/client.go`).
pub(super) static PROMTAIL: Sender =
    Sender { requests: "promtail_request_duration_seconds_count", dropped: dropped("promtail_dropped_entries_total") };

/// Alloy's `loki.write` (`internal/component/common/loki/client`).
pub(super) static ALLOY: Sender =
    Sender { requests: "loki_write_request_duration_seconds_count", dropped: dropped("loki_write_dropped_entries_total") };

const fn dropped(metric: &'static str) -> Loss {
    Loss { metric, verb: "dropped", data: "log entries", meaning, intended: &[] }
}

/// Meaning of a reason (Promtail `clients/pkg/promtail/client/client.go`).
fn meaning(reason: &str) -> &'static str {
    match reason {
        "ingester_error" => "Loki rejected them, or did not answer until the last retry",
        "rate_limited" => "Loki answered 429 until the last retry",
        "stream_limited" => "above the stream limit of Loki",
        "line_too_long" => "longer than the limit of the client",
        _ => "",
    }
}

/// Delivery by one sender.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Delivery {
    pub(super) dropped: Counters,
    /// Requests; only if one has failed.
    requests: Counters,
    /// The receivers of failed requests and dropped entries on this host.
    pub(super) peers: Vec<Peer>,
}

/// Reads the counters of a sender, a second time if they do not show whether a fault is present.
pub(super) async fn read(cx: &ProbeCx, target: &Object, server: &Server, sender: &Sender) -> Result<Delivery, ProbeError> {
    let object = server.object(target);
    let all = cx.metrics(target, &[sender.requests, sender.dropped.metric]).await?;
    let bad = |s: &&MetricSample| s.value > 0.0 && (s.name == sender.dropped.metric || !is_success(s.label("status_code")));
    let failed: Vec<&MetricSample> = all.iter().filter(bad).collect();
    if failed.is_empty() {
        return Ok(Delivery::default());
    }
    let names = [sender.dropped.metric];
    let dropped = Box::pin(Counters::read(cx, target, &object, &names, "reason"));
    let requests = async {
        if failed.iter().any(|s| s.name == sender.requests) {
            Box::pin(Counters::read(cx, target, &object, &[sender.requests], "status_code")).await.map(|(c, _)| c)
        } else {
            Ok(Counters::default())
        }
    };
    let (dropped, requests) = tokio::join!(dropped, requests);
    let mut delivery = Delivery { dropped: dropped?.0, requests: requests?, peers: Vec::new() };
    if delivery.fails(sender) {
        let hosts = failed.iter().map(|s| s.label("host").to_owned());
        delivery.peers = peers::resolve(cx, server, hosts).await;
    }
    Ok(delivery)
}

impl Delivery {
    fn fails(&self, sender: &Sender) -> bool {
        self.failing(sender).is_some() || self.dropped.of(sender.dropped.metric).any(|(.., grown)| grown > 0.0)
    }

    /// Failed requests and their statuses, if none succeeded meanwhile.
    fn failing(&self, sender: &Sender) -> Option<(f64, Vec<&str>)> {
        let grown: Vec<(&str, f64)> = self
            .requests
            .of(sender.requests)
            .map(|(status, _, grown)| (status, grown))
            .filter(|(_, grown)| *grown > 0.0)
            .collect();
        let failed: Vec<(&str, f64)> = grown.iter().copied().filter(|(status, _)| !is_success(status)).collect();
        (!failed.is_empty() && failed.len() == grown.len())
            .then(|| (failed.iter().map(|(_, grown)| grown).sum(), failed.iter().map(|(status, _)| *status).collect()))
    }

    /// The clause about a sender that delivers nothing.
    pub(super) fn blocked(&self, sender: &Sender, name: &str, now: Timestamp) -> Option<String> {
        let (failed, statuses) = self.failing(sender)?;
        // -1 is no response
        let status = |s: &&str| if *s == "-1" { "no response".to_owned() } else { format!("status {s}") };
        let statuses: Vec<String> = statuses.iter().map(status).collect();
        let period = period(&self.requests, now);
        Some(format!("{name} delivers no logs: {failed:.0} requests failed {period}, none succeeded ({})", statuses.join(", ")))
    }

    /// Whether a request failed or an entry was dropped since the start of the sender.
    pub(super) fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// The counters of this run for the next one.
    pub(super) fn counters(&self) -> [&Counters; 2] {
        [&self.dropped, &self.requests]
    }
}

fn is_success(status: &str) -> bool {
    status.starts_with('2')
}
