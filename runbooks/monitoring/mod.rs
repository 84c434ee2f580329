//! The monitoring runbook: Prometheus, Alertmanager, Loki, Alloy and Grafana are in service, and alerts reach a receiver.

mod alertmanager;
mod alloy;
mod blind;
mod counters;
mod enrol;
mod enrolment;
mod exporters;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod grafana;
mod links;
mod loaded;
mod loki;
mod notify;
mod prometheus;
mod remote_write;
mod replay;
mod rules;
mod status;
mod targets;
mod tsdb;
mod up_missing;

use std::collections::BTreeMap;

use opsctl_core::model::{Runbook, quantity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.monitoring]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after the start of a Prometheus without target checks (judgement; in Prometheus 2.42 its lists are empty for 5 s).
    pub starting_s: i64,
    /// Minutes that a Prometheus may replay its write-ahead log at its start (judgement: 10).
    pub replay_minutes: i64,
    /// Seconds without a new sample that are crit while targets are scraped (judgement; prometheus-mixin `PrometheusNotIngestingSamples` waits 10 min).
    pub stale_s: i64,
    /// Seconds that samples for a remote store may be late (prometheus-mixin `PrometheusRemoteWriteBehind`: 120).
    pub remote_write_behind_s: f64,
    /// Percent of notifications that may fail (alertmanager-mixin `AlertmanagerFailedToSendAlerts`: 1).
    pub notifications_failed_percent: f64,
    /// Minutes a Loki may take to become ready (judgement: 2).
    pub loki_ready_minutes: i64,
    /// Percent of the disk of Loki's write-ahead log that is warn (Loki `pkg/ingester/wal.go`: writes stop being logged at 90).
    pub loki_wal_percent: f64,
    /// Minutes after the start of a log collector in which duplicate logs count as a replay (judgement: 30).
    pub replay_storm_minutes: i64,
    /// Name of the alert that always fires (prometheus-operator's rules: Watchdog).
    pub watchdog: String,
    /// Jobs in alert rules for which no series are required.
    #[schemars(example = ["blackbox-staging"])]
    pub jobs_ok: Vec<String>,
    /// Jobs that may have no targets.
    #[schemars(example = ["batch"])]
    pub empty_ok: Vec<String>,
    /// `[host]`: the enrolment of this host.
    #[serde(skip)]
    pub host: Option<Enrolment>,
}

/// The enrolment of this host in the monitoring system, from `[host]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Enrolment {
    /// Whether it should be scraped.
    pub monitored: bool,
    /// The labels it should have.
    pub labels: BTreeMap<String, String>,
    /// `host:port` it is scraped at, if given.
    pub address: Option<String>,
    /// The path of its metrics, if given.
    pub metrics_path: Option<String>,
    /// The target file of this host, if given.
    pub targets_file: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            starting_s: 30,
            replay_minutes: 10,
            stale_s: 300,
            remote_write_behind_s: 120.0,
            notifications_failed_percent: 1.0,
            loki_ready_minutes: 2,
            loki_wal_percent: 80.0,
            replay_storm_minutes: 30,
            watchdog: "Watchdog".to_owned(),
            jobs_ok: Vec::new(),
            empty_ok: Vec::new(),
            host: None,
        }
    }
}

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let s = || settings.clone();
    Runbook {
        id: "monitoring",
        about: "Prometheus, Alertmanager, Loki, Alloy, Grafana: their state, missing targets, and whether alerts reach a receiver",
        checks: vec![
            Box::new(blind::Blind),
            Box::new(prometheus::Prometheus { settings: s() }),
            Box::new(targets::Targets { settings: s() }),
            Box::new(up_missing::UpMissing { settings: s() }),
            Box::new(rules::Rules { settings: s() }),
            Box::new(tsdb::Tsdb { settings: s() }),
            Box::new(notify::Notify { settings: s() }),
            Box::new(remote_write::RemoteWrite { settings: s() }),
            Box::new(exporters::Exporters),
            Box::new(alertmanager::Alertmanager { settings: s() }),
            Box::new(loki::Loki { settings: s() }),
            Box::new(alloy::Alloy),
            Box::new(replay::Replay { settings: s() }),
            Box::new(grafana::Grafana),
            Box::new(enrolment::Enrolled { settings: s() }),
        ],
        links: &[links::LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}

/// `a, b and 3 more`.
fn some_of(words: &[String]) -> String {
    quantity::some_of(words, 3)
}
