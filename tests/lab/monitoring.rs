//! A monitoring stack on a lab host: real Prometheus, Alertmanager, `node_exporter` and blackbox exporter, stubs of Loki, Alloy,
//! Grafana and others.

use super::host::Host;
use super::image::Rootfs;
use super::{MACHINE, eventually, installed};

/// Time limit for the start of a server on a busy machine, in seconds.
const UP: u64 = 60;

/// Alert rules, one of which always fires.
pub(crate) const RULES: &str = "groups: [{name: lab, interval: 1s, rules: [{alert: Watchdog, expr: vector(1)}, {alert: HostDown, expr: 'up{job=\"lab\"} == 0', for: 1m}]}]\n";

impl Host {
    /// A host with an engine, the images `machine:1`, `svc:1`, `loki:1`, `alloy:1`, `grafana:1`, and a network `app`.
    pub(crate) fn with_monitoring() -> Option<Self> {
        if !installed(&["prometheus", "promtool", "prometheus-alertmanager", "prometheus-node-exporter"]) {
            return None;
        }
        let host = Self::with_edge()?;
        host.stubs(&["loki", "alloy", "grafana"]);
        Some(host)
    }

    /// Starts a stub in a container of the network `app` with the command line of the real image; its responses are set with
    /// [`Host::set_response`].
    #[track_caller]
    pub(crate) fn stub(&self, name: &str, product: &str, options: &[&str], args: &[&str]) {
        let control = self.path(&format!("control-{name}"));
        std::fs::create_dir_all(&control).unwrap_or_else(|e| panic!("{}: {e}", control.display()));
        let mount = format!("{}:/control:ro", control.display());
        let real: &[&str] = match product {
            "loki" => &["loki", "-config.file=/etc/loki/local-config.yaml"],
            "alloy" => &[
                "alloy",
                "run",
                "--server.http.listen-addr=0.0.0.0:12345",
                "--storage.path=/var/lib/alloy/data",
                "/etc/alloy/config.alloy",
            ],
            "tempo" => &["tempo", "-config.file=/etc/tempo.yaml"],
            "mimir" => &["mimir", "-config.file=/etc/mimir/demo.yaml"],
            "minio" => &["minio", "server", "/data"],
            "promtail" => &["promtail", "-config.file=/etc/promtail/config.yml"],
            "cadvisor" => &["cadvisor", "-logtostderr"],
            _ => &["grafana", "server"],
        };
        let (program, rest) = real.split_first().unwrap_or_else(|| panic!("{product}"));
        let program = format!("/bin/{program}");
        let image = format!("{product}:1");
        let own = ["--network", "app", "-v", &mount];
        self.run(name, &[&own, options, &[&image, &program], rest, &["--control", "/control"], args].concat());
        let (port, path) = match product {
            "loki" => (3100, "/ready"),
            "alloy" => (12345, "/-/ready"),
            "tempo" => (3200, "/ready"),
            "mimir" => (8080, "/ready"),
            "minio" => (9000, "/minio/health/live"),
            "promtail" => (9080, "/ready"),
            "cadvisor" => (8080, "/healthz"),
            _ => (3000, "/api/health"),
        };
        let url = format!("http://{}:{port}{path}", self.address(name));
        // the body may be empty
        eventually(UP, "the stub responds", || self.curl(&url).ends_with("200").then_some(()));
    }

    /// Images of the stubs of these products.
    pub(crate) fn stubs(&self, products: &[&'static str]) {
        for name in products {
            self.image(&format!("{name}:1"), Rootfs::Stub(name), &[]);
        }
    }

    /// Sets the response of a stub for a path from this call on.
    pub(crate) fn set_response(&self, name: &str, path: &str, status: u16, body: &str) {
        let control = self.path(&format!("control-{name}"));
        std::fs::create_dir_all(&control).unwrap_or_else(|e| panic!("{}: {e}", control.display()));
        let file = control.join(path.trim_matches('/').replace('/', "_"));
        std::fs::write(&file, format!("{status}\n{body}")).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// Starts Alertmanager in a container of the network `app` and waits until it is ready.
    #[track_caller]
    pub(crate) fn alertmanager(&self, name: &str) {
        self.alertmanager_to(name, "{url: 'http://hook.test/canary-token'}");
    }

    /// [`Host::alertmanager`] with this webhook as its receiver.
    #[track_caller]
    pub(crate) fn alertmanager_to(&self, name: &str, webhook: &str) {
        let dir = self.path(&format!("alertmanager-{name}"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let config = format!(
            "route: {{receiver: ops, group_wait: 1s, group_interval: 1s}}\nreceivers: [{{name: ops, webhook_configs: [{webhook}]}}]\n"
        );
        std::fs::write(dir.join("alertmanager.yml"), config).unwrap_or_else(|e| panic!("alertmanager.yml: {e}"));
        let mount = format!("{}:/etc/am:ro", dir.display());
        let own = ["--network", "app", "-v", &mount, "-v", &format!("{name}-data:/data")];
        let run = [
            "machine:1",
            "prometheus-alertmanager",
            "--config.file=/etc/am/alertmanager.yml",
            "--storage.path=/data",
            "--cluster.listen-address=",
        ];
        self.run(name, &[MACHINE, &own, &run].concat());
        let url = format!("http://{}:9093/-/ready", self.address(name));
        eventually(UP, "the Alertmanager is ready", || self.curl(&url).ends_with(" 200").then_some(()));
    }

    /// Starts Prometheus in a container of the network `app` with this configuration and `rules.yml` beside it, and waits until
    /// it is ready.
    #[track_caller]
    pub(crate) fn prometheus_with(&self, name: &str, config: &str, rules: &str, options: &[&str], flags: &[&str]) {
        self.configure_prometheus(name, config, rules);
        let mount = format!("{}:/etc/prometheus", self.path(&format!("prometheus-{name}")).display());
        let data = format!("{name}-data:/data");
        let own = ["--network", "app", "-v", &mount, "-v", &data];
        let agent = flags.iter().any(|f| f.contains("agent"));
        let store = if agent { "--storage.agent.path=/data" } else { "--storage.tsdb.path=/data" };
        let run = ["machine:1", "prometheus", "--config.file=/etc/prometheus/prometheus.yml", store];
        self.run(name, &[MACHINE, &own, options, &run, flags].concat());
        let url = format!("http://{}:9090/-/ready", self.address(name));
        eventually(UP, "Prometheus is ready", || self.curl(&url).ends_with(" 200").then_some(()));
        if config.contains("alertmanager:9093") {
            let url = format!("http://{}:9090/api/v1/alertmanagers", self.address(name));
            eventually(UP, "Prometheus has found its Alertmanager", || {
                self.curl(&url).contains("alertmanager:9093").then_some(())
            });
        }
    }

    /// Changes its files without a reload.
    pub(crate) fn configure_prometheus(&self, name: &str, config: &str, rules: &str) {
        let dir = self.path(&format!("prometheus-{name}"));
        std::fs::create_dir_all(dir.join("targets")).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for (file, text) in [("prometheus.yml", config), ("rules.yml", rules)] {
            std::fs::write(dir.join(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
        }
    }

    /// Reloads the files of a Prometheus and returns the status of the response.
    #[track_caller]
    pub(crate) fn reload_prometheus(&self, name: &str) -> String {
        let response = self.curl(&format!("-X POST http://{}:9090/-/reload", self.address(name)));
        response.rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Waits until a query to a Prometheus has a result.
    #[track_caller]
    pub(crate) fn until_query(&self, name: &str, promql: &str) {
        let url = format!("-G --data-urlencode 'query={promql}' http://{}:9090/api/v1/query", self.address(name));
        eventually(UP, &format!("{promql} has a result"), || {
            let response: serde_json::Value = serde_json::from_str(self.curl(&url).strip_suffix(" 200")?).ok()?;
            response.pointer("/data/result/0").map(|_| ())
        });
    }

    /// Prometheus, Alertmanager, Loki, Alloy, Grafana and an application, all healthy.
    #[track_caller]
    pub(crate) fn monitoring(&self) {
        self.service("app1", "ok");
        self.alertmanager("alertmanager");
        self.stub("loki", "loki", &["-v", "loki-data:/loki"], &[]);
        self.stub("grafana", "grafana", &["-v", "grafana-data:/var/lib/grafana"], &[]);
        self.stub("alloy", "alloy", &["-v", "alloy-data:/var/lib/alloy/data"], &[]);
        self.prometheus_with(
            "prometheus",
            &stack("app1:8080"),
            RULES,
            &[],
            &["--web.enable-lifecycle", "--web.enable-remote-write-receiver"],
        );
        self.until_scraped("prometheus", "app1:8080", "up");
    }
}

/// A configuration that scrapes these targets (`'a:1', 'b:2'`) and sends alerts to the Alertmanager of the network.
pub(crate) fn stack(targets: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [/etc/prometheus/rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['alertmanager:9093']}}]}}]}}\n\
         scrape_configs:\n- {{job_name: lab, static_configs: [{{targets: ['{targets}']}}]}}\n"
    )
}
