//! Recorded answers of engines (`tests/corpus/engine-*`): none is lost, none is misread.

use serde_json::Value;

use super::api::{Api, message_of};
use super::{Container, disk_usage, engine_settings, events, inspect, network};
use crate::corpus;
use crate::model::{Gaps, Pick};
use crate::probe::Redactor;

type Read = Vec<(&'static str, String)>;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The values of a list in one line.
fn joined(items: impl IntoIterator<Item = String>, separator: &str) -> String {
    items.into_iter().collect::<Vec<_>>().join(separator)
}

/// Words that are not empty.
fn words(words: &[&str]) -> String {
    words.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn number(n: i64) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

fn when(flag: bool, word: &str) -> &str {
    if flag { word } else { "" }
}

fn with_gaps(text: &str, read: impl Fn(&Value, &Gaps) -> Read) -> Read {
    let gaps = Gaps::new("list");
    let mut found = read(&json(text), &gaps);
    found.push(("gaps", gaps.into_sentences().join("; ")));
    found
}

fn state(c: &Container) -> String {
    let s = &c.state;
    let exit = if s.exit_code == 0 { String::new() } else { format!("exit {}", s.exit_code) };
    words(&[
        &s.status,
        when(s.running && s.status != "running", "(running)"),
        when(s.paused, "paused"),
        when(s.restarting, "restarting"),
        when(s.dead, "dead"),
        when(s.oom_killed, "oom"),
        &exit,
        when(!s.error.is_empty(), "error"),
    ])
}

fn policy(c: &Container) -> String {
    let policy = &c.restart_policy;
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("no", _) => String::new(),
        (name, 0) => name.to_owned(),
        (name, n) => format!("{name}:{n}"),
    }
}

fn log(c: &Container) -> String {
    let option = |name: &str, value: Option<&str>| value.map_or_else(String::new, |v| format!("{name}={v}"));
    let (size, files) = (option("max-size", c.log.max_size.as_deref()), option("max-file", c.log.max_file.as_deref()));
    words(&[&c.log.driver, &c.log.path, &size, &files])
}

fn inspected(text: &str) -> Read {
    let inspection = match inspect::inspection(&json(text), &Redactor::default()) {
        Ok(inspection) => inspection,
        Err(error) => return vec![("error", error)],
    };
    let c = &inspection.container;
    let ports = |ports: &[u16]| joined(ports.iter().map(u16::to_string), " ");
    let mount = |m: &super::Mount| {
        let path = format!("{}:{}", m.source, m.destination);
        words(&[&m.kind, &m.name, &path, when(!m.rw, "ro")])
    };
    let health = c.state.health.as_ref().map(|h| format!("{} {} of {}", h.status, h.failing_streak, h.log.len()));
    let health_test = c
        .health_test
        .as_ref()
        .map(|t| format!("{} | {} {} {} {}", t.test.join(" "), t.interval_ms, t.timeout_ms, t.retries, t.start_period_ms));
    // most items are about a container of this name
    let name = when(c.name != "web", &c.name).to_owned();
    let count = |n: usize| number(i64::try_from(n).unwrap_or(i64::MAX));
    vec![
        ("name", name),
        ("image", c.image.clone()),
        ("image-id", c.image_id.clone()),
        ("state", state(c)),
        ("pid", number(c.state.pid)),
        ("started", c.state.started_at.map(|t| t.to_string()).unwrap_or_default()),
        ("health", health.unwrap_or_default()),
        ("restarts", number(c.restart_count)),
        ("policy", policy(c)),
        ("auto-remove", when(c.auto_remove, "true").to_owned()),
        ("init", when(c.init, "true").to_owned()),
        ("labels", joined(c.labels.iter().map(|(k, v)| format!("{k}={v}")), " ")),
        ("log", log(c)),
        ("mounts", joined(c.mounts.iter().map(mount), ", ")),
        ("networks", joined(c.networks.iter().map(|(n, a)| format!("{n}={a}")), " ")),
        ("aliases", joined(c.aliases.iter().map(|(n, a)| format!("{n}={}", a.join(","))), " ")),
        ("mode", c.network_mode.clone()),
        ("ports", joined(c.ports.iter().map(|p| format!("{}:{}>{}", p.host_ip, p.host, p.container)), ", ")),
        ("configured", ports(&c.configured_ports)),
        ("exposed", ports(&c.exposed)),
        ("memory", number(c.memory)),
        ("swap", number(c.memory_swap)),
        ("cpus", number(c.nano_cpus)),
        ("pids", number(c.pids_limit)),
        ("stop", c.stop_timeout.map(|s| s.to_string()).unwrap_or_default()),
        ("test", health_test.unwrap_or_default()),
        ("data", c.state_paths.join(" ")),
        ("environment", count(inspection.environment.len())),
        ("arguments", count(inspection.arguments.len())),
        ("gaps", c.gaps.join("; ")),
    ]
}

#[test]
fn recorded_containers() {
    corpus::check("engine-inspect", 50, inspected);
}

#[test]
fn recorded_lists_of_containers() {
    corpus::check("engine-list", 14, |text| {
        with_gaps(text, |list, gaps| {
            let listed = Pick::new(list, gaps).items();
            let shown = listed.iter().filter_map(inspect::listed).map(|l| format!("{} {}", l.container.name, l.container.state));
            vec![("containers", joined(shown, ", "))]
        })
    });
}

#[test]
fn recorded_networks() {
    corpus::check_items("engine-networks", 9, |item| {
        with_gaps(&item.text, |list, gaps| {
            let shown = network::networks(list, item.given == "podman", gaps).into_iter().map(|n| {
                let mtu = n.mtu.map_or_else(String::new, |mtu| format!("mtu {mtu}"));
                words(&[
                    &n.name,
                    &n.driver,
                    n.interface.as_deref().unwrap_or("-"),
                    &n.subnets.join(" "),
                    when(n.internal, "internal"),
                    when(n.masquerade, "masquerade"),
                    when(n.ipv6, "ipv6"),
                    &mtu,
                ])
            });
            vec![("networks", joined(shown, "; "))]
        })
    });
}

#[test]
fn recorded_events() {
    corpus::check("engine-events", 8, |text| {
        let gaps = Gaps::new("list");
        let shown = events::events(text, &gaps).into_iter().map(|e| {
            let (signal, exit_code) = (e.signal.unwrap_or_default(), e.exit_code.unwrap_or_default());
            words(&[&e.container, &e.action, &signal, &exit_code, e.name.as_deref().unwrap_or_default()])
        });
        vec![("events", joined(shown, "; ")), ("gaps", gaps.into_sentences().join("; "))]
    });
}

#[test]
fn recorded_disk_usage() {
    let pair = |a: u64, b: u64| if a == 0 && b == 0 { String::new() } else { format!("{a} {b}") };
    let one = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    corpus::check("engine-df", 5, |text| {
        with_gaps(text, |response, gaps| {
            let usage = disk_usage::summarise(&Pick::new(response, gaps));
            vec![
                ("layers", one(usage.layers)),
                ("unused", one(usage.unused_images())),
                ("stopped", one(usage.stopped_containers)),
                ("volumes", pair(usage.volumes, usage.unused_volumes)),
                ("cache", pair(usage.build_cache, usage.build_cache_reclaimable)),
            ]
        })
    });
}

#[test]
fn recorded_settings() {
    corpus::check("engine-info", 4, |text| {
        with_gaps(text, |response, gaps| {
            let settings = engine_settings(&Pick::new(response, gaps));
            vec![
                ("root", settings.data_root),
                ("architecture", settings.architecture),
                ("rootless", when(settings.rootless, "true").to_owned()),
                ("live-restore", when(settings.live_restore, "true").to_owned()),
            ]
        })
    });
}

#[test]
fn recorded_errors() {
    corpus::check("engine-error", 8, |text| {
        let message = message_of(text);
        let api = Api::new((1, 99));
        let version = if api.renegotiate(&message) { api.version() } else { String::new() };
        vec![("message", message), ("version", version)]
    });
}
