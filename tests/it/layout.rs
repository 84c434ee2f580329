//! The layout of `tests/it/live`: one module per runbook, and one per feature that belongs to no single runbook.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of `tests/it/live` that are no runbook.
const FEATURES: &[&str] = &[
    // `opsctl respond` and `opsctl listen`
    "alerts",
    // the capabilities of the units
    "capabilities",
    // `opsctl changes` and `opsctl note`
    "changes",
    // sockets and addresses of engines, and several of them
    "engines",
    // the matrix of docs/faults.md
    "faults",
    "formats",
    "journal",
    "kill_switch",
    // fixes that are interrupted by SIGKILL
    "killed",
    // reasons from the logs of containers and units
    "log_evidence",
    "packaging",
    // the predicted fate of packets against real ones
    "packet_filter",
    // users, namespaces and containers that opsctl runs in
    "privileges",
    // `opsctl bootstrap`
    "provisioning",
    // `opsctl record` and replays
    "replay",
    // `opsctl report` and `opsctl waive`
    "reports",
    "secrets",
    // logins, TLS and malformed responses of servers of several runbooks
    "servers",
    // custom runbooks
    "site",
    "terminal",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn live() -> PathBuf {
    root().join("tests/it/live")
}

/// Modules of the live tests: files and directories.
fn modules() -> Vec<String> {
    let entries = fs::read_dir(live()).unwrap().map(|e| e.unwrap().path());
    let names = entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

#[test]
fn live_tests_are_named_after_a_runbook_or_a_feature() {
    let modules = modules();
    let is_runbook = |name: &str| root().join("runbooks").join(name).join("RUNBOOK.md").exists();
    let other: Vec<&String> = modules.iter().filter(|name| !is_runbook(name) && !FEATURES.contains(&name.as_str())).collect();
    assert!(other.is_empty(), "neither a directory of runbooks/ nor a feature: {other:?}");
    let absent: Vec<&&str> = FEATURES.iter().filter(|name| !modules.iter().any(|module| module == *name)).collect();
    assert!(absent.is_empty(), "a feature without tests: {absent:?}");
}

#[test]
fn every_file_of_the_live_tests_is_compiled() {
    let declared = fs::read_to_string(live().join("mod.rs")).unwrap();
    for module in modules() {
        assert!(declared.contains(&format!("\nmod {module};\n")), "tests/it/live/mod.rs does not declare {module}");
    }
}

/// A filter without a match has no effect: tests that load the whole machine would run beside others.
#[test]
fn filters_of_nextest_name_existing_modules() {
    let config = fs::read_to_string(root().join(".config/nextest.toml")).unwrap();
    let patterns: Vec<&str> = config.split("test(live::").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(patterns.len() > 5, "{patterns:?}");
    for pattern in patterns {
        let path = live().join(pattern.trim_end_matches("::").replace("::", "/"));
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "test(live::{pattern}) names no module");
    }
}
