//! Health checks of containers.

use crate::lab::{Config, Host, Rootfs, eventually};

fn with_test(test: &str, command: &[&str]) -> Option<Host> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Shell, &[&format!("HEALTHCHECK --interval=1s --timeout=1s --retries=2 {test}")]);
    host.run("web", &[&["app:1"], command].concat());
    Some(host)
}

#[test]
fn unhealthy_service_is_reported() {
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
fn health_check_that_times_out_is_reported() {
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
fn stopped_container_has_no_health() {
    let Some(host) = with_test(r#"CMD ["fixture","get","8080","/health"]"#, &["fixture", "wait-term"]) else { return };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    host.docker(&["stop", "web"]);
    assert_eq!(host.inspect("web", "{{.State.Health.Status}}"), "unhealthy", "the engine keeps the last status");
    host.diagnose().must_not(&["healthcheck."]);
}

#[test]
fn health_check_of_a_port_without_a_listener() {
    let Some(host) = with_test(r#"CMD ["fixture","get","9090","/health"]"#, &["fixture", "httpd", "--port", "8080"]) else {
        return;
    };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    // the check is not a URL, so the port is unknown; only known facts are reported
    let run = host.diagnose();
    run.must(&["healthcheck.unhealthy container:web"]).must_not(&["healthcheck.command-missing", "container.down"]);
}

#[test]
fn stale_health_after_an_engine_restart_is_reported() {
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
    // 2 x (interval + timeout) + 30 s without a check
    let stale = "healthcheck.monitor-stale container:web";
    let run = eventually(60, "opsctl calls the frozen health stale", || Some(host.diagnose()).filter(|run| run.has(stale)));
    assert_eq!(tests(), frozen, "the engine has not run the check since");
    run.roots(&[stale]);
    let fix = run.finding(stale).fixes.first().expect("a fix is offered").clone();
    host.fix(&fix, "web", &[]).exits(0);
    assert_ne!(tests(), frozen, "the engine runs the check again");
    host.diagnose().roots(&[]);
}
