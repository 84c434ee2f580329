//! Health tests.

use crate::lab::{Config, Host, Rootfs, eventually};

fn with_test(test: &str, command: &[&str]) -> Option<Host> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Shell, &[&format!("HEALTHCHECK --interval=1s --timeout=1s --retries=2 {test}")]);
    host.run("web", &[&["app:1"], command].concat());
    Some(host)
}

#[test]
fn a_service_that_is_really_unhealthy() {
    let Some(host) =
        with_test(r#"CMD ["fixture","get","8080","/health"]"#, &["fixture", "httpd", "--port", "8080", "--status", "503"])
    else {
        return;
    };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    let run = host.diagnose();
    run.must(&["healthcheck.unhealthy container:web"]).must_not(&[
        "healthcheck.command-missing",
        "healthcheck.timeout",
        "container.",
    ]);
    run.exits(2);
}

#[test]
fn a_test_that_takes_too_long() {
    let Some(host) =
        with_test(r#"CMD ["fixture","get","8080","/health"]"#, &["fixture", "httpd", "--port", "8080", "--slow", "5000"])
    else {
        return;
    };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    let run = host.diagnose();
    run.must(&["healthcheck.unhealthy container:web", "healthcheck.timeout container:web"])
        .must_not(&["healthcheck.command-missing"]);
}

#[test]
fn a_stopped_container_has_no_health() {
    let Some(host) = with_test(r#"CMD ["fixture","get","8080","/health"]"#, &["fixture", "wait-term"]) else { return };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    host.docker(&["stop", "web"]);
    assert_eq!(host.inspect("web", "{{.State.Health.Status}}"), "unhealthy", "the engine keeps the last word");
    host.diagnose().must_not(&["healthcheck."]);
}

#[test]
fn a_test_on_a_port_nobody_listens_on() {
    let Some(host) = with_test(r#"CMD ["fixture","get","9090","/health"]"#, &["fixture", "httpd", "--port", "8080"]) else {
        return;
    };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    // the test is no URL, so the port cannot be known; what can be known must be said, and no more
    let run = host.diagnose();
    run.must(&["healthcheck.unhealthy container:web"]).must_not(&["healthcheck.command-missing", "container.down"]);
}

#[test]
fn health_tests_that_an_engine_restart_left_behind() {
    let config = Config { daemon: r#"{"live-restore": true}"#, ..Config::default() };
    let Some(host) = Host::with(&config) else { return };
    host.image("app:1", Rootfs::Scratch, &[r#"HEALTHCHECK --interval=1s --timeout=1s CMD ["fixture","get","8080","/health"]"#]);
    host.run("web", &["app:1", "fixture", "httpd", "--port", "8080"]);
    host.until("web", "{{.State.Health.Status}}", "healthy");
    host.sh(
        "kill $(cat /run/docker.pid); while [ -d /proc/$(cat /run/docker.pid 2> /dev/null || echo none) ]; do sleep 0.1; done",
    );
    host.start_engine();
    let tests = || host.inspect("web", "{{range .State.Health.Log}}{{.Start}} {{end}}");
    let frozen = tests();
    assert_eq!(host.inspect("web", "{{.State.Running}} {{.State.Health.Status}}"), "true healthy");
    // 2 x (interval + timeout) + 30 s without a test
    let stale = "healthcheck.monitor-stale container:web";
    let run = eventually(60, "opsctl calls the frozen health stale", || Some(host.diagnose()).filter(|run| run.has(stale)));
    assert_eq!(tests(), frozen, "the engine has not tested since");
    run.roots(&[stale]);
    let fix = run.finding(stale).fixes.first().expect("a fix is offered").clone();
    host.fix(&fix, "web", &[]).exits(0);
    assert_ne!(tests(), frozen, "the engine tests again");
    host.diagnose().roots(&[]);
}
