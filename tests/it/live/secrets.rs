//! What is secret in a container appears nowhere: not on a terminal, in a report, a recording, the journal or the history.

use std::fs;
use std::path::Path;

use crate::lab::{Host, Rootfs, eventually};

/// Planted in an environment, a URL, a log line and a health test.
const CANARIES: &[&str] = &["canary-env-7f3a", "canary-url-9b1c", "canary-log-2d4e", "canary-health-5a6b", "canary-bearer-0c8d"];

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

fn clean(what: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} is in {what}: {text}");
    }
}

#[test]
fn planted_secrets_appear_nowhere() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let shout = "echo connecting with $API_SECRET to $DATABASE_URL; \
                 echo 'password=canary-log-2d4e rejected'; echo 'Authorization: Bearer canary-bearer-0c8d'; exit 1";
    let env = ["-e", "API_SECRET=canary-env-7f3a", "-e", "DATABASE_URL=postgres://app:canary-url-9b1c@db:5432/app"];
    host.run("loop", &[&env[..], &["--restart", "always", "app:1", "sh", "-c", shout]].concat());
    let test = "--health-cmd=echo trying -u me:canary-health-5a6b with $API_SECRET; exit 1";
    host.run(
        "sick",
        &[&env[..], &[test, "--health-interval=1s", "--health-retries=1", "app:1", "fixture", "wait-term"]].concat(),
    );
    host.until("sick", "{{.State.Health.Status}}", "unhealthy");
    eventually(60, "it loops", || host.inspect("loop", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(()));

    let run = host.diagnose();
    run.must(&["container.restart-loop container:loop", "healthcheck.unhealthy container:sick"]);
    run.says("container.restart-loop container:loop", &["[redacted]"]);
    for args in [
        &["diagnose", "-v"][..],
        &["diagnose", "-vv", "--format", "json"],
        &["diagnose", "--format", "jsonl"],
        &["diagnose", "-v", "--format", "markdown"],
        &["targets", "--format", "json"],
        &["record", "/mnt/recording.json"],
        &["fix"],
        &["fix", "container.stop-loop", "loop", "--dry-run"],
        &["fix", "container.stop-loop", "loop", "--yes"],
        &["audit", "show"],
    ] {
        let output = host.opsctl_command(&[], args).output().unwrap();
        clean(&args.join(" "), &String::from_utf8_lossy(&output.stdout));
        clean(&args.join(" "), &String::from_utf8_lossy(&output.stderr));
    }
    let recording = host.sh("cat /mnt/recording.json");
    assert!(recording.contains("[redacted]"), "the recording holds the evidence: {recording}");
    clean("the recording", &recording);
    let state = files(&host.path("state"));
    assert!(state.iter().any(|f| f.ends_with("journal.jsonl")), "{state:?}");
    for file in state {
        clean(&file.display().to_string(), &String::from_utf8_lossy(&fs::read(&file).unwrap()));
    }
}
