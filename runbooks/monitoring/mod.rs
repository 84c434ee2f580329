//! The monitoring runbook: Prometheus, Alertmanager, Loki, Tempo, Mimir, Grafana and their agents and exporters are in service, and
//! alerts reach a receiver.

mod alertmanager;
mod alerts;
mod alloy;
mod blind;
mod cadvisor;
mod components;
mod counters;
mod data_sources;
mod delivery;
mod discovery;
mod enrol;
mod enrolment;
mod exporters;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod grafana;
mod intervals;
mod links;
mod loaded;
mod loki;
mod losses;
mod matchers;
mod notify;
mod object_store;
mod peers;
mod probes;
mod prometheus;
mod promtool;
mod ready;
mod remote_write;
mod replay;
mod rings;
mod routing;
mod rules;
mod rules_missing;
mod samples;
mod status;
mod swallowed;
mod targets;
mod textfiles;
mod tsdb;
mod up_missing;
mod yaml;

use std::collections::BTreeMap;

use opsctl_core::model::{Product, Runbook, quantity};
use serde::{Deserialize, Serialize};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.monitoring]`.
    pub struct Settings {
        /// Seconds after the start of a Prometheus without target checks (judgement; in Prometheus 2.42 its lists are empty for 5 s).
        starting_s: i64 = 30,
        /// Minutes that a Prometheus may replay its write-ahead log at its start (judgement: 10).
        replay_minutes: i64 = 10,
        /// Seconds without a new sample that are crit while targets are scraped (judgement; prometheus-mixin `PrometheusNotIngestingSamples` waits 10 min).
        stale_s: i64 = 300,
        /// Seconds that samples for a remote store may be late (prometheus-mixin `PrometheusRemoteWriteBehind`: 120).
        remote_write_behind_s: f64 = 120.0,
        /// Percent of notifications that may fail (alertmanager-mixin `AlertmanagerFailedToSendAlerts`: 1).
        notifications_failed_percent: f64 = 1.0,
        /// Minutes a Loki may take to become ready (judgement: 2).
        loki_ready_minutes: i64 = 2,
        /// Minutes that Tempo, Mimir, MinIO, Promtail, a blackbox exporter or cAdvisor may take to become ready (judgement: 5).
        ready_minutes: i64 = 5,
        /// Percent of the disk of Loki's write-ahead log that is warn (Loki `pkg/ingester/wal.go`: writes stop being logged at 90).
        loki_wal_percent: f64 = 80.0,
        /// Minutes after the start of a log collector in which duplicate logs count as a replay (judgement: 30).
        replay_storm_minutes: i64 = 30,
        /// Name of the alert that always fires (prometheus-operator's rules: Watchdog).
        watchdog: String = "Watchdog".to_owned(),
        /// Jobs in alert rules for which no series are required.
        #[schemars(example = ["blackbox-staging"])]
        jobs_ok: Vec<String> = Vec::new(),
        /// Jobs that may have no targets.
        #[schemars(example = ["batch"])]
        empty_ok: Vec<String> = Vec::new(),
        /// Jobs for which only `up` is wanted: all their samples may be dropped.
        #[schemars(example = ["ping"])]
        samples_ok: Vec<String> = Vec::new(),
        /// Jobs of the blackbox exporter that may fail.
        #[schemars(example = ["blackbox-staging"])]
        probes_ok: Vec<String> = Vec::new(),
        /// Usual intervals of a textfile after which it is stale (judgement: 3; one run can be late or fail).
        textfile_intervals: f64 = 3.0,
        /// Names of textfiles that may be stale.
        #[schemars(example = ["static.prom"])]
        textfiles_ok: Vec<String> = Vec::new(),
        /// `[host]`: the enrolment of this host.
        #[serde(skip)]
        host: Option<Enrolment> = None,
    }
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

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let s = || settings.clone();
    let component = |product| Box::new(components::Component { row: ready::row(product), settings: s() });
    Runbook {
        id: "monitoring",
        about: "Prometheus, Alertmanager, Loki, Tempo, Mimir, MinIO, Alloy, Promtail, Grafana and exporters: their state, missing targets, and whether alerts reach a receiver",
        checks: vec![
            Box::new(blind::Blind),
            Box::new(prometheus::Prometheus { settings: s() }),
            Box::new(targets::Targets { settings: s() }),
            Box::new(discovery::Discovery),
            Box::new(samples::Samples { settings: s() }),
            Box::new(up_missing::UpMissing { settings: s() }),
            Box::new(rules::Rules { settings: s() }),
            Box::new(rules_missing::RulesMissing),
            Box::new(tsdb::Tsdb { settings: s() }),
            Box::new(notify::Notify { settings: s() }),
            Box::new(remote_write::RemoteWrite { settings: s() }),
            Box::new(exporters::Exporters),
            component(Product::Blackbox),
            component(Product::Cadvisor),
            Box::new(probes::Probes { settings: s() }),
            Box::new(textfiles::Textfiles { settings: s() }),
            Box::new(alertmanager::Alertmanager { settings: s() }),
            Box::new(swallowed::Swallowed { settings: s() }),
            Box::new(loki::Loki { settings: s() }),
            component(Product::Tempo),
            component(Product::Mimir),
            component(Product::Minio),
            Box::new(object_store::ObjectStore),
            Box::new(alloy::Alloy),
            component(Product::Promtail),
            Box::new(replay::Replay { settings: s() }),
            Box::new(grafana::Grafana),
            Box::new(data_sources::DataSources),
            Box::new(enrolment::Enrolled { settings: s() }),
        ],
        links: &[links::LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}

/// `a, b and 3 more`.
fn some_of(words: &[String]) -> String {
    quantity::some_of(words, 3)
}
