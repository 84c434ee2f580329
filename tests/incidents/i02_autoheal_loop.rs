//! A watchdog restarts a container with a health test that cannot pass (willfarrell/docker-autoheal).

use crate::lab::{Host, Rootfs, eventually};

const MISSING: &str = "healthcheck.command-missing container:app";
const LOOP: &str = "container.restart-loop container:app";

#[test]
fn autoheal_restarts_a_working_service() {
    let Some(host) = Host::start() else { return };
    let test = r#"HEALTHCHECK --interval=1s --retries=2 CMD ["curl","-f","http://localhost:8080/health"]"#;
    host.image("app:1", Rootfs::Shell, &[test]);
    host.run("app", &["--label", "autoheal=true", "--restart", "always", "app:1", "fixture", "httpd", "--port", "8080"]);
    // the watchdog polls the health status and restarts the container if it is unhealthy
    let watchdog = "while sleep 1; do [ $(docker inspect app --format '{{.State.Health.Status}}') != unhealthy ] || docker restart -t 1 app; done";
    host.spawn("bash", &["-c", watchdog]);
    let started = || host.inspect("app", "{{.State.StartedAt}}");
    for _ in 0..3 {
        let before = started();
        eventually(30, "the watchdog restarts it", || (started() != before).then_some(()));
    }
    host.until("app", "{{.State.Health.FailingStreak}}", "1");
    assert_eq!(host.inspect("app", "{{.RestartCount}}"), "0", "restarts through the API are not counted");
    let run = host.diagnose();
    run.must(&[MISSING, LOOP]).roots(&[MISSING]).explains(MISSING, LOOP);
    // neither the application nor its image is the cause
    run.must_not(&["container.oom-killed", "container.down", "container.start-failed", "container.image-drift", "memory."]);
    run.verdict("healthcheck.http", "container:app", "ok").offers_no("container.restart", "container:app");
    // the engine does not restart it: there is no restart loop of the engine to stop
    run.offers_no("container.stop-loop", "container:app");
    host.leaves(&run, "");
}
