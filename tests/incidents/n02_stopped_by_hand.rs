//! Exit code 137 is not always the kernel: `docker stop` kills what ignores SIGTERM, `docker kill` kills at once.

use crate::lab::{Host, Rootfs, Run};

fn ended(how: &[&str], policy: &str) -> Option<Run> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("app", &["--restart", policy, "-m", "64m", "app:1", "fixture", "wait"]);
    host.docker(&[how, &["app"]].concat());
    host.until("app", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let run = host.diagnose();
    run.must_not(&["container.oom-killed", "container.restart-loop", "container.start-failed", "memory."]);
    Some(run)
}

#[test]
fn a_stop_that_ended_in_sigkill_was_by_hand() {
    let Some(run) = ended(&["stop", "-t", "1"], "unless-stopped") else { return };
    run.says("container.down container:app", &["by hand"]);
    assert!(run.code <= 1, "at most a warning, got {}", run.code);
}

#[test]
fn docker_kill_was_by_hand() {
    let Some(run) = ended(&["kill"], "no") else { return };
    run.says("container.down container:app", &["by hand"]);
    assert!(run.code <= 1, "at most a warning, got {}", run.code);
}
