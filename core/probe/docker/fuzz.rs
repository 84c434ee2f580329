//! Fuzz targets of engine responses.

use bollard::models::{ContainerInspectResponse, ContainerSummary};

use super::{connect, container, disk_usage, network, process};
use crate::fuzz::Target;
use crate::probe::Redactor;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("engine-inspect", |text| {
        if let Ok(answer) = serde_json::from_str::<ContainerInspectResponse>(text) {
            let facts = container::facts(answer, &Redactor::default());
            drop((facts.subject(), facts.pid(), facts.compose().is_some()));
            // recorded evidence can be read again
            let json = serde_json::to_string(&facts).unwrap_or_default();
            assert!(serde_json::from_str::<container::Container>(&json).is_ok(), "{json}");
        }
    }),
    Target::text("engine-list", |text| {
        if let Ok(answer) = serde_json::from_str::<Vec<ContainerSummary>>(text) {
            let n = answer.len();
            assert!(answer.into_iter().filter_map(container::reference).count() <= n, "at most as many as listed");
        }
    }),
    Target::text("engine-df", |text| {
        if let Ok(answer) = serde_json::from_str(text) {
            let usage = disk_usage::summarise(answer);
            let _ = (usage.unused_images(), usage.dangling_images());
        }
    }),
    Target::text("engine-networks", |text| {
        if let Ok(answer) = serde_json::from_str::<Vec<bollard::models::Network>>(text) {
            answer.into_iter().map(network::network).for_each(drop);
        }
    }),
    Target::text("engine-words", |text| {
        drop((
            connect::Endpoint::parse(text),
            connect::parse_version(text),
            container::parse_time(text),
            container::tcp_port(text),
        ));
    }),
    // the path of a control group in the first line, `/proc/self/cgroup` in the others
    Target::text("container-cgroup", |text| {
        const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let (path, own) = text.split_once('\n').unwrap_or((text, ""));
        for is_here in [true, false] {
            let engine = process::Listener { pid: None, uid: Some(1000), is_here };
            assert!(!process::names_container(path, ID, engine, own) || path.contains(ID), "{path}");
        }
    }),
];
