//! Four simultaneous faults of the monitoring stack (scenario 40). Every health page returns 200.

use crate::lab::{Host, RULES, eventually, stack};

const STORM: &str = "monitoring.replay-storm alloy:alloy";
const EPHEMERAL: &str = "container.ephemeral-state container:alloy";
const RELOAD: &str = "monitoring.prometheus prometheus:prometheus";
const ALERTMANAGER: &str = "monitoring.alertmanager alertmanager:alertmanager";
const NOTIFY: &str = "monitoring.notify prometheus:prometheus";
const PUSHED: &str = "monitoring.up-missing prometheus:prometheus";
const BLIND: &str = "monitoring.blind host";

#[test]
fn four_monitoring_faults_are_four_root_causes() {
    let Some(host) = Host::with_monitoring() else { return };
    host.service("app1", "ok");
    host.alertmanager("alertmanager");
    host.prometheus_with(
        "prometheus",
        &stack("app1:8080"),
        RULES,
        &[],
        &["--web.enable-lifecycle", "--web.enable-remote-write-receiver"],
    );
    host.until_scraped("prometheus", "app1:8080", "up");
    // a machine that only pushes: its `up` is not sent
    let exporter = ["machine:1", "prometheus-node-exporter", "--web.listen-address=:9100", "--web.disable-exporter-metrics"];
    host.run("host7", &[crate::lab::MACHINE, &["--network", "app"], &exporter].concat());
    let push = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs: [{job_name: push, static_configs: [{targets: ['host7:9100']}]}]\n\
        remote_write: [{url: 'http://prometheus:9090/api/v1/write', write_relabel_configs: [{source_labels: [__name__], regex: 'up|scrape_.*', action: drop}]}]\n";
    host.prometheus_with("agent", push, "", &[], &["--enable-feature=agent"]);
    host.until_query("prometheus", "node_uname_info");
    // a collector that lost its positions with its container sends old logs again
    host.stub("loki", "loki", &["-v", "loki-data:/loki"], &[]);
    host.stub("alloy", "alloy", &[], &["--push-to", "loki:3100"]);
    host.docker(&["restart", "-t", "1", "alloy"]);
    // a rule with a syntax error, and a reload
    host.configure_prometheus(
        "prometheus",
        &stack("app1:8080"),
        "groups: [{name: lab, rules: [{alert: Broken, expr: 'up{'}]}]\n",
    );
    assert_eq!(host.reload_prometheus("prometheus"), "500");
    assert!(host.curl(&format!("http://{}:9090/-/ready", host.address("prometheus"))).ends_with(" 200"));
    let listed = format!("http://{}:9090/api/v1/alertmanagers", host.address("prometheus"));
    let listed = || host.curl(&listed).contains("http://alertmanager:9093/api/v2/alerts");
    eventually(30, "the reload, which empties the list for some seconds, is over", || listed().then_some(()));
    // no notifications are sent, and the list of Alertmanagers is unchanged
    host.docker(&["stop", "-t", "1", "alertmanager"]);
    assert!(listed(), "a stopped Alertmanager is listed as active");
    eventually(30, "the collector logs rejected pushes", || {
        let log = host.try_docker(&["logs", "alloy"]);
        String::from_utf8_lossy(&log.stderr).contains("429 Too Many Requests").then_some(())
    });

    let run = host.run_runbooks(&["monitoring", "container", "disk"]);
    run.roots(&[EPHEMERAL, RELOAD, ALERTMANAGER, PUSHED]);
    run.explains(EPHEMERAL, STORM).explains(ALERTMANAGER, NOTIFY);
    run.must(&[BLIND]).explains(ALERTMANAGER, BLIND);
    run.must_not(&["disk.", "monitoring.alloy", "monitoring.targets-down", "monitoring.tsdb", "container.down"]);
    run.mentions(RELOAD, &["its /-/ready returns 200", "its next start fails", "rules.yml", "promtool check config"]);
    run.mentions(
        STORM,
        &["/var/lib/alloy/data", "entry too far behind", "do not raise Loki's limits", "do not restart it again"],
    );
    run.mentions(NOTIFY, &["lists alertmanager:9093 as active", "no Alertmanager"]);
    run.mentions(PUSHED, &["host7:9100", "HostDown can never fire"]);
    run.mentions(BLIND, &["no notifications will be sent: alertmanager does not run"]);
    for offer in &run.report().fixes {
        assert!(!offer.subject.contains("alloy") && offer.id != "container.restart", "{offer:?}");
    }
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
    host.leaves(&run, "");
}
