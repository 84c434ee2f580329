//! Configured endpoints: their evidence when passing, and the meaning of a failure.

use crate::lab::{Host, eventually};

const APP: &str = "http://127.0.0.1:8001/health";
const FRONT: &str = "http://127.0.0.1:8002/soft404";

#[test]
fn soft_404_is_detected_and_a_frontend_proves_no_backend() {
    let Some(host) = Host::without_engine() else { return };
    let service = |port: &str, status: &str, body: &str| {
        host.spawn("/run/lab/fixture", &["httpd", "--port", port, "--status", status, "--body", body]);
        eventually(30, "it answers", || {
            host.command("curl").args(["-s", &format!("http://127.0.0.1:{port}/metrics")]).status().ok()?.success().then_some(())
        });
    };
    service("8001", "200", "{\"database\":{\"status\":\"ok\"},\"token\":\"canary-token\"}");
    service("8002", "200", "Welcome");
    let config = |front: &str| {
        format!(
            "[[endpoint]]\nurl = \"{APP}?token=canary-query\"\nproves = \"deep health\"\nexpect_status = [200]\nexpect_json = {{ \"/database/status\" = \"ok\" }}\n\
             [[endpoint]]\nurl = \"{front}\"\nproves = \"frontend only\"\nexpect_body = \"Welcome\"\n\
             [[endpoint]]\nurl = \"tcp://127.0.0.1:8001\"\n"
        )
    };
    host.configure(&config("http://127.0.0.1:8002/health"));
    let run = host.run_runbooks(&["healthcheck"]);
    run.must_not(&["healthcheck."]);
    assert_eq!(run.check("healthcheck.endpoint", &format!("endpoint:{APP}")).verdict, "ok");
    // a "not found" page with status 200
    host.configure(&config(FRONT));
    let content = format!("healthcheck.content endpoint:{FRONT}");
    let run = host.run_runbooks(&["healthcheck"]);
    run.must(&[&content]).must_not(&["healthcheck.http", "healthcheck.tcp"]);
    run.mentions(
        &content,
        &["(frontend only)", "status 200 without the text `Welcome`", "deep health: passing", "only this endpoint fails"],
    );

    // the backend is down: both fail, and the message states it
    host.sh("pkill -f -- '--port 8001'");
    let deep = format!("healthcheck.http endpoint:{APP}");
    let run = host.run_runbooks(&["healthcheck"]);
    run.must(&[&deep, &content, "healthcheck.tcp endpoint:tcp://127.0.0.1:8001"]);
    run.mentions(&deep, &["connection refused", "frontend only: failing too"]);
    service("8001", "503", "{\"database\":{\"status\":\"down\"}}");
    host.run_runbooks(&["healthcheck"]).mentions(&deep, &["status 503 instead of 200"]);
    let shown = host.opsctl(&["diagnose", "healthcheck", "--format", "json", "-v"]);
    assert!(!shown.stdout.contains("canary"), "{}", shown.stdout);
}

#[test]
fn endpoint_is_requested_from_its_configured_container() {
    let Some(host) = Host::with_edge() else { return };
    host.service("b2", "inside");
    host.service("front", "x");
    host.configure(
        "[[endpoint]]\nurl = \"http://b2:8080/health\"\nfrom = \"front\"\nexpect_body = \"inside\"\nlatency_ms = 5000\n",
    );
    let run = host.run_runbooks(&["healthcheck"]);
    assert_eq!(run.check("healthcheck.endpoint", "endpoint:http://b2:8080/health").verdict, "ok");
    host.docker(&["stop", "-t", "0", "b2"]);
    let run = host.run_runbooks(&["healthcheck", "container"]);
    run.mentions("healthcheck.http endpoint:http://b2:8080/health", &["b2"]);
    host.docker(&["stop", "-t", "0", "front"]);
    let run = host.run_runbooks(&["healthcheck"]);
    let row = run.check("healthcheck.endpoint", "endpoint:http://b2:8080/health");
    assert_eq!(
        (row.verdict.as_str(), row.reason.as_deref()),
        ("unknown", Some("http://b2:8080/health is to be requested from front, which is not running"))
    );
}

#[test]
fn endpoint_on_the_command_line_is_requested_once() {
    let Some(host) = Host::with_servers(&["nginx", "openssl", "curl"]) else { return };
    host.authority();
    host.certificate("x", "127.0.0.1", "-1 day", "+2 hours", "");
    host.nginx(
        "server { listen 8443 ssl; server_name other.test; ssl_certificate /mnt/ca/x.pem; ssl_certificate_key /mnt/ca/x.key; }",
    );
    for words in [&["ssl", "127.0.0.1:8443"][..], &["diagnose", "ssl", "--endpoint", "https://127.0.0.1:8443/"]] {
        let run = host.opsctl(&[words, &["--format", "json"]].concat());
        assert_eq!(run.check("tls.served", "certificate:127.0.0.1:8443").verdict, "crit", "{}", run.stdout);
    }
    let run = host.opsctl(&["healthcheck", "127.0.0.1:8444", "--format", "json"]);
    run.must(&["healthcheck.tcp endpoint:tcp://127.0.0.1:8444"]);
}
