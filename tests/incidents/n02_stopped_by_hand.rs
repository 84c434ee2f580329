//! Control: exit code 137 without the OOM killer. `docker stop` kills a process that ignores SIGTERM, `docker kill` kills at once.

use crate::lab::{Host, Rootfs};

fn diagnose_stopped(command: &[&str], policy: &str, variant: &str) {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("app", &["--restart", policy, "-m", "64m", "app:1", "fixture", "wait"]);
    host.docker(&[command, &["app"]].concat());
    host.until("app", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let run = host.diagnose();
    run.must_not(&["container.oom-killed", "container.restart-loop", "container.start-failed", "memory."]);
    run.mentions("container.down container:app", &["by hand"]);
    assert!(run.code <= 1, "at most a warning, got {}", run.code);
    host.leaves(&run, variant);
    host.run_runbooks(&["memory"]).must_not(&["memory.oom-kill"]);
}

#[test]
fn docker_stop_with_sigkill_is_reported_as_by_hand() {
    diagnose_stopped(&["stop", "-t", "1"], "unless-stopped", "");
}

#[test]
fn docker_kill_is_reported_as_by_hand() {
    diagnose_stopped(&["kill"], "no", "kill");
}
