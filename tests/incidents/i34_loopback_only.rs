//! A service listens on 127.0.0.1 of its container: its own health test passes, and Prometheus gets nothing
//! (scenario 34; sources/scrape-failure.md, where it was never found out).

use crate::lab::{Host, eventually, installed};

const LOOPBACK: &str = "network.loopback-only container:b1";
const TRIAGE: &str = "network.triage container:prometheus";
const DOWN: &str = "monitoring.targets-down prometheus:prometheus";

#[test]
fn a_loopback_in_a_container_is_why_prometheus_gets_nothing() {
    if !installed(&["prometheus"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    let serve = ["svc:1", "/bin/fixture", "httpd", "--port", "8080"];
    host.run("b1", &[&["--network", "app", "-e", "HOST=127.0.0.1"], &serve[..], &["--bind", "127.0.0.1"]].concat());
    host.service("b2", "ok");
    host.prometheus("prometheus", &["b1:8080", "b2:8080"]);
    host.until_scraped("prometheus", "b1:8080", "down");
    host.until_scraped("prometheus", "b2:8080", "up");

    host.configure("[runbooks.monitoring]\nstarting_s = 0\n");
    let run = host.ask(&["network", "container", "healthcheck", "monitoring"]);
    run.roots(&[LOOPBACK]).explains(LOOPBACK, TRIAGE).explains(LOOPBACK, DOWN);
    run.says(DOWN, &["does not get b1:8080 (connection refused)", "1 of 2 targets of lab is down"]);
    run.must_not(&[
        "dns.",
        "network.docker-chains",
        "mtu.",
        "network.missing",
        "network.wrong-port",
        "container.network-detached",
    ]);
    run.says(
        LOOPBACK,
        &["b1 listens on 127.0.0.1:8080 only", "prometheus (scrapes it)", "--bind 127.0.0.1", "HOST=127.0.0.1", "from inside"],
    );
    run.says(
        TRIAGE,
        &[
            "prometheus cannot reach b1:8080: step 5 of 8, it listens on 127.0.0.1:8080 only",
            "there is one",
            "connection refused",
        ],
    );
    run.says(TRIAGE, &[&format!("b1 is {} there", host.address("b1")), "inside b1 to 127.0.0.1: connected", "from it: refused"]);
    assert!(!run.stdout.contains("127.0.0.11"), "Docker's own name server does not count: {}", run.stdout);

    // listening for all, it is well
    host.docker(&["rm", "-f", "b1"]);
    host.service("b1", "ok");
    eventually(30, "Prometheus gets it", || host.ask(&["network"]).findings().next().is_none().then_some(()));
    host.ask(&["network", "container"]).roots(&[]);
}
