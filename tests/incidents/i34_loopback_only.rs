//! A service in a container listens on 127.0.0.1 only (scenario 34). Its health
//! test passes, and Prometheus cannot scrape it.

use crate::lab::{Host, eventually, installed, stack};

const LOOPBACK: &str = "network.loopback-only container:b1";
const TRIAGE: &str = "network.triage container:prometheus";
const DOWN: &str = "monitoring.targets-down prometheus:prometheus";

#[test]
fn loopback_listener_in_a_container_is_the_root_of_failed_scrapes() {
    if !installed(&["prometheus"]) {
        return;
    }
    let Some(host) = Host::with_names(Host::with_edge) else { return };
    host.own_names();
    let serve = ["svc:1", "/bin/fixture", "httpd", "--port", "8080"];
    host.run("b1", &[&["--network", "app", "-e", "HOST=127.0.0.1"], &serve[..], &["--bind", "127.0.0.1"]].concat());
    host.service("b2", "ok");
    host.prometheus("prometheus", &["b1:8080", "b2:8080"]);
    host.until_scraped("prometheus", "b1:8080", "down");
    host.until_scraped("prometheus", "b2:8080", "up");

    host.configure("[runbooks.monitoring]\nstarting_s = 0\n");
    let run = host.run_runbooks(&["network", "container", "healthcheck", "monitoring", "dns", "mtu"]);
    run.roots(&[LOOPBACK]).explains(LOOPBACK, TRIAGE).explains(LOOPBACK, DOWN);
    run.mentions(DOWN, &["cannot scrape b1:8080 (connection refused)", "1 of 2 targets of lab is down"]);
    run.must_not(&[
        "dns.",
        "network.docker-chains",
        "mtu.",
        "network.missing",
        "network.wrong-port",
        "container.network-detached",
    ]);
    run.mentions(
        LOOPBACK,
        &["b1 listens on 127.0.0.1:8080 only", "prometheus (scrapes it)", "--bind 127.0.0.1", "HOST=127.0.0.1", "from inside"],
    );
    run.mentions(
        TRIAGE,
        &["prometheus cannot reach b1:8080: step 5 of 8, it listens on 127.0.0.1:8080 only", "exists", "connection refused"],
    );
    run.mentions(
        TRIAGE,
        &[&format!("b1 resolves to {}", host.address("b1")), "inside b1 to 127.0.0.1: connected", "from it: refused"],
    );
    host.leaves(&run, "");
    assert!(!run.stdout.contains("127.0.0.11"), "the embedded DNS server of Docker is not reported: {}", run.stdout);

    // a listener on all addresses is healthy
    host.docker(&["rm", "-f", "b1"]);
    host.service("b1", "ok");
    eventually(30, "Prometheus scrapes it", || host.run_runbooks(&["network"]).findings().next().is_none().then_some(()));
    host.run_runbooks(&["network", "container"]).roots(&[]);
}

/// The alert fires in Prometheus, Alertmanager sends it to `opsctl listen`, and opsctl delivers a diagnosis.
#[test]
fn alert_is_delivered_as_a_diagnosis() {
    let Some(host) = Host::with_monitoring() else { return };
    let serve = ["svc:1", "/bin/fixture", "httpd", "--port", "8080"];
    host.run("b1", &[&["--network", "app"], &serve[..], &["--bind", "127.0.0.1"]].concat());
    let deliveries = host.hook(9001);
    let gateway = host.docker(&["network", "inspect", "app", "--format", "{{(index .IPAM.Config 0).Gateway}}"]);
    let token = "0123456789abcdef0123456789abcdef";
    std::fs::write(host.path("token"), token).unwrap_or_else(|e| panic!("token: {e}"));
    host.sh(&format!("chmod 600 {}", host.path("token").display()));
    host.configure(&format!(
        "[runbooks.monitoring]\nstarting_s = 0\n[listen]\naddress = \"{gateway}:9797\"\ntoken_file = \"{}\"\n\
         [[delivery]]\nto = \"http://127.0.0.1:9001/\"\nshape = \"json\"\nwhen = [\"alert\"]\n",
        host.path("token").display()
    ));
    host.listen();
    let hook = format!("{{url: 'http://{gateway}:9797/alerts', http_config: {{authorization: {{credentials: {token}}}}}}}");
    host.alertmanager_to("alertmanager", &hook);
    let rules = "groups: [{name: lab, interval: 1s, rules: [{alert: TargetDown, expr: 'up == 0'}]}]\n";
    host.prometheus_with("prometheus", &stack("b1:8080"), rules, &[], &[]);
    let first = deliveries.join("00001.json");
    let delivery: serde_json::Value =
        eventually(120, "the diagnosis is delivered", || serde_json::from_slice(&std::fs::read(&first).ok()?).ok());
    let answer = &delivery["answers"][0];
    assert_eq!((answer["alert"]["name"].as_str(), answer["known"].as_bool()), (Some("TargetDown"), Some(true)), "{answer}");
    let findings = delivery["report"]["findings"].as_array().cloned().unwrap_or_default();
    let root = findings.iter().find(|f| f["id"] == answer["findings"][0]);
    let root = root.map(|f| format!("{} {}", f["code"].as_str().unwrap_or(""), f["message"].as_str().unwrap_or("")));
    assert!(
        root.as_ref().is_some_and(|r| r.starts_with("network.loopback-only b1 listens on 127.0.0.1:8080 only")),
        "{root:?} {answer}"
    );
    assert_eq!(answer["verdict"], "crit");
    assert!(!delivery.to_string().contains(token));
    host.stop_listening();
}
