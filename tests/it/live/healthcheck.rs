//! Health checks of containers, and configured endpoints: their evidence when passing, and the meaning of a failure.

use crate::lab::{Config, Host, Rootfs, eventually};

const APP: &str = "http://127.0.0.1:8001/health";
const FRONT: &str = "http://127.0.0.1:8002/soft404";

/// A host with a container `web` that has this health check and command.
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

/// gliderlabs/docker-alpine#259: wget of busybox reads `http_proxy`, and does not read `no_proxy`.
#[test]
fn health_check_through_a_proxy() {
    let Some(host) = Host::start() else { return };
    let test = r#"HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD ["busybox","wget","-q","-O","/dev/null","http://127.0.0.1:8080/health"]"#;
    host.image("app:1", Rootfs::Shell, &[test]);
    let serve = ["app:1", "fixture", "httpd", "--port", "8080"];
    let proxy = ["-e", "http_proxy=http://me:canary-proxy@127.0.0.1:9", "-e", "no_proxy=127.0.0.1"];
    host.run("web", &[&proxy[..], &serve].concat());
    // wget reads the lower case only
    host.run("upper", &[&["-e", "HTTP_PROXY=http://127.0.0.1:9"], &serve[..]].concat());
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    host.until("upper", "{{.State.Health.Status}}", "healthy");
    let (proxied, unhealthy) = ("healthcheck.proxied container:web", "healthcheck.unhealthy container:web");
    let run = host.diagnose();
    run.roots(&[proxied]).explains(proxied, unhealthy).mentions(proxied, &["127.0.0.1:9 (http_proxy)", "-Y off"]);
    let shown = host.opsctl(&["diagnose", "healthcheck", "--format", "json", "-v"]);
    assert!(!shown.stdout.contains("canary"), "{}", shown.stdout);
}

#[test]
fn health_check_of_another_port_than_the_service() {
    let test = r#"CMD ["busybox","wget","-q","-O","/dev/null","http://127.0.0.1:9090/health"]"#;
    let Some(host) = with_test(test, &["fixture", "httpd", "--port", "8080"]) else { return };
    // opsctl's own request also counts right after the start
    host.configure("[runbooks.healthcheck]\nstarting_s = 0\n");
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    let (mismatch, http) = ("healthcheck.port-mismatch container:web", "healthcheck.http container:web");
    let run = host.diagnose();
    run.roots(&[mismatch]).explains(mismatch, http).traces(mismatch, "healthcheck.unhealthy container:web");
    run.mentions(http, &["a restart does not help"]).offers_no("container.restart", "container:web");
}

#[test]
fn log_of_an_unhealthy_service_is_quoted() {
    let test = r#"CMD ["fixture","get","8080","/health"]"#;
    let script = "fixture httpd --port 8080 --status 503 & \
                  while true; do echo 'ERROR open /run/secrets/key.pem: permission denied'; sleep 1; done";
    let Some(host) = with_test(test, &["sh", "-c", script]) else { return };
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    let unhealthy = "healthcheck.unhealthy container:web";
    host.diagnose().must(&[unhealthy]).mentions(unhealthy, &["its log: ERROR open /run/secrets/key.pem", "compare the owner"]);
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

/// The failing step of an endpoint of this host: the name in its sources, then the listener.
#[test]
fn failing_endpoint_is_followed_to_the_step() {
    let Some(host) = Host::with_names(Host::without_engine) else { return };
    host.dnsmasq("10.53.0.1", &["--host-record=shop.corp,10.53.0.8"]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    host.address_without_listener("10.53.0.8");
    host.address_without_listener("10.53.0.9");
    let url = "http://shop.corp:8080/health";
    host.configure(&format!("[[endpoint]]\nurl = \"{url}\"\n[runbooks.healthcheck]\nhttp_timeout_ms = 600\n"));
    let http = format!("healthcheck.http endpoint:{url}");
    let run = host.run_runbooks(&["healthcheck"]);
    run.roots(&[&http]).mentions(&http, &["connection refused", "no listener on port 8080 of this host"]);
    host.spawn("/run/lab/fixture", &["httpd", "--port", "8080", "--bind", "10.53.0.8"]);
    eventually(30, "it answers", || {
        host.command("curl").args(["-s", "http://10.53.0.8:8080/health"]).status().ok()?.success().then_some(())
    });
    host.run_runbooks(&["healthcheck"]).roots(&[]);
    // an old address in the hosts file
    host.sh("echo '10.53.0.9 shop.corp' >> /etc/hosts");
    let run = host.run_runbooks(&["healthcheck"]);
    run.roots(&[&http])
        .mentions(&http, &["/etc/hosts has shop.corp as 10.53.0.9", "DNS has 10.53.0.8, which responds as expected"]);
    // another address on purpose, which works: not reported
    host.sh("sed -i 's/^10.53.0.9 shop.corp/10.53.0.8 shop.corp/' /etc/hosts");
    host.run_runbooks(&["healthcheck"]).roots(&[]);
    // nsswitch.conf excludes DNS
    host.sh("sed -i '/shop.corp/d' /etc/hosts; sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    let run = host.run_runbooks(&["healthcheck", "dns"]);
    run.roots(&["dns.nsswitch host"]).explains("dns.nsswitch host", &http);
    run.mentions(&http, &["nsswitch.conf has `hosts: files`", "and DNS has shop.corp"]);
}

/// A response after the usual limit is slow, with its time, and not a missing one.
#[test]
fn late_response_is_slow() {
    let Some(host) = Host::without_engine() else { return };
    let url = "http://127.0.0.1:8003/health";
    host.spawn("/run/lab/fixture", &["httpd", "--port", "8003", "--slow", "900"]);
    eventually(30, "it answers", || host.command("curl").args(["-s", url]).status().ok()?.success().then_some(()));
    let slow = format!("healthcheck.slow endpoint:{url}");
    host.configure(&format!("[[endpoint]]\nurl = \"{url}\"\n[runbooks.healthcheck]\nhttp_timeout_ms = 600\n"));
    host.run_runbooks(&["healthcheck"]).roots(&[&slow]).mentions(&slow, &["limit 600 ms"]);
    host.configure(&format!("[[endpoint]]\nurl = \"{url}\"\nlatency_ms = 3000\n"));
    host.run_runbooks(&["healthcheck"]).roots(&[]);
    // longer than the limits: no answer, with the time waited
    host.configure(&format!("[[endpoint]]\nurl = \"{url}\"\n[runbooks.healthcheck]\nhttp_timeout_ms = 250\n"));
    let http = format!("healthcheck.http endpoint:{url}");
    host.run_runbooks(&["healthcheck"]).roots(&[&http]).mentions(&http, &["no answer in 0.", "in 3 of 3 tries"]);
}

/// A document root below a home directory that the workers may not search.
#[test]
fn document_root_without_search_permission() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    host.sh("mkdir -p /mnt/home/app/www; echo hello > /mnt/home/app/www/index.html; chmod 755 /mnt /mnt/home; chmod 700 /mnt/home/app");
    host.nginx("server { listen 8085; root /mnt/home/app/www; }");
    host.sh("sed -i 's/^user root/user nobody nogroup/' /etc/nginx/nginx.conf; nginx -s reload");
    let url = "http://127.0.0.1:8085/";
    host.configure(&format!("[[endpoint]]\nurl = \"{url}\"\n"));
    let http = format!("healthcheck.http endpoint:{url}");
    eventually(20, "the workers run as nobody", || host.curl(url).ends_with(" 403").then_some(()));
    let run = host.run_runbooks(&["healthcheck"]);
    run.must(&[&http])
        .mentions(&http, &["status 403", "has no search permission: /mnt/home/app has mode 0700", "namei -l /mnt/home/app"]);
    host.sh("chmod 755 /mnt/home/app; mv /mnt/home/app/www/index.html /mnt/home/app/www/start.html");
    host.run_runbooks(&["healthcheck"]).mentions(&http, &["/mnt/home/app/www/ has no index file (index.html)"]);
    host.sh("mv /mnt/home/app/www/start.html /mnt/home/app/www/index.html");
    host.run_runbooks(&["healthcheck"]).must_not(&["healthcheck."]);
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
