//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::{alertmanager, data_sources, enrol, loaded, routing, up_missing, yaml};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("prometheus-yaml", |text| drop((loaded::parse(text).len(), alertmanager::default_receiver(text)))),
    Target::text("grafana-datasources", |text| drop(data_sources::parse(text))),
    Target::text("promql", |text| drop(up_missing::jobs_of(text))),
    Target::text("targets-file", |text| {
        let _ = (enrol::entry("/t", text, "web-1:9100").is_ok(), enrol::entry("/t", text, text).is_ok());
        drop((enrol::own_file(text, "web-1"), enrol::own_file("/t/*.json", text), enrol::on_host(text, &[])));
    }),
    Target::text("go-yaml", |text| {
        drop((yaml::parse(text), loaded::config_of(text)));
        let now = jiff::Timestamp::UNIX_EPOCH;
        if let Some(config) = routing::Config::parse(text) {
            drop((routing::Route::tree(&config, now), routing::Inhibition::all(&config)));
        }
    }),
    Target::text("silence", |text| {
        let _ = serde_json::from_str(text).ok().map(|silence| alertmanager::covers_all(&silence));
    }),
];
