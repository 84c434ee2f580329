//! Listeners and connections between containers, and forwarding of their packets: Docker's rules, the kernel setting, chains
//! of other software, and full accept queues. One fault each, and controls without a fault.

mod needs;
mod wiring;

use crate::lab::{Host, PEER, Rootfs, eventually, installed};

const CHAINS: &str = "network.docker-chains engine:docker";
const DROP: &str = "network.forward-drop host";

/// An HTTP service on this port.
fn httpd(port: &str) -> [&str; 5] {
    ["svc:1", "/bin/fixture", "httpd", "--port", port]
}

/// An idle container of the network `app` with a connection in its environment.
fn consumer(host: &Host, name: &str, variable: &str) {
    host.run(name, &["--network", "app", "-e", variable, "svc:1", "/bin/fixture", "wait-term"]);
}

/// Without the time after a start in which a container need not have a listener.
fn at_once(host: &Host) {
    host.configure("[runbooks.network]\nstarting_s = 0\n[runbooks.healthcheck]\nstarting_s = 0\n");
}

/// Waits for a listener on a port in the namespace of a container.
#[track_caller]
fn listens(host: &Host, name: &str, port: &str) {
    let pid = host.inspect(name, "{{.State.Pid}}");
    let hex = format!("{:04X}", port.parse::<u16>().unwrap_or(0));
    eventually(30, "it listens", || {
        let table = host.sh(&format!("cat /proc/{pid}/net/tcp /proc/{pid}/net/tcp6"));
        table.contains(&format!(":{hex} ")).then_some(())
    });
}

#[test]
fn healthy_network_has_no_finding() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    // connections of others to it, by a name, an alias, and an address
    host.service("well", "ok");
    let by_address = format!("BACKEND_URL=http://{}:8080/", host.address("well"));
    consumer(&host, "web", "BACKEND_URL=http://user:canary-password@well:8080/health?token=canary");
    consumer(&host, "again", &by_address);
    // a wildcard of IPv6 covers IPv4
    host.run("v6", &[&["--network", "app"], &httpd("8080")[..], &["--bind", "::"]].concat());
    consumer(&host, "web6", "UPSTREAM_URL=http://v6:8080/");
    // on the host's network a loopback address is reachable
    host.run("onhost", &[&["--network", "host"], &httpd("9101")[..], &["--bind", "127.0.0.1"]].concat());
    // the default bridge has no DNS names
    host.run("plain", &httpd("8080"));
    // a connection string that the container itself does not use
    host.run(
        "told",
        &["--network", "app", "-e", "CORS_ORIGINS=http://well:9999", "-e", "IMAGE=well:7", "svc:1", "/bin/fixture", "wait-term"],
    );
    // published on the loopback address of this host only
    host.run("local", &[&["--network", "app", "-p", "127.0.0.1:16379:6379"], &httpd("6379")[..]].concat());
    for (name, port) in [("v6", "8080"), ("onhost", "9101"), ("plain", "8080"), ("local", "6379")] {
        listens(&host, name, port);
    }
    let run = host.run_runbooks(&["network", "container"]);
    run.roots(&[]);
    assert_eq!(run.check("network.triage", "container:web").verdict, "ok");
    assert_eq!(run.check("network.triage", "container:web6").verdict, "ok");
    assert_eq!(run.check("network.listeners", "container:v6").verdict, "ok");
    assert_eq!(run.check("network.published", "engine:docker").verdict, "ok");
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
    let recorded = host.path("record.json").display().to_string();
    host.opsctl(&["record", &recorded]);
    let text = std::fs::read_to_string(&recorded).unwrap_or_else(|e| panic!("{recorded}: {e}"));
    assert!(!text.contains("canary"), "of a value only host and port are kept");
}

#[test]
fn missing_listener_is_reported_with_the_open_port() {
    let Some(host) = Host::with_edge() else { return };
    host.run("moved", &[&["--network", "app", "-p", "127.0.0.1:18080:8080"], &httpd("9999")[..]].concat());
    host.run("silent", &["--network", "app", "svc:1", "/bin/fixture", "wait-term"]);
    consumer(&host, "web", "BACKEND_URL=http://moved:8080/");
    consumer(&host, "worker", "QUEUE_ADDR=silent:7000");
    listens(&host, "moved", "9999");
    // just started: only an info
    let missing = "network.missing container:silent";
    let run = host.run_runbooks(&["network"]);
    run.must(&[missing]).must_not(&["network.wrong-port", "network.triage"]);
    assert_eq!(run.finding(missing).severity.to_string(), "warn");

    at_once(&host);
    let wrong = "network.wrong-port container:moved";
    let run = host.run_runbooks(&["network", "healthcheck", "container"]);
    run.roots(&[wrong, missing]);
    run.explains(wrong, "network.triage container:web").explains(missing, "network.triage container:worker");
    run.explains(wrong, "healthcheck.tcp container:moved");
    run.mentions(wrong, &["port 8080", "web (BACKEND_URL)", "it listens on 9999 instead"]);
    run.mentions(missing, &["silent has no listener on port 7000", "worker (QUEUE_ADDR)"]);
    run.mentions("network.triage container:worker", &["step 5 of 8, silent has no listener on port 7000"]);
    assert_eq!(run.finding(missing).severity.to_string(), "crit");
}

#[test]
fn ipv6_listener_does_not_serve_ipv4() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.run(
        "narrow",
        &[
            &["--network", "app", "--sysctl", "net.ipv6.bindv6only=1", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0"],
            &httpd("8080")[..],
            &["--bind", "::"],
        ]
        .concat(),
    );
    consumer(&host, "web", "BACKEND_URL=http://narrow:8080/");
    listens(&host, "narrow", "8080");
    let family = "network.family container:narrow";
    let run = host.run_runbooks(&["network"]);
    run.roots(&[family]).explains(family, "network.triage container:web");
    run.mentions(family, &["[::]:8080 for IPv6 only", "web (BACKEND_URL)", "net.ipv6.bindv6only: 1"]);
}

#[test]
fn firewall_between_containers_is_found_by_comparing_sources() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.service("b1", "ok");
    consumer(&host, "web", "BACKEND_URL=http://b1:8080/");
    host.run_runbooks(&["network"]).roots(&[]);
    // a firewall in the network namespace of the target drops packets from the consumer
    let (pid, from) = (host.inspect("b1", "{{.State.Pid}}"), host.address("web"));
    host.sh(&format!(
        "nsenter -t {pid} -n nft 'add table ip lab; add chain ip lab inbound {{ type filter hook input priority 0; }}; add rule ip lab inbound ip saddr {from} drop'"
    ));
    let triage = "network.triage container:web";
    let run = host.run_runbooks(&["network", "container"]);
    run.roots(&[triage]);
    run.mentions(
        triage,
        &[
            "step 6 of 8, no answer in 1 s",
            "inside b1 and from the host",
            "a firewall or network isolation",
            "from this host: connected",
        ],
    );
    // a firewall that rejects
    host.sh(&format!(
        "nsenter -t {pid} -n nft 'flush chain ip lab inbound; add rule ip lab inbound ip saddr {from} reject with tcp reset'"
    ));
    host.run_runbooks(&["network"]).mentions(triage, &["step 6 of 8, refused", "a firewall between them rejects the connection"]);
    host.sh(&format!("nsenter -t {pid} -n nft 'flush chain ip lab inbound'"));
    host.run_runbooks(&["network"]).roots(&[]);

    // the container is stopped: that is the reason to report
    host.docker(&["rm", "-f", "b1"]);
    host.run("b1", &["--network", "app", "svc:1", "/bin/fixture", "say", "no", "3"]);
    host.until("b1", "{{.State.Status}}", "exited");
    let run = host.run_runbooks(&["network", "container"]);
    run.roots(&["container.down container:b1"]).explains("container.down container:b1", triage);
    run.mentions(triage, &["web cannot reach b1:8080: b1 is not running: state exited"]);
}

#[test]
fn missing_common_network_is_reported() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.docker(&["network", "create", "other"]);
    host.service("b1", "ok");
    consumer(&host, "web", "BACKEND_URL=http://b1:8080/");
    host.run_runbooks(&["network", "container"]).roots(&[]);
    host.docker(&["network", "connect", "other", "b1"]);
    host.docker(&["network", "disconnect", "app", "b1"]);
    let (detached, triage) = ("container.network-detached container:b1", "network.triage container:web");
    let run = host.run_runbooks(&["network", "container"]);
    run.roots(&[detached]).explains(detached, triage);
    run.mentions(detached, &["b1 is in network other", "web (BACKEND_URL) connects to it as b1 from app"]);
    run.mentions(triage, &["step 1 of 8", "they share no network: b1 is in other, the client in app"]);
    // an IP address on the other network needs no DNS
    let there = host.inspect("b1", "{{(index .NetworkSettings.Networks \"other\").IPAddress}}");
    host.docker(&["rm", "-f", "web"]);
    consumer(&host, "web", &format!("BACKEND_URL=http://{there}:8080/"));
    let run = host.run_runbooks(&["network", "container"]);
    run.roots(&[triage]).mentions(triage, &["step 3 of 8, they share no network", "from this host: connected"]);
}

#[test]
fn exposed_ports_and_stale_port_mappings_are_reported() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.run("cache", &[&["--network", "app", "-p", "16379:6379"], &httpd("6379")[..]].concat());
    host.run("web", &[&["--network", "app", "-p", "18080:8080"], &httpd("8080")[..]].concat());
    listens(&host, "cache", "6379");
    listens(&host, "web", "8080");
    let exposed = "network.exposed container:cache";
    let run = host.run_runbooks(&["network"]);
    run.roots(&[exposed]).mentions(exposed, &["publishes Redis on every address", "16379", "ufw"]);
    host.configure("[runbooks.network]\nexposed_ok = [\"cache:16379\"]\n");
    host.run_runbooks(&["network"]).roots(&[]);

    // a docker-proxy left behind by a killed engine: its target address is unused; it closes descriptor 3, on which it reports to
    // the engine that it is ready
    let left = "exec docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 18099 -container-ip 172.31.99.9 -container-port 80";
    host.spawn("sh", &["-c", &format!("{left} 3> /dev/null")]);
    let run = eventually(30, "docker-proxy listens", || {
        let run = host.run_runbooks(&["network"]);
        let there = run.findings().any(|f| f.code == "network.docker-proxy-dead");
        there.then_some(run)
    });
    let dead = run.findings().find(|f| f.code == "network.docker-proxy-dead");
    assert!(
        dead.is_some_and(|f| f.message.contains("holds port 18099 for 172.31.99.9:80, which belongs to no container")),
        "{dead:?}"
    );
}

#[test]
fn targets_of_a_prometheus_on_the_host_are_checked() {
    if !installed(&["prometheus"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.service("b1", "ok");
    host.run("page", &[&["--network", "app"], &httpd("8081")[..]].concat());
    listens(&host, "page", "8081");
    host.prometheus("prometheus", &["b1:8080"]);
    host.until_scraped("prometheus", "b1:8080", "up");
    host.run_runbooks(&["network", "container"]).roots(&[]);
    let address = host.address("page");
    host.sh(&format!(
        "printf 'global: {{scrape_interval: 1s, scrape_timeout: 1s}}\\nscrape_configs: [{{job_name: lab, metrics_path: /nothing, static_configs: [{{targets: [\"{address}:8081\", \"127.0.0.1:7777\"]}}]}}]\\n' > {}",
        host.path("prometheus.yml").display()
    ));
    let (config, data) = (host.path("prometheus.yml").display().to_string(), host.path("data").display().to_string());
    host.spawn(
        "prometheus",
        &[&format!("--config.file={config}"), &format!("--storage.tsdb.path={data}"), "--web.listen-address=127.0.0.1:9090"],
    );
    let triage = "network.triage process:prometheus";
    let run = eventually(60, "both are down", || {
        let run = host.run_runbooks(&["network"]);
        let found = run.findings().filter(|f| f.code == "network.triage").count();
        (found == 2).then_some(run)
    });
    let messages: Vec<&str> = run.findings().filter(|f| f.code == "network.triage").map(|f| f.message.as_str()).collect();
    assert!(messages.iter().any(|s| s.contains("step 8 of 8, it returns status 404")), "{messages:?}");
    assert!(messages.iter().any(|s| s.contains("step 5 of 8, this host has no listener on port 7777")), "{messages:?}");
    run.must(&[triage]);
}

#[test]
fn missing_access_is_reported_with_the_required_right() {
    let Some(host) = Host::with_edge() else { return };
    at_once(&host);
    host.service("b1", "ok");
    host.run("cache", &[&["--network", "app", "-p", "16379:6379"], &httpd("6379")[..]].concat());
    consumer(&host, "web", "BACKEND_URL=http://b1:8080/");
    listens(&host, "cache", "6379");
    host.sh(&format!(
        "chmod 666 /var/run/docker.sock; chmod 755 /run/lab; install -m 644 {} /run/lab",
        host.path("opsctl.toml").display()
    ));
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"];
    let mut command = host.opsctl_command(&unprivileged, &["diagnose", "network", "--format", "json"]);
    command.env("OPSCTL_STATE_DIR", "/tmp/opsctl-nobody").env("OPSCTL_CONFIG", "/run/lab/opsctl.toml");
    let run = host.read(&mut command);
    // facts from the engine are reported
    run.must(&["network.exposed container:cache"]).must_not(&["network.triage", "network.missing", "network.loopback-only"]);
    let row = run.check("network.triage", "container:web");
    assert!(row.verdict == "unknown" && row.reason.as_ref().is_some_and(|r| r.contains("needs root")), "{row:?}");
    // the socket table is readable by every user
    assert_eq!(run.check("network.listeners", "container:b1").verdict, "ok");
}

#[test]
fn flushed_rules_are_found_although_the_published_port_responds() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.run("web", &["-p", "8080:8080", "tool", "/bin/fixture", "httpd", "--port", "8080"]);
    host.run_runbooks(&["network"]).must_not(&["network."]);
    assert!(host.gets_through("app", "/health", 10));
    // as a restart of a firewall does
    host.sh("iptables -t nat -F; iptables -F FORWARD; iptables -P FORWARD DROP");
    assert!(!host.gets_through("app", "/health", 10), "there is no egress");
    let answer = host.sh("exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health HTTP/1.1\\r\\n\\r\\n' >&3; head -1 <&3");
    assert!(answer.contains("200"), "and the published port responds: {answer}");
    let run = host.run_runbooks(&["network", "container", "healthcheck"]);
    run.roots(&[CHAINS]).explains(CHAINS, DROP).exits(2);
    run.mentions(
        CHAINS,
        &["the jump from nat PREROUTING to DOCKER", "MASQUERADE for 172.", "a response from outside proves nothing"],
    );
    let refused = run.offer("docker.rebuild-chains", "engine:docker").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(
        refused.contains("restart dockerd in the same way it was started") && refused.contains("all containers stop with it"),
        "{refused}"
    );
}

#[test]
fn disabled_ip_forwarding_is_fixed_and_reverted() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("mkdir -p /etc/sysctl.d; mount -t tmpfs tmpfs /etc/sysctl.d; sysctl -qw net.ipv4.ip_forward=0");
    assert!(!host.gets_through("app", "/health", 10));
    let off = "network.ip-forward host";
    host.run_runbooks(&["network"]).roots(&[off]).mentions(off, &["net.ipv4.ip_forward is 0", "shop"]);
    host.fix("network.enable-forwarding", "host", &[]).exits(0);
    assert!(host.gets_through("app", "/health", 10));
    assert_eq!(host.sh("cat /etc/sysctl.d/60-opsctl.conf"), "net.ipv4.ip_forward = 1");
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward; ls /etc/sysctl.d"), "0");
}

#[test]
fn dropping_table_is_found_beside_docker_s_own() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }; add rule inet fw forward ct state established,related accept'");
    assert!(!host.gets_through("app", "/health", 10));
    let run = host.run_runbooks(&["network"]);
    run.roots(&[DROP])
        .mentions(DROP, &["chain forward of table inet fw (nft) drops outgoing packets of containers in shop, by its policy"]);
    host.sh("nft add rule inet fw forward iifname 'br-*' accept");
    assert!(host.gets_through("app", "/health", 10), "{PEER} answers");
    host.run_runbooks(&["network"]).must_not(&["network."]);
}

#[test]
fn full_accept_queue_is_attributed_to_its_process() {
    let Some(host) = Host::start() else { return };
    host.image("tool", Rootfs::Scratch, &[]);
    host.run("slow", &["tool", "/bin/fixture", "httpd", "--port", "8080"]);
    let pid = host.inspect("slow", "{{.State.Pid}}");
    host.run_runbooks(&["network"]).must_not(&["network.backlog"]);
    host.sh(&format!("kill -STOP {pid}"));
    let script = "for i in $(seq 200); do exec {fd}<>/dev/tcp/127.0.0.1/8080 || break; done; sleep 1000";
    host.spawn("nsenter", &["--target", &pid, "--net", "timeout", "1000", "bash", "-c", script]);
    eventually(30, "the queue is full", || {
        let waiting = host.sh(&format!("nsenter --target {pid} --net ss -Hltn sport = :8080 | awk '{{print ($2 >= $3)}}'"));
        (waiting == "1").then_some(())
    });
    let run = host.run_runbooks(&["network"]);
    run.must(&["network.backlog container:slow"])
        .mentions("network.backlog container:slow", &["to 0.0.0.0:8080 waiting to be accepted, queue length 128"]);
    host.sh(&format!("kill -CONT {pid}"));
}
