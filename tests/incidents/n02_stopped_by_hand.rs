//! Exit code 137 is not always the kernel: `docker stop` kills what ignores SIGTERM, `docker kill` kills at once.

use crate::lab::{Host, Rootfs};

fn ended(how: &[&str], policy: &str, variant: &str) {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("app", &["--restart", policy, "-m", "64m", "app:1", "fixture", "wait"]);
    host.docker(&[how, &["app"]].concat());
    host.until("app", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let run = host.diagnose();
    run.must_not(&["container.oom-killed", "container.restart-loop", "container.start-failed", "memory."]);
    run.says("container.down container:app", &["by hand"]);
    assert!(run.code <= 1, "at most a warning, got {}", run.code);
    host.leaves(&run, variant);
    host.ask(&["memory"]).must_not(&["memory.oom-kill"]);
}

#[test]
fn a_stop_that_ended_in_sigkill_was_by_hand() {
    ended(&["stop", "-t", "1"], "unless-stopped", "");
}

#[test]
fn docker_kill_was_by_hand() {
    ended(&["kill"], "no", "kill");
}
