//! Prometheus, Alertmanager, Loki, Alloy, Grafana: one fault each, its fix, and runs without access.

use crate::lab::{Host, RULES, eventually, stack};

const PROMETHEUS: &str = "monitoring.prometheus prometheus:prometheus";
const ALERTMANAGER: &str = "monitoring.alertmanager alertmanager:alertmanager";
const BLIND: &str = "monitoring.blind host";

/// Without the time after a start in which target lists are not judged.
fn at_once(host: &Host, more: &str) {
    host.configure(&format!("[runbooks.monitoring]\nstarting_s = 0\n{more}"));
}

#[test]
fn failed_reload_is_reported_and_repeated_after_the_correction() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "");
    host.service("app1", "ok");
    host.alertmanager("alertmanager");
    host.prometheus_with("prometheus", &stack("app1:8080"), RULES, &[], &["--web.enable-lifecycle"]);
    host.until_scraped("prometheus", "app1:8080", "up");
    host.run_runbooks(&["monitoring"]).roots(&[]);

    host.configure_prometheus("prometheus", &format!("{}  nonsense: [\n", stack("app1:8080")), RULES);
    assert_eq!(host.reload_prometheus("prometheus"), "500");
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[PROMETHEUS]).mentions(PROMETHEUS, &["/-/ready returns 200", "its next start fails", "prometheus.yml"]);
    let refused = run.offer("prom.reload", "prometheus:prometheus").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(refused.contains("by hand") && refused.contains("promtool check config"), "{refused}");
    host.fix("prom.reload", "prometheus", &[]).exits(10);
    // the file is corrected and not reloaded
    host.configure_prometheus("prometheus", &stack("app1:8080', 'app1:9999"), RULES);
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[PROMETHEUS]).mentions(PROMETHEUS, &["passes"]);
    assert!(run.offer("prom.reload", "prometheus:prometheus").is_some_and(|o| o.refused.is_none()));
    host.fix("prom.reload", "prometheus", &[]).exits(0);
    host.until_scraped("prometheus", "app1:9999", "down");
    host.run_runbooks(&["monitoring"]).must_not(&["monitoring.prometheus"]);

    // without the lifecycle API the reload is a signal
    host.docker(&["rm", "-f", "prometheus"]);
    host.prometheus_with("prometheus", &stack("app1:8080"), RULES, &[], &[]);
    host.configure_prometheus("prometheus", "nonsense", RULES);
    host.docker(&["kill", "-s", "HUP", "prometheus"]);
    eventually(30, "the reload has failed", || host.run_runbooks(&["monitoring"]).has(PROMETHEUS).then_some(()));
    host.configure_prometheus("prometheus", &stack("app1:8080"), RULES);
    host.fix("prom.reload", "prometheus", &[]).exits(0);
    host.until_scraped("prometheus", "app1:8080", "up");
    // after a reload the target lists are empty for some seconds; the default grace period covers this
    host.run_runbooks(&["monitoring"]).must_not(&["monitoring.prometheus"]);
    host.configure("");
    host.run_runbooks(&["monitoring"]).roots(&[]);
}

#[test]
fn unresponsive_prometheus_is_reported_with_its_effect_on_alerts() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "");
    host.monitoring();
    host.run_runbooks(&["monitoring"]).roots(&[]);
    // accepts connections and does not respond
    host.docker(&["kill", "-s", "STOP", "prometheus"]);
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[PROMETHEUS]).explains(PROMETHEUS, BLIND);
    run.mentions(PROMETHEUS, &["accepts connections", "stopped by a signal", "kill -CONT"]);
    run.mentions(BLIND, &["no alerts will fire: prometheus does not answer"]);
    assert!(run.offer("container.restart", "prometheus:prometheus").is_none(), "stopped by an administrator");
    host.docker(&["kill", "-s", "CONT", "prometheus"]);
    eventually(30, "Prometheus is ready", || (host.run_runbooks(&["monitoring"]).code == 0).then_some(()));

    let pid = host.inspect("alertmanager", "{{.State.Pid}}");
    host.sh(&format!("kill -STOP {pid}"));
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[ALERTMANAGER]).explains(ALERTMANAGER, BLIND).explains(ALERTMANAGER, "monitoring.notify prometheus:prometheus");
    host.sh(&format!("kill -CONT {pid}"));

    host.docker(&["stop", "-t", "2", "prometheus"]);
    let run = host.run_runbooks(&["monitoring", "container"]);
    run.must(&[PROMETHEUS, BLIND]).mentions(BLIND, &["no alerts will fire: prometheus does not run"]);
    assert_eq!(run.code, 2);
    // no finding of the other checks
    run.must_not(&["monitoring.targets-down", "monitoring.pool-empty", "monitoring.notify", "monitoring.tsdb"]);
}

#[test]
fn alerts_and_targets_without_data_are_reported() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "");
    host.service("app1", "ok");
    host.alertmanager("alertmanager");
    host.set_response("pgx", "/metrics", 200, "pg_up 0\n");
    host.run(
        "pgx",
        &[
            "--network",
            "app",
            "-v",
            &format!("{}:/control:ro", host.path("control-pgx").display()),
            "svc:1",
            "/bin/fixture",
            "exporter",
            "--port",
            "9187",
            "--control",
            "/control",
        ],
    );
    let config = format!(
        "{}- {{job_name: pg, static_configs: [{{targets: ['pgx:9187']}}]}}\n- {{job_name: fleet, file_sd_configs: [{{files: [/etc/prometheus/gone/*.json]}}]}}\n\
         - {{job_name: nothing, static_configs: [{{targets: ['app1:8080']}}], relabel_configs: [{{source_labels: [__address__], regex: nobody, action: keep}}]}}\n\
         - {{job_name: lost, metrics_path: /nothing, static_configs: [{{targets: ['app1:8080']}}]}}\n",
        stack("app1:8080")
    );
    let rules = RULES.replace("rules: [", "rules: [{alert: NodeDown, expr: 'up{job=\"node_exporter\"} == 0'}, {alert: Alive, expr: 'absent(up{job=\"other\"})', for: 1h}, ");
    host.prometheus_with("prometheus", &config, &rules, &[], &[]);
    host.until_scraped("prometheus", "pgx:9187", "up");
    host.until_query("prometheus", "pg_up");
    let run = eventually(30, "Prometheus has loaded everything", || {
        let run = host.run_runbooks(&["monitoring"]);
        (run.findings().filter(|f| f.severity.to_string() != "info").count() == 5).then_some(run)
    });
    let findings: Vec<String> = run.findings().map(|f| format!("{} {}", f.code, f.message)).collect();
    let mentions =
        |words: &[&str]| assert!(findings.iter().any(|s| words.iter().all(|w| s.contains(w))), "{words:?}: {findings:#?}");
    mentions(&["pool-empty", "the job fleet has no target", "file /etc/prometheus/gone/*.json does not exist"]);
    mentions(&["pool-empty", "the job nothing has no target", "its relabel rules drop all 1"]);
    mentions(&["up-missing", "NodeDown (job=\"node_exporter\") can never fire"]);
    mentions(&["exporter-stale", "pgx:9187 is up, but pg_up is 0"]);
    mentions(&["targets-down", "app1:8080 (HTTP 404)", "the only target of lost is down"]);
    at_once(&host, "empty_ok = [\"fleet\", \"nothing\"]\njobs_ok = [\"node_exporter\"]\n");
    host.run_runbooks(&["monitoring"]).must_not(&["monitoring.pool-empty", "monitoring.up-missing"]);
}

#[test]
fn readiness_of_loki_alloy_and_grafana_is_checked() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "loki_ready_minutes = 0\n");
    host.monitoring();
    host.run_runbooks(&["monitoring"]).roots(&[]);
    let (loki, alloy, grafana) =
        ("monitoring.loki loki:loki", "monitoring.alloy alloy:alloy", "monitoring.grafana grafana:grafana");
    host.set_response("loki", "/ready", 503, "Ingester not ready: waiting for 15s after being ready\n");
    host.set_response("alloy", "/-/healthy", 500, "unhealthy components: loki.source.docker.default\n");
    host.set_response("grafana", "/api/health", 200, "{\"database\":\"failing\"}\n");
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[loki, alloy, grafana]);
    run.mentions(loki, &["is not ready", "waiting for 15s"]);
    run.mentions(alloy, &["unhealthy components: loki.source.docker.default", "do not restart it"]);
    run.mentions(grafana, &["status 200, but its database is failing"]);
    assert!(run.report().fixes.is_empty(), "{:?}", run.report().fixes);
    host.set_response("alloy", "/-/healthy", 200, "All Alloy components are healthy.\n");
    host.set_response("grafana", "/api/health", 200, "{\"database\":\"ok\"}\n");
    host.set_response("loki", "/ready", 200, "ready\n");
    host.run_runbooks(&["monitoring"]).roots(&[]);
    // lines rejected in the past are of severity info; lines rejected at present are a warning
    let refused = |n: u32| {
        host.set_response("loki", "/metrics", 200, &format!("loki_discarded_samples_total{{reason=\"rate_limited\"}} {n}\n"));
    };
    refused(7);
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[]).mentions(loki, &["rejected 7 lines since its start, none since the last run: rate_limited"]);
    refused(9);
    host.run_runbooks(&["monitoring"]).roots(&[loki]).mentions(loki, &["rejected 2 lines"]);
    // a hung server is restarted; Alloy never is
    host.set_response("loki", "/metrics", 200, "loki_build_info 1\n");
    for (name, port) in [("loki", 3100), ("alloy", 12345)] {
        host.sh(&format!("curl -s --max-time 1 http://{}:{port}/hang || true", host.address(name)));
    }
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[loki, alloy]).mentions(loki, &["accepts connections", "did not answer within 3 s"]);
    let offered: Vec<String> = run.report().fixes.iter().map(|o| format!("{} {}", o.id, o.subject)).collect();
    assert_eq!(offered, ["container.restart loki:loki"]);
    host.fix("container.restart", "loki", &[]).exits(0);
    host.run_runbooks(&["monitoring"]).roots(&[alloy]);
}

/// A hung engine delivers no logs to Alloy and resolves no names of its networks.
#[test]
fn failures_caused_by_a_hung_engine_are_explained_by_it() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "loki_ready_minutes = 0\n");
    host.monitoring();
    host.run_runbooks(&["monitoring", "container"]).roots(&[]);
    host.set_response("alloy", "/-/healthy", 500, "unhealthy components: loki.source.docker.default\n");
    host.sh("pkill -STOP -x dockerd");
    let engine = "container.engine-hung engine:docker";
    // Prometheus resolves its targets at every scrape
    let codes = ["monitoring.alloy", "monitoring.notify", "monitoring.targets-down"];
    let run = eventually(60, "all dependent checks fail", || {
        let run = host.run_runbooks(&["container", "monitoring", "healthcheck", "network"]);
        codes.iter().all(|code| run.findings().any(|f| f.code == *code)).then_some(run)
    });
    host.sh("pkill -CONT -x dockerd");
    run.roots(&[engine]);
    for found in run.findings().filter(|f| codes.contains(&f.code.as_str())) {
        run.explains(engine, &format!("{} {}", found.code, found.subject));
    }
}

#[test]
fn host_is_enrolled_in_monitoring_as_configured() {
    let Some(host) = Host::with_monitoring() else { return };
    // the address by which the host and its Prometheus reach each other
    let gateway = host.docker(&["network", "inspect", "app", "--format", "{{(index .IPAM.Config 0).Gateway}}"]);
    host.spawn("prometheus-node-exporter", &["--web.listen-address=:9100"]);
    host.alertmanager("alertmanager");
    let config = format!(
        "{}- {{job_name: node, file_sd_configs: [{{files: [/etc/prometheus/targets/*.json], refresh_interval: 1s}}]}}\n",
        stack("localhost:9090")
    );
    let targets = host.path("prometheus-prometheus").join("targets");
    std::fs::create_dir_all(&targets).unwrap_or_else(|e| panic!("{}: {e}", targets.display()));
    std::fs::write(targets.join("other.json"), "[{\"targets\":[\"localhost:9090\"],\"labels\":{\"environment\":\"lab\"}}]\n")
        .unwrap_or_else(|e| panic!("other.json: {e}"));
    host.prometheus_with("prometheus", &config, RULES, &[], &[]);
    host.until_query("prometheus", "up{job=\"node\", environment=\"lab\"} == 1");
    host.until_query("prometheus", "up{job=\"lab\"} == 1");
    let labels = |environment: &str| {
        at_once(
            &host,
            &format!(
                "[host]\naddress = \"{gateway}:9100\"\n[host.labels]\nenvironment = \"{environment}\"\nmaintainers = \"ops@example.org\"\n"
            ),
        );
    };
    labels("production");
    let enrolment = "monitoring.enrolment host";
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[enrolment]).mentions(enrolment, &["is in no target file", "/etc/prometheus/targets/*.json"]);
    host.fix("monitoring.enrol", "host", &[]).exits(0);
    host.run_runbooks(&["monitoring"]).roots(&[]);
    host.until_query("prometheus", "up{environment=\"production\", maintainers=\"ops@example.org\"} == 1");
    let name = host.sh("uname -n");
    let own = targets.join(format!("{name}.json"));
    assert!(own.exists(), "{}", own.display());

    // different labels are reported and corrected, because the file is from opsctl
    labels("staging");
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[enrolment]).mentions(enrolment, &["environment is production, not staging"]);
    let done = host.fix("monitoring.enrol", "host", &[]);
    done.exits(0);
    host.until_query("prometheus", "up{environment=\"staging\"} == 1");
    let undo = done.stdout.lines().find_map(|l| l.strip_prefix("opsctl undo ")?.split(' ').next()).unwrap_or_default().to_owned();
    host.opsctl(&["undo", &undo, "--yes"]).exits(0);
    host.until_query("prometheus", "up{environment=\"production\"} == 1");

    // a retired host is removed, and its target file is kept under another name
    at_once(&host, &format!("[host]\nmonitored = false\naddress = \"{gateway}:9100\"\n"));
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[enrolment]).mentions(enrolment, &["declares this host retired", "still lists"]);
    host.fix("monitoring.retire", "host", &[]).exits(0);
    host.run_runbooks(&["monitoring"]).roots(&[]);
    let left = host.sh(&format!("ls {}", targets.display()));
    assert!(left.contains(&format!("{name}.json.deleted.")) && !own.exists() && left.contains("other.json"), "{left}");

    // target files from others are not changed
    std::fs::write(
        targets.join("fleet.json"),
        format!("[{{\"targets\":[\"{gateway}:9100\",\"x:1\"],\"labels\":{{\"maintainer\":\"ops\"}}}}]\n"),
    )
    .unwrap_or_else(|e| panic!("fleet.json: {e}"));
    labels("production");
    let run = host.run_runbooks(&["monitoring"]);
    run.mentions(enrolment, &["maintainer is ops and is not wanted", "maintainers (ops@example.org) is missing"]);
    host.fix("monitoring.enrol", "host", &[]).exits(10);
}

#[test]
fn missing_access_to_containers_is_reported() {
    let Some(host) = Host::with_monitoring() else { return };
    host.alertmanager("alertmanager");
    host.prometheus_with("prometheus", &stack("localhost:9090"), RULES, &[], &[]);
    host.sh("chmod 666 /var/run/docker.sock; chmod 755 /run/lab");
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"];
    let mut command = host.opsctl_command(&unprivileged, &["diagnose", "monitoring", "--format", "json"]);
    command.env("OPSCTL_STATE_DIR", "/tmp/opsctl-nobody").env_remove("OPSCTL_CONFIG");
    let run = host.read(&mut command);
    run.must_not(&["monitoring."]).exits(3);
    for (check, target) in
        [("monitoring.prometheus", "prometheus:prometheus"), ("monitoring.alertmanager", "alertmanager:alertmanager")]
    {
        let row = run.check(check, target);
        assert!(row.verdict == "unknown" && row.reason.as_ref().is_some_and(|r| r.contains("needs root")), "{row:?}");
    }
}
