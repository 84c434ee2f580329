//! Control: a healthy monitoring stack, right after its start and later.

use crate::lab::Host;

#[test]
fn healthy_monitoring_stack_is_ok_from_its_start() {
    let Some(host) = Host::with_monitoring() else { return };
    host.monitoring();
    let run = host.run_runbooks(&["monitoring", "network", "container"]);
    run.roots(&[]).exits(0);
    let row = run.check("monitoring.targets", "prometheus:prometheus");
    assert!(row.verdict == "skip" && row.reason.as_ref().is_some_and(|r| r.contains("started")), "{row:?}");

    host.configure("[runbooks.monitoring]\nstarting_s = 0\n");
    host.set_response("loki", "/ready", 503, "Ingester not ready: waiting for 15s after being ready\n");
    let run = host.run_runbooks(&["monitoring", "network", "container"]);
    run.roots(&[]).exits(0);
    for (check, target) in [
        ("monitoring.blind", "host"),
        ("monitoring.prometheus", "prometheus:prometheus"),
        ("monitoring.targets", "prometheus:prometheus"),
        ("monitoring.up-missing", "prometheus:prometheus"),
        ("monitoring.rules", "prometheus:prometheus"),
        ("monitoring.tsdb", "prometheus:prometheus"),
        ("monitoring.notify", "prometheus:prometheus"),
        ("monitoring.alertmanager", "alertmanager:alertmanager"),
        ("monitoring.loki", "loki:loki"),
        ("monitoring.alloy", "alloy:alloy"),
        ("monitoring.replay-storm", "alloy:alloy"),
        ("monitoring.grafana", "grafana:grafana"),
    ] {
        run.verdict(check, target, "ok");
    }
    host.leaves(&run, "");
    let targets = host.opsctl(&["targets"]).stdout;
    for name in ["prometheus", "alertmanager", "loki", "alloy", "grafana"] {
        assert!(targets.contains(&format!("{name:<12} {name}")), "{targets}");
    }
    let recorded = host.path("record.json").display().to_string();
    host.opsctl(&["record", &recorded]);
    let text = std::fs::read_to_string(&recorded).unwrap_or_else(|e| panic!("{recorded}: {e}"));
    assert!(!text.contains("canary"), "the receiver of the Alertmanager has a token in its URL");
    // a host without a monitoring stack has no rows for it
    for name in ["prometheus", "alertmanager", "loki", "alloy", "grafana"] {
        host.docker(&["rm", "-f", name]);
    }
    assert!(!host.run_runbooks(&["monitoring"]).report().checks.iter().any(|c| c.runbook == "monitoring"));
}
