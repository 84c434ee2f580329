//! A replay of a recorded host has the same result as live.

use crate::lab::{Host, Rootfs};

#[test]
fn replay_has_the_result_of_the_live_run() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("idle", &["app:1", "fixture", "wait-term"]);
    host.docker(&["pause", "idle"]);
    host.run("failed", &["app:1", "fixture", "say", "broken", "7"]);
    host.until("failed", "{{.State.Status}}", "exited");
    host.sh("cd / && OPSCTL_STATE_DIR=/mnt/state /run/lab/opsctl record /mnt/host.json container healthcheck disk");
    let live = host.diagnose();
    let replayed = host.opsctl(&["diagnose", "--format", "json", "--replay", "/mnt/host.json"]);
    // only ages differ, by the time between the two runs
    let essence = |run: &crate::lab::Run| -> Vec<String> {
        run.report()
            .findings
            .iter()
            .map(|f| format!("{} {} {} {:?}", f.code, f.severity, f.subject.name, f.explained_by))
            .collect()
    };
    assert_eq!(essence(&live), essence(&replayed));
    replayed.must(&["container.paused container:idle", "container.down container:failed"]);
}
