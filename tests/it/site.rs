//! Custom runbooks on the command line: needs no root and no lab.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const SHOP: &str = r#"
[runbook]
name = "shop"
title = "The shop"
about = "It sells things."
owner = "team shop"
alerts = ["ShopDown"]

[[check]]
name = "health"
title = "the backend answers"
tcp = { address = "127.0.0.1:1" }
hint = "look at its log"

[[check]]
name = "orders"
title = "orders come"
file = { path = "/nonexistent/orders", max_age = "1h" }
severity = "warn"
explained_by = ["shop.health", "disk.space /var"]
[check.fix]
name = "restart"
title = "restart the backend"
argv = ["true"]
risk = "R2"
"#;

/// A configuration with this runbook in `runbooks.d`.
fn configuration(runbook: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "[policy]\nallow = [\"shop.restart\"]\n").unwrap();
    std::fs::create_dir(dir.path().join("runbooks.d")).unwrap();
    std::fs::write(dir.path().join("runbooks.d/shop.toml"), runbook).unwrap();
    dir
}

fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
    command.args(args).stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.env("OPSCTL_STATE_DIR", dir.join("state")).env("OPSCTL_CONFIG", dir.join("config.toml"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(dir.to_str().unwrap(), "DIR");
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn custom_runbook_is_run_listed_and_explained() {
    let dir = configuration(SHOP);
    let run = |args: &[&str]| run(dir.path(), args);
    let (code, out, err) = run(&["shop", "--format", "json"]);
    assert_eq!(code, 2, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let finding = |i: usize, key: &str| report["findings"][i][key].as_str().unwrap_or_default().to_owned();
    assert_eq!((finding(0, "code"), finding(0, "owner")), ("shop.health".into(), "team shop".into()));
    assert_eq!((finding(1, "code"), finding(1, "explained_by")), ("shop.orders".into(), finding(0, "id")));
    assert_eq!(finding(0, "message"), "tcp://127.0.0.1:1 refuses connections");
    assert_eq!(run(&["shop", "--fix", "--dry-run"]).0, 0, "its cause is open: nothing is on offer");
    assert_eq!(run(&["diagnose", "shop.orders", "--skip", "shop.health"]).0, 1);
    assert!(run(&["shop", "--help"]).1.contains("The shop"));
    let (code, out, _) = run(&["config", "check"]);
    assert_eq!((code, out.as_str()), (0, "DIR/config.toml: ok\nDIR/runbooks.d/shop.toml: ok, shop with 2 checks\n"));
    assert!(run(&["list"]).1.contains("\nshop         2 checks, 2 codes    The shop\n"));
    assert!(run(&["list", "alerts"]).1.contains("ShopDown"));
    insta::assert_snapshot!(run(&["explain", "shop.orders"]).1);
    insta::assert_snapshot!(run(&["explain", "shop.restart"]).1);
    assert!(run(&["explain", "shopdown"]).1.starts_with("The alert ShopDown is handled by the runbook shop: `opsctl shop`"));
    assert_eq!(run(&["waive", "shop.helth", "--for", "1h", "--reason", "x"]).0, 64);
    let (code, _, err) = run(&["shopp"]);
    assert!(code == 64 && err.contains("unrecognized subcommand 'shopp'"), "{err}");
}

#[test]
fn mistake_in_a_runbook_stops_every_command_with_its_position() {
    let dir = configuration(
        &SHOP.replace("title = \"orders come\"", "titel = \"orders come\"").replace("ShopDown\"]", "ShopDown\"]\nownr = 1"),
    );
    let (code, out, err) = run(dir.path(), &["disk"]);
    assert_eq!((code, out.as_str()), (78, ""));
    insta::assert_snapshot!(err);
    for args in [&["config", "check"][..], &["list"], &["shop"], &["fix"], &["explain", "disk"]] {
        assert_eq!(run(dir.path(), args).0, 78, "{args:?}");
    }
    let (code, out, err) = run(dir.path(), &["disk", "--format", "nagios"]);
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    // one file alone, before it is installed
    let file = dir.path().join("runbooks.d/shop.toml");
    assert_eq!(run(dir.path(), &["config", "check", file.to_str().unwrap()]).0, 78);
}
