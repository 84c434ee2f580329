//! nginx and Prometheus on a lab host and in its containers, and certificates of every kind from a small authority.

use super::host::Host;
use super::image::Rootfs;
use super::{MACHINE, eventually, installed};

/// Time limit for the start of a server on a busy machine, in seconds.
const UP: u64 = 60;

/// Main context of every nginx configuration of the lab, outside the `http` block.
const MAIN_CONTEXT: &str = "user root; worker_processes 2; pid /run/nginx.pid; error_log /var/log/nginx/error.log;
events { worker_connections 256; }";

impl Host {
    /// A host with an engine, the images `machine:1` and `svc:1`, and a network `app`.
    pub(crate) fn with_edge() -> Option<Self> {
        if !installed(&["nginx", "curl", "openssl"]) {
            return None;
        }
        let host = Self::start()?;
        host.image("machine:1", Rootfs::Machine, &[]);
        host.image("svc:1", Rootfs::Scratch, &[]);
        host.docker(&["network", "create", "app"]);
        Some(host)
    }

    /// Writes the `http` block of the nginx of this name.
    #[track_caller]
    pub(crate) fn nginx_conf(&self, name: &str, http: &str) {
        let dir = self.path(&format!("nginx-{name}"));
        let main = format!("{MAIN_CONTEXT}\nhttp {{ access_log /var/log/nginx/access.log; include conf.d/*.conf; }}\n");
        std::fs::create_dir_all(dir.join("conf.d")).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for (file, text) in [("nginx.conf", main.as_str()), ("conf.d/site.conf", http)] {
            std::fs::write(dir.join(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
        }
    }

    /// Starts nginx in a container of the network `app`, with its logs on stdout and stderr as in the official image, and waits
    /// for its workers.
    #[track_caller]
    pub(crate) fn nginx_container(&self, name: &str, options: &[&str], http: &str) {
        self.nginx_conf(name, http);
        let conf = format!("{}:/etc/nginx", self.path(&format!("nginx-{name}")).display());
        let run = "ln -s /dev/stdout /var/log/nginx/access.log; ln -s /dev/stderr /var/log/nginx/error.log; exec nginx -g 'daemon off;'";
        let own = ["--network", "app", "-v", &conf, "--tmpfs", "/var/log/nginx", "--tmpfs", "/var/lib/nginx"];
        self.run(name, &[MACHINE, &own, options, &["machine:1", "sh", "-c", run]].concat());
        self.until_workers(name);
    }

    /// Waits until a container's nginx has workers.
    #[track_caller]
    pub(crate) fn until_workers(&self, name: &str) {
        eventually(UP, "nginx has workers", || {
            let top = self.try_docker(&["top", name, "-eo", "pid,args"]);
            String::from_utf8_lossy(&top.stdout).contains("nginx: worker process").then_some(())
        });
    }

    /// Starts nginx on the host itself and waits for its workers.
    #[track_caller]
    pub(crate) fn nginx(&self, http: &str) {
        self.nginx_conf("host", http);
        self.sh(&format!(
            "for d in /etc/nginx /var/log/nginx /var/lib/nginx; do mkdir -p $d; mount -t tmpfs tmpfs $d; done
            rmdir /etc/nginx/conf.d 2> /dev/null || true; cp -r {0}/. /etc/nginx/; nginx",
            self.path("nginx-host").display()
        ));
        eventually(UP, "nginx has workers", || {
            let found = self.command("pgrep").args(["-f", "nginx: worker process"]).output().ok()?;
            found.status.success().then_some(())
        });
    }

    /// Output of `curl`: status, a space, the body.
    #[track_caller]
    pub(crate) fn curl(&self, args: &str) -> String {
        self.sh(&format!("curl -s -k --max-time 20 -w ' %{{http_code}}' {args} || true"))
    }

    /// The address of a container in the network `app`.
    #[track_caller]
    pub(crate) fn address(&self, name: &str) -> String {
        self.inspect(name, "{{(index .NetworkSettings.Networks \"app\").IPAddress}}")
    }

    /// An HTTP service in a container of the network `app`, on port 8080.
    #[track_caller]
    pub(crate) fn service(&self, name: &str, body: &str) {
        self.run(name, &["--network", "app", "svc:1", "/bin/fixture", "httpd", "--port", "8080", "--body", body]);
        let url = format!("http://{}:8080/health", self.address(name));
        eventually(UP, "the service responds", || self.curl(&url).ends_with(" 200").then_some(()));
    }

    /// Starts Prometheus in a container of the network `app`, scraping these `host:port` every second, and waits until it is
    /// ready.
    #[track_caller]
    pub(crate) fn prometheus(&self, name: &str, targets: &[&str]) {
        let dir = self.path(&format!("prometheus-{name}"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let targets: Vec<String> = targets.iter().map(|t| format!("'{t}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: lab, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap_or_else(|e| panic!("prometheus.yml: {e}"));
        let mount = format!("{}:/etc/prometheus:ro", dir.display());
        let data = format!("{name}-data:/data");
        let own = ["--network", "app", "-v", &mount, "-v", &data];
        let run = ["machine:1", "prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"];
        self.run(name, &[MACHINE, &own, &run].concat());
        let url = format!("http://{}:9090/-/ready", self.address(name));
        eventually(UP, "Prometheus is ready", || self.curl(&url).ends_with(" 200").then_some(()));
    }

    /// Waits until Prometheus reports a target as `up` or `down`.
    #[track_caller]
    pub(crate) fn until_scraped(&self, name: &str, target: &str, health: &str) {
        let url = format!("http://{}:9090/api/v1/targets", self.address(name));
        let condition = format!("Prometheus reports {target} as {health}");
        eventually(UP, &condition, || {
            let response: serde_json::Value = serde_json::from_str(self.curl(&url).strip_suffix(" 200")?).ok()?;
            let all = response.pointer("/data/activeTargets")?.as_array()?.clone();
            let is = |t: &serde_json::Value| t["labels"]["instance"] == target && t["health"] == health;
            all.iter().any(is).then_some(())
        });
    }

    /// Starts [`APP`] behind the host's nginx, with its servers in its environment and its endpoints in the configuration, and
    /// waits until it responds.
    #[track_caller]
    pub(crate) fn application(&self, needs: &[&str]) {
        let app = self.app();
        self.spawn("env", &[needs, &["python3", &app]].concat());
        eventually(UP, "the application responds", || self.curl("http://127.0.0.1:8000/front").ends_with(" 200").then_some(()));
        self.nginx("server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }");
        self.configure(
            "[[endpoint]]\nurl = \"http://127.0.0.1/health/\"\nproves = \"deep health\"\n\
             [[endpoint]]\nurl = \"http://127.0.0.1/front\"\nexpect_body = \"Welcome\"\nproves = \"frontend only\"\n",
        );
    }

    /// Path of [`APP`].
    #[track_caller]
    pub(crate) fn app(&self) -> String {
        std::fs::write(self.path("app.py"), APP).unwrap_or_else(|e| panic!("app.py: {e}"));
        self.path("app.py").display().to_string()
    }

    /// Starts [`APP`] in a container of the network `app` on port 8000, with its servers in its environment, and waits until it
    /// responds.
    #[track_caller]
    pub(crate) fn app_container(&self, name: &str, needs: &[&str]) {
        let mount = format!("{}:/app.py:ro", self.app());
        let needs = needs.iter().flat_map(|n| ["-e", n]).collect::<Vec<_>>();
        let own = ["--network", "app", "-v", &mount];
        self.run(name, &[MACHINE, &own, &needs, &["machine:1", "/usr/bin/python3", "/app.py"]].concat());
        let url = format!("http://{}:8000/front", self.address(name));
        eventually(UP, "the application responds", || self.curl(&url).ends_with(" 200").then_some(()));
    }

    /// Creates the lab's certificate authority; its root is `/mnt/ca/root.pem`, which opsctl then trusts.
    #[track_caller]
    pub(crate) fn authority(&self) {
        self.sh(&format!("mkdir -p /mnt/ca; {AUTHORITY} /mnt/ca init"));
    }

    /// Issues a certificate `/mnt/ca/NAME.pem` with its key; `from` and `until` are in the syntax of `date -d`, see
    /// `tests/lab/authority`.
    #[track_caller]
    pub(crate) fn certificate(&self, name: &str, names: &str, from: &str, until: &str, options: &str) {
        let names: Vec<String> = names
            .split(',')
            .map(|n| if n.parse::<std::net::IpAddr>().is_ok() { format!("IP:{n}") } else { format!("DNS:{n}") })
            .collect();
        self.sh(&format!("{AUTHORITY} /mnt/ca {name} {} '{from}' '{until}' {options}", names.join(",")));
    }
}

/// An application on port 8000: its health page queries the configured database and cache, its frontend always returns 200.
const APP: &str = "
import http.server, os, subprocess
commands = []
if 'DATABASE_URL' in os.environ:
    commands.append(['psql', '-h', '/run/postgresql', '-U', 'app', 'shop', '-Atqc', 'SELECT 1'])
if 'CACHE_URL' in os.environ:
    commands.append(['redis-cli', '-u', os.environ['CACHE_URL'], 'ping'])
def succeeds(command):
    try:
        result = subprocess.run(command, capture_output=True, timeout=2)
        return result.returncode == 0 and result.stdout.strip() in (b'1', b'PONG')
    except subprocess.TimeoutExpired:
        return False
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = all([succeeds(command) for command in commands])
        front = self.path == '/front'
        self.send_response(200 if ok or front else 503)
        self.end_headers()
        self.wfile.write(b'Welcome' if ok else b'something went wrong')
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('0.0.0.0', 8000), H).serve_forever()
";

/// The environment variable of [`APP`] for the host's database.
pub(crate) const DATABASE: &str = "DATABASE_URL=postgres://app:canary-app-password@localhost:5432/shop";
/// The environment variable of [`APP`] for the host's cache.
pub(crate) const CACHE: &str = "CACHE_URL=redis://localhost:6379/0";

/// The script that issues certificates.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/authority");

/// Configuration that makes opsctl trust the lab's authority.
pub(crate) const TRUST: &str = "[runbooks.tls]\nca_files = [\"/mnt/ca/root.pem\"]\n";

/// A server block with the certificate of this name.
pub(crate) fn site(names: &str, certificate: &str) -> String {
    format!(
        "server {{ listen 443 ssl; server_name {names}; ssl_certificate /mnt/ca/{certificate}.pem; ssl_certificate_key /mnt/ca/{certificate}.key;
        location / {{ return 200 ok; }} }}\n"
    )
}
