//! Fuzz targets of engine responses.

use serde_json::Value;

use super::{connect, container, daemon_config, disk_usage, events, inspect, network, process};
use crate::fuzz::Target;
use crate::model::{Gaps, Pick};
use crate::probe::Redactor;

/// Runs `read` if the text is JSON. The gaps are bounded whatever the text contains.
fn with_json(text: &str, read: impl Fn(&Value, &Gaps)) {
    if let Ok(response) = serde_json::from_str::<Value>(text) {
        let gaps = Gaps::new("response");
        read(&response, &gaps);
        assert!(gaps.into_sentences().len() <= 9, "gaps are bounded");
    }
}

pub(crate) const TARGETS: &[Target] = &[
    Target::text("engine-inspect", |text| {
        with_json(text, |response, _| {
            if let Ok(inspection) = inspect::inspection(response, &Redactor::default()) {
                let facts = inspection.container;
                drop((facts.subject(), facts.pid(), facts.compose().is_some()));
                // recorded evidence can be read again
                let json = serde_json::to_string(&facts).unwrap_or_default();
                assert!(serde_json::from_str::<container::Container>(&json).is_ok(), "{json}");
            }
        });
    }),
    Target::text("engine-list", |text| {
        with_json(text, |response, gaps| {
            let items = Pick::new(response, gaps).items();
            let listed = items.iter().filter_map(inspect::listed).count();
            assert!(listed <= items.len(), "at most as many as listed");
        });
    }),
    Target::text("engine-df", |text| {
        with_json(text, |response, gaps| {
            let usage = disk_usage::summarise(&Pick::new(response, gaps));
            let _ = (usage.unused_images(), usage.dangling_images());
        });
    }),
    Target::text("engine-networks", |text| {
        with_json(text, |response, gaps| drop(network::networks(response, false, gaps)));
    }),
    Target::text("engine-events", |text| drop(events::events(text, &Gaps::default()))),
    Target::text("engine-settings", |text| {
        with_json(text, |response, gaps| drop(super::engine_settings(&Pick::new(response, gaps))));
    }),
    Target::text("engine-error", |text| drop(super::api::message_of(text))),
    Target::text("engine-words", |text| {
        drop((
            connect::Endpoint::parse(text),
            connect::parse_version(text),
            container::parse_time(text),
            inspect::tcp_port(text),
        ));
    }),
    Target::text("engine-configuration", |text| {
        let arguments = ["dockerd", "-H", "fd://", "--debug"].map(str::to_owned);
        if let Some(fault) = daemon_config::fault(text, &arguments, true) {
            assert!(!fault.is_empty(), "a fault has a clause");
        }
    }),
    // the path of a control group in the first line, `/proc/self/cgroup` in the others
    Target::text("container-cgroup", |text| {
        const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let (path, own) = text.split_once('\n').unwrap_or((text, ""));
        for is_here in [true, false] {
            let engine = process::Listener { uid: Some(1000), is_here, ..process::Listener::default() };
            assert!(!process::names_container(path, ID, engine, own) || path.contains(ID), "{path}");
        }
    }),
];
