//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::{alertmanager, enrol, loaded, up_missing};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("prometheus-yaml", |text| drop((loaded::parse(text).len(), alertmanager::default_receiver(text)))),
    Target::text("promql", |text| drop(up_missing::jobs_of(text))),
    Target::text("targets-file", |text| {
        let _ = (enrol::entry("/t", text, "web-1:9100").is_ok(), enrol::entry("/t", text, text).is_ok());
        drop((enrol::own_file(text, "web-1"), enrol::own_file("/t/*.json", text), enrol::on_host(text, &[])));
    }),
    Target::text("silence", |text| {
        let _ = serde_json::from_str(text).ok().map(|silence| alertmanager::covers_all(&silence));
    }),
];
