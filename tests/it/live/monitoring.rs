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

/// Alerts that lead nowhere, after a host on which every alert is delivered: the Watchdog goes to a receiver named null, and an
/// inhibition rule compares labels.
#[test]
fn alerts_without_a_notification_are_reported() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "");
    host.alertmanager("alertmanager");
    let rules = "groups: [{name: lab, interval: 1s, rules: [{alert: Watchdog, expr: vector(1), labels: {severity: none}}, \
                 {alert: Page, expr: 'absent(no_such_series)', labels: {severity: critical}}, \
                 {alert: Slow, expr: 'absent(no_such_series)', labels: {severity: warning, zone: a}}]}]\n";
    let receivers = "receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}, {name: 'null'}, {name: pager}]\n";
    let configure = |routes: &str, inhibitions: &str| {
        let config = format!(
            "route: {{receiver: ops, group_wait: 1h, routes: [{{matchers: ['alertname=\"Watchdog\"'], receiver: 'null'}}{routes}]}}\n{receivers}\
             inhibit_rules: [{{source_matchers: ['severity=\"critical\"'], target_matchers: ['severity=\"warning\"'], equal: [zone]}}{inhibitions}]\n"
        );
        let file = host.path("alertmanager-alertmanager").join("alertmanager.yml");
        std::fs::write(&file, config).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let reloaded = host.curl(&format!("-X POST http://{}:9093/-/reload", host.address("alertmanager")));
        assert!(reloaded.ends_with("200"), "{reloaded}");
    };
    configure("", "");
    // alerts are sent before the Alertmanager is discovered, and then again after this time
    let flags = ["--web.enable-lifecycle", "--rules.alert.resend-delay=1s"];
    host.prometheus_with("prometheus", &stack("localhost:9090"), rules, &[], &flags);
    host.until_query("prometheus", "up{job=\"lab\"} == 1");
    let alerts = format!("http://{}:9093/api/v2/alerts", host.address("alertmanager"));
    eventually(30, "the Alertmanager has the alerts", || host.curl(&alerts).contains("\"Page\"").then_some(()));
    let healthy =
        ["monitoring.alerts-swallowed", "monitoring.rules-missing", "monitoring.discovery", "monitoring.samples-dropped"];
    host.run_runbooks(&["monitoring"]).must_not(&healthy);

    let swallowed = "monitoring.alerts-swallowed alertmanager:alertmanager";
    configure(", {matchers: ['severity=~\".+\"'], receiver: pager}", "");
    let run = host.run_runbooks(&["monitoring"]);
    run.must(&[swallowed]).mentions(swallowed, &["routes Page, Slow to the receiver pager, which has no integration"]);
    assert_eq!(run.code, 2);
    configure(
        "",
        ", {source_matchers: ['alertname=\"Watchdog\"'], target_matchers: ['severity=\"critical\"'], equal: [cluster]}",
    );
    let run = eventually(30, "the alert is inhibited", || {
        let run = host.run_runbooks(&["monitoring"]);
        run.has(swallowed).then_some(run)
    });
    run.mentions(swallowed, &["Watchdog always fires and inhibits Page"]);
    configure("", "");

    // the files of the rules are at another place
    let missing = "monitoring.rules-missing prometheus:prometheus";
    let config = stack("localhost:9090").replace("/etc/prometheus/rules.yml", "/etc/prometheus/rules.d/*.yml");
    host.configure_prometheus("prometheus", &config, rules);
    assert_eq!(host.reload_prometheus("prometheus"), "200");
    let run = host.run_runbooks(&["monitoring"]);
    run.must(&[missing]).mentions(missing, &["no alert can fire: no file matches /etc/prometheus/rules.d/*.yml"]);
    assert_eq!(run.code, 2);
}

/// `up` is 1 for all of them.
#[test]
fn targets_without_usable_samples_are_reported() {
    let Some(host) = Host::with_monitoring() else { return };
    at_once(&host, "");
    host.alertmanager("alertmanager");
    host.set_response("bbx", "/metrics", 200, "probe_success{module=\"http_2xx\"} 0\nnode_textfile_scrape_error 1\n");
    let control = format!("{}:/control:ro", host.path("control-bbx").display());
    let exporter = ["svc:1", "/bin/fixture", "exporter", "--port", "9115", "--control", "/control"];
    host.run("bbx", &[&["--network", "app", "-v", &control], &exporter[..]].concat());
    let config = format!(
        "{}- {{job_name: probes, honor_labels: true, static_configs: [{{targets: ['bbx:9115']}}]}}\n\
         - {{job_name: dropped, static_configs: [{{targets: ['bbx:9115']}}], metric_relabel_configs: [{{source_labels: [__name__], regex: none, action: keep}}]}}\n\
         - {{job_name: some, static_configs: [{{targets: ['bbx:9115']}}], metric_relabel_configs: [{{source_labels: [__name__], regex: probe_.*, action: drop}}]}}\n\
         - {{job_name: fleet, file_sd_configs: [{{files: [/etc/prometheus/targets/*.json], refresh_interval: 1s}}]}}\n",
        stack("localhost:9090")
    );
    let targets = host.path("prometheus-prometheus").join("targets");
    std::fs::create_dir_all(&targets).unwrap_or_else(|e| panic!("{}: {e}", targets.display()));
    for (file, text) in [("good.json", "[{\"targets\":[\"localhost:9090\"]}]"), ("broken.json", "[{\"targets\":")] {
        std::fs::write(targets.join(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
        host.sh(&format!("touch -d '1 hour ago' {}", targets.join(file).display()));
    }
    host.prometheus_with("prometheus", &config, RULES, &[], &[]);
    for query in ["probe_success == 0", "up{job=\"fleet\"} == 1", "up{job=\"dropped\"} == 1"] {
        host.until_query("prometheus", query);
    }
    let run = host.run_runbooks(&["monitoring"]);
    let findings: Vec<String> = run.findings().map(|f| format!("{} {}", f.code, f.message)).collect();
    let mentions =
        |words: &[&str]| assert!(findings.iter().any(|s| words.iter().all(|w| s.contains(w))), "{words:?}: {findings:#?}");
    mentions(&["samples-dropped", "drops all 2 samples of bbx:9115", "the job dropped keep none"]);
    mentions(&["discovery", "cannot read the target file /etc/prometheus/targets/broken.json", "invalid JSON at line 1"]);
    mentions(&["probe-failed", "bbx:9115 (module http_2xx) fails"]);
    mentions(&["textfile-stale", "the textfile collector of bbx:9115 cannot read a file"]);
    let of = |code: &str| findings.iter().filter(|f| f.starts_with(code)).count();
    assert_eq!((of("monitoring.samples-dropped"), of("monitoring.discovery")), (1, 1), "{findings:#?}");
    run.must_not(&["monitoring.prometheus", "monitoring.pool-empty", "monitoring.rules-missing"]);
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

/// The real exporter; a module that its configuration lacks, and a reload that fails.
#[test]
fn blackbox_exporter_with_a_broken_configuration_is_reported() {
    if !crate::lab::installed(&["prometheus-blackbox-exporter"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    host.configure("[runbooks.monitoring]\nready_minutes = 0\n");
    let config = host.path("blackbox.yml");
    let modules = "modules: {http_2xx: {prober: http}}\n";
    std::fs::write(&config, modules).unwrap_or_else(|e| panic!("blackbox.yml: {e}"));
    let file = format!("--config.file={}", config.display());
    host.spawn("prometheus-blackbox-exporter", &[&file, "--web.listen-address=127.0.0.1:9115"]);
    let page = |path: &str| host.sh(&format!("curl -s --max-time 5 {path}"));
    eventually(30, "the exporter answers", || page("http://127.0.0.1:9115/-/healthy || true").contains("Healthy").then_some(()));
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[]);
    let name = run.report().checks.iter().find(|c| c.check == "monitoring.blackbox").map(|c| c.target.clone());
    let code = format!("monitoring.blackbox {}", name.unwrap_or_default());

    std::fs::write(&config, "modules: [\n").unwrap_or_else(|e| panic!("blackbox.yml: {e}"));
    page("-X POST http://127.0.0.1:9115/-/reload");
    let run = host.run_runbooks(&["monitoring"]);
    run.must(&[&code]).mentions(&code, &["could not load its configuration", "its next start fails"]);
    std::fs::write(&config, modules).unwrap_or_else(|e| panic!("blackbox.yml: {e}"));
    page("-X POST http://127.0.0.1:9115/-/reload");
    host.run_runbooks(&["monitoring"]).roots(&[]);
    // the counter of the runs before is zero
    page("'http://127.0.0.1:9115/probe?module=missing&target=127.0.0.1:9115'");
    host.run_runbooks(&["monitoring"])
        .must(&[&code])
        .mentions(&code, &["rejected 1 probes", "module is not in its configuration"]);
}

/// The object store of a Tempo is down: its MinIO is the cause, also of the data source that Grafana cannot query.
#[test]
fn stopped_object_store_explains_the_errors_of_its_clients() {
    let Some(host) = Host::with_edge() else { return };
    host.configure("[runbooks.monitoring]\nready_minutes = 0\n");
    host.stubs(&["tempo", "minio", "promtail", "grafana"]);
    for name in ["minio", "tempo", "promtail"] {
        host.stub(name, name, &[], &[]);
    }
    let provisioning = host.path("provisioning");
    let sources = provisioning.join("datasources");
    std::fs::create_dir_all(&sources).unwrap_or_else(|e| panic!("{}: {e}", sources.display()));
    let list = "datasources:\n- name: Tempo\n  type: tempo\n  access: proxy\n  url: http://tempo:3200\n- name: Old\n  type: loki\n  url: http://localhost:3100\n";
    std::fs::write(sources.join("all.yaml"), list).unwrap_or_else(|e| panic!("all.yaml: {e}"));
    let mount = format!("{}:/etc/grafana/provisioning:ro", provisioning.display());
    host.stub("grafana", "grafana", &["-v", &mount], &[]);
    let source = "monitoring.data-source grafana:grafana";
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[source]).mentions(source, &["the data source Old of grafana", "localhost:3100 refuses the connection"]);

    let flushes = |n: u32| host.set_response("tempo", "/metrics", 200, &format!("tempo_ingester_failed_flushes_total {n}\n"));
    flushes(0);
    host.set_response("minio", "/minio/health/cluster", 503, "");
    host.set_response(
        "promtail",
        "/ready",
        500,
        "Not ready: Unable to find any logs to tail. Please verify permissions, volumes, scrape_config, etc.\n",
    );
    let (minio, promtail) = ("monitoring.minio minio:minio", "monitoring.promtail promtail:promtail");
    let run = host.run_runbooks(&["monitoring"]);
    run.roots(&[minio, promtail, source])
        .mentions(minio, &["has no write quorum"])
        .mentions(promtail, &["found no logs to tail"]);
    host.set_response("promtail", "/ready", 200, "Ready\n");
    flushes(9);
    let run = host.run_runbooks(&["monitoring"]);
    run.must(&["monitoring.object-store tempo:tempo"]);
    run.mentions("monitoring.object-store tempo:tempo", &["9 operations of its store failed"]);
    host.docker(&["stop", "-t", "1", "minio"]);
    host.run_runbooks(&["monitoring"]).must(&[minio]).mentions(minio, &["does not run"]);
}
