//! Single faults on a live host, each with the expected and the forbidden findings: one module per runbook, and one per
//! feature that belongs to no single runbook (`tests/it/layout.rs`).

use std::time::Duration;

use crate::lab::Run;

mod alerts;
mod capabilities;
mod celery;
mod changes;
mod container;
mod cpu;
mod disk;
mod dns;
mod engines;
mod faults;
mod formats;
mod healthcheck;
mod host;
mod journal;
mod kill_switch;
mod killed;
mod log_evidence;
mod memory;
mod monitoring;
mod mtu;
mod network;
mod nginx;
mod packaging;
mod packet_filter;
mod postgres;
mod privileges;
mod provisioning;
mod rabbitmq;
mod redis;
mod replay;
mod reports;
mod secrets;
mod servers;
mod site;
mod systemd;
mod terminal;
mod time;
mod tls;

/// The default deadline is 10 s; start and output on a busy machine may take a little longer.
const IN_TIME: Duration = Duration::from_secs(14);

/// Asserts that disks were checked, and in time.
#[track_caller]
fn assert_disks_checked_in_time(run: &Run) {
    assert!(run.took < IN_TIME, "took {:?}", run.took);
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", run.stdout);
}

/// Time for one-minute averages to change, in seconds.
const MINUTES: u64 = 240;

/// Share of the last 10 and of the last 60 seconds in which tasks waited for a resource, in percent.
fn averages(resource: &str) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap_or_default();
    let field = |name: &str| text.split_whitespace().find_map(|w| w.strip_prefix(name)?.parse::<f64>().ok());
    field("avg10=").zip(field("avg60=")).unwrap_or_else(|| panic!("this kernel does not measure pressure: {text}"))
}
