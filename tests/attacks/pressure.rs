//! Promise 6 on a host with saturated processors. These tests run alone (`.config/nextest.toml`): they load the whole machine.

use std::time::Duration;

use opsctl_core::model::{Reported, Severity};

use crate::lab::{Host, MACHINE, Rootfs, Run, eventually, installed};

use super::{Scene, summary};

/// Number of busy processes.
const BUSY: usize = 20;

/// Allowed time beyond the deadline, and for process start with a tenth of the processor time.
const BEYOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(2);

/// Starts the load, and waits until the one-minute averages show it.
fn load(host: &Host) {
    for _ in 0..BUSY {
        host.spawn("/run/lab/fixture", &["cpu"]);
    }
    eventually(240, "tasks waited for the processors", || {
        let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        let average = text.split_whitespace().find_map(|w| w.strip_prefix("avg60=")?.parse::<f64>().ok());
        (average.unwrap_or_else(|| panic!("this kernel does not measure pressure: {text}")) > 30.0).then_some(())
    });
}

/// Deadline for hundreds of checks. A build without optimization needs several times the processor time of a release build.
const DEADLINE_OF_HUNDREDS: u64 = if cfg!(debug_assertions) { 9 } else { 3 };

/// Runs opsctl with a deadline; it must end in time with a `cpu.saturated` finding.
#[track_caller]
fn diagnose_saturated(host: &Host, deadline: u64) -> Run {
    let limit = format!("{deadline}s");
    let words = ["diagnose", "--format", "json", "--deadline", &limit];
    let Some(run) = host.read_within(&mut host.opsctl_command(&[], &words), Duration::from_secs(30)) else {
        panic!("it has not ended after 30 s")
    };
    assert!(run.took < Duration::from_secs(deadline) + BEYOND + START, "took {:?}: {}", run.took, summary(&run));
    assert!(run.report().duration_ms <= (deadline + 1) * 1000, "it took {} ms: {}", run.report().duration_ms, summary(&run));
    assert!((1..=3).contains(&run.code), "exit {}: {}", run.code, summary(&run));
    let saturated = run.report().findings.iter().position(|f| f.code == "cpu.saturated");
    assert!(saturated.is_some(), "no cpu.saturated finding: {}", summary(&run));
    run
}

#[test]
fn cpu_saturation_is_reported_within_the_deadline() {
    let Some(host) = Host::without_engine() else { return };
    load(&host);
    diagnose_saturated(&host, 3);
}

#[test]
fn fifty_containers_and_twenty_redis_under_load_are_not_critical() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    let scene = Scene::on(host);
    scene.image("machine:1", Rootfs::Machine, &[]);
    // health tests that cause little load, and that do not fail under load
    let test = r#"HEALTHCHECK --interval=10s --timeout=30s --retries=20 CMD ["fixture","get","8080","/health"]"#;
    scene.image("web:1", Rootfs::Scratch, &[test]);
    for n in 0..10 {
        scene.run(&format!("cache{n}"), &[MACHINE, &["machine:1", "redis-server", "--port", "6379", "--save", ""]].concat());
        scene.redis(7000 + n, &["--save", ""]);
    }
    let list = scene.path("containers");
    let lines: Vec<String> = (0..40).map(|n| format!("--name web{n} web:1 fixture httpd --port 8080\n")).collect();
    std::fs::write(&list, lines.concat()).unwrap();
    scene.sh(&format!("xargs -P 4 -L 1 docker run -d < {} > /dev/null", list.display()));
    for n in 0..40 {
        scene.until(&format!("web{n}"), "{{.State.Health.Status}}", "healthy");
    }
    // findings about name servers of the lab are independent of the load
    let before = scene.run_verified(&["dns"]);
    let new = |f: &&Reported| !before.findings().any(|b| b.code == f.code && b.subject == f.subject);
    load(&scene);
    let run = diagnose_saturated(&scene, DEADLINE_OF_HUNDREDS);
    let alarms: Vec<String> = run
        .findings()
        .filter(new)
        .filter(|f| f.severity == Severity::Crit && !f.code.starts_with("cpu."))
        .map(|f| format!("{} {}: {}", f.code, f.subject, f.message))
        .collect();
    assert!(alarms.is_empty(), "slow services are reported as critical: {}", alarms.join("\n"));
    // the first actionable finding
    let first = run.findings().filter(new).find(|f| f.severity > Severity::Info && f.explained_by.is_none());
    assert!(first.is_some_and(|f| f.code == "cpu.saturated"), "{first:?} comes first: {}", summary(&run));
    // hundreds of timeouts with one cause are summarised
    let table = scene.opsctl(&["diagnose", "--deadline", &format!("{DEADLINE_OF_HUNDREDS}s")]);
    assert!(table.stdout.lines().count() < 150, "{} lines: {}", table.stdout.lines().count(), table.stdout);
}
