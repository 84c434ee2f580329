//! A recorded host is judged as it was live.

use crate::lab::{Host, Rootfs};

#[test]
fn a_recording_is_judged_as_the_host_was() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("idle", &["app:1", "fixture", "wait-term"]);
    host.docker(&["pause", "idle"]);
    host.run("failed", &["app:1", "fixture", "say", "broken", "7"]);
    host.until("failed", "{{.State.Status}}", "exited");
    host.sh("cd / && OPSCTL_STATE_DIR=/mnt/state /run/lab/opsctl record /mnt/host.json container healthcheck disk");
    let live = host.diagnose();
    let replayed = host.opsctl(&["diagnose", "--format", "json", "--replay", "/mnt/host.json"]);
    // ages differ by the moment between the two readings, nothing else does
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
