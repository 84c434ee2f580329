//! Exact output of the command line on a recorded host: needs no root and no engine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/two-incidents.json");

fn opsctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
    command.args(args).stdin(Stdio::null());
    // nothing from the environment of the user of the tests
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("OPSCTL_STATE_DIR", "/nonexistent/opsctl");
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = opsctl(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn replayed_host_has_the_recorded_verdict() {
    let (code, out, err) = run(&["diagnose", "--replay", RECORDING]);
    assert_eq!((code, err.as_str()), (2, ""));
    insta::assert_snapshot!(out);
}

#[test]
fn one_runbook_with_one_target() {
    let (code, out, _) = run(&["healthcheck", "alloy", "--replay", RECORDING, "-q"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(out);
    let (code, out, _) = run(&["healthcheck", "nothing-like-it", "--replay", RECORDING]);
    assert_eq!((code, out.as_str()), (64, ""));
}

#[test]
fn record_needs_a_live_run() {
    for args in [&["diagnose", "--replay", RECORDING][..], &["report"], &["bootstrap"]] {
        let (code, out, err) = run(&[args, &["--record", "/nonexistent/r.json"]].concat());
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}: {err}");
    }
}

#[test]
fn exit_code_respects_fail_on() {
    let code = |fail_on: &str, runbook: &str| run(&["diagnose", runbook, "--replay", RECORDING, "--fail-on", fail_on]).0;
    assert_eq!((code("crit", "container"), code("never", "container"), code("unknown", "disk")), (2, 0, 0));
}

#[test]
fn wrong_usage_suggests_the_nearest_name() {
    for (args, expected) in [
        (&["diagnose", "contianer"][..], "opsctl: no runbook or check is called `contianer`; did you mean `container`?\n"),
        (
            &["explain", "container.oom"],
            "opsctl: unknown name `container.oom`; did you mean `container.down`? (`opsctl list` shows all names)\n",
        ),
        (
            &["container", "alloi", "--replay", RECORDING],
            "opsctl: there is no target `alloi` here; did you mean `alloy`? (`opsctl targets` shows all)\n",
        ),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str(), err.as_str()), (64, "", expected), "{args:?}");
    }
    assert_eq!(run(&["diagnose", "--format", "yaml"]).0, 64);
    assert_eq!(run(&["diagnose", "--output", "json"]).0, 64);
    assert_eq!(run(&[]).0, 64);
}

#[test]
fn nagios_reports_errors_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[runbooks.disk]\nspce_warn_percent = 80\n").unwrap();
    for args in [
        &["diagnose", "contianer"][..],
        &["diagnose", "--deadline", "soon"],
        &["nonsense", "a|b"],
        &["diagnose", "--config", config.to_str().unwrap()],
        &["diagnose", "--replay", "/nonexistent/x.json"],
    ] {
        let (code, out, err) = run(&[args, &["--format", "nagios"]].concat());
        assert_eq!((code, err.as_str()), (3, ""), "{args:?}");
        assert!(out.starts_with("OPSCTL UNKNOWN - ") && !out.contains('|'), "{args:?}: {out}");
    }
    // the exit code is the verdict, and the first line repeats it
    let (code, out, _) = run(&["diagnose", "--replay", RECORDING, "--format", "nagios"]);
    assert_eq!(code, 2);
    assert!(out.starts_with("OPSCTL CRITICAL - "), "{out}");
    assert_eq!(run(&["--help", "--format", "nagios"]).0, 0);
}

#[test]
fn every_format_is_one_valid_document() {
    for (format, begins) in [
        ("html", "<!DOCTYPE html>\n"),
        ("junit", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites "),
        ("tap", "TAP version 13\n1.."),
        ("nagios", "OPSCTL "),
        ("prometheus", "# HELP opsctl_"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report");
        let output = format!("{format}={}", file.display());
        let (code, out, err) = run(&["diagnose", "--replay", RECORDING, "--format", format, "--output", &output]);
        assert_eq!((code, err.as_str()), (2, ""), "{format}");
        assert!(out.starts_with(begins) && out.ends_with('\n'), "{format}: {out}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), out);
    }
}

#[test]
fn wrong_configuration_is_reported_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[runbooks.disk]\nspce_warn_percent = 80\nspace_crit_percent = \"x\"\n").unwrap();
    let (code, out, err) = run(&["diagnose", "--config", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (78, ""));
    let err = err.replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(err);
    std::fs::write(&file, "[runbooks.disk]\nspace_warn_percent = 80\nspace_warn_percent = 90\n").unwrap();
    let (code, _, err) = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains(":3:1: `space_warn_percent` is set twice; first in line 2"), "{err}");
}

#[test]
fn several_outputs_with_one_document_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let json = format!("json={}", path("r.json"));
    let markdown = format!("markdown={}", path("r.md"));
    let (code, out, _) = run(&["diagnose", "--replay", RECORDING, "--format", "jsonl", "--output", &json, "--output", &markdown]);
    assert_eq!(code, 2);
    assert!(out.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{out}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path("r.json")).unwrap()).unwrap();
    assert_eq!((report["schema_version"].as_u64(), report["verdict"].as_str()), (Some(1), Some("crit")));
    assert!(std::fs::read_to_string(path("r.md")).unwrap().contains("Root cause"));
    let (code, _, err) = run(&["diagnose", "--replay", RECORDING, "--output", "json=/nonexistent/r.json"]);
    assert_eq!(code, 70);
    assert!(err.contains("writing the json report to /nonexistent/r.json"), "{err}");
}

#[test]
fn closed_stdout_is_not_a_failure() {
    let mut child = opsctl(&["list", "codes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn invalid_recordings_are_rejected_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (path, expected) in [
        (Path::new("/nonexistent/x.json").to_owned(), "No such file"),
        (file("empty.json", ""), "is not one that `opsctl record` wrote"),
        (file("other.json", "{\"a\":1}"), "is not one that `opsctl record` wrote"),
        (file("newer.json", "{\"schema_version\":99}"), "has schema version 99; this opsctl reads 1"),
    ] {
        let (code, out, err) = run(&["diagnose", "--replay", path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (70, ""));
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn lists_and_explanations() {
    insta::assert_snapshot!(run(&["list"]).1);
    insta::assert_snapshot!(run(&["list", "alerts"]).1);
    insta::assert_snapshot!(run(&["explain", "container.restart-loop"]).1);
    assert!(run(&["explain", "diskspacelow"]).1.starts_with("The alert DiskSpaceLow is handled by the runbook disk"));
    let json: serde_json::Value = serde_json::from_str(&run(&["list", "fixes", "--format", "json"]).1).unwrap();
    assert!(json.as_array().unwrap().iter().any(|f| f["name"] == "container.raise-memory"), "{json}");
}

#[test]
fn audit_of_an_unchanged_host_is_ok() {
    let (code, out, err) = run(&["audit", "verify"]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn changed_limit_is_in_every_text_and_format() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("opsctl.toml");
    std::fs::write(&file, "[runbooks.disk]\nspace_warn_percent = 61.0\n").unwrap();
    let config = file.to_str().unwrap();
    let output = |args: &[&str]| run(&[args, &["--config", config]].concat()).1;
    let report = |format: &str| output(&["disk", "--replay", RECORDING, "--format", format]);

    let conditions = output(&["list", "codes"]);
    assert!(conditions.lines().any(|l| l.contains("disk.space") && l.contains("61 %")), "{conditions}");
    let documentation = output(&["explain", "disk"]);
    assert!(documentation.contains("| disk.space | warn/crit | a filesystem is 61 % full"), "{documentation}");
    let explanation = output(&["explain", "disk.space"]);
    assert!(explanation.contains("61 %") && !explanation.contains("90 %"), "{explanation}");

    let json: serde_json::Value = serde_json::from_str(&report("json")).unwrap();
    let measures = json["measures"].as_array().unwrap();
    assert!(measures.iter().any(|m| m["name"] == "used" && m["warn"] == 61.0), "{measures:?}");
    let perfdata = report("nagios");
    assert!(perfdata.contains(";61;98;"), "{perfdata}");
    let plots = report("html");
    assert!(plots.contains("61 %"), "{plots}");

    let schema: serde_json::Value = serde_json::from_str(&output(&["config", "schema"])).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let defaults: Vec<_> = definitions.values().map(|d| &d["properties"]["space_warn_percent"]["default"]).collect();
    assert!(defaults.iter().any(|d| **d == 61.0), "{defaults:?}");
}
