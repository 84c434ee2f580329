//! Needs of containers, units and reverse proxies: names that do not exist, hosts files, and ports of this host. One fault each, each
//! with its healthy counterpart.

use crate::lab::{Host, Machine, Rootfs, eventually};

/// A host with containers and a name server that answers every unknown name with NXDOMAIN.
fn host_with_names() -> Option<Host> {
    let host = Host::with_names(Host::start)?;
    host.image("svc:1", Rootfs::Scratch, &[]);
    host.dnsmasq("10.53.0.1", &["--host-record=db.corp,10.1.0.5", "--local=//"]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    host.docker(&["network", "create", "app"]);
    host.docker(&["network", "create", "back"]);
    Some(host)
}

/// An idle container of the network `app` with these options.
fn idle(host: &Host, name: &str, options: &[&str]) {
    host.run(name, &[&["--network", "app"], options, &["svc:1", "/bin/fixture", "wait-term"]].concat());
}

#[test]
#[ignore = "the missing name is not reported on a host with this name server; by fixtures it is"]
fn name_that_no_container_and_no_dns_has() {
    let Some(host) = host_with_names() else { return };
    host.image("defaults:1", Rootfs::Scratch, &["ENV REDIS_HOST=redis"]);
    host.run("renamed", &["--network", "back", "--network-alias", "queue", "svc:1", "/bin/fixture", "wait-term"]);
    idle(&host, "web", &["-e", "WORDPRESS_DB_HOST=mysql:3306", "-e", "MYSQL_PASSWORD=canary"]);
    idle(&host, "worker", &["-e", "BROKER_URL=amqp://app:canary@queue:5672//"]);
    // examples, defaults of an image, settings that are not configured, sockets, full names outside of this host
    idle(
        &host,
        "calm",
        &[
            "-e",
            "STATSD_HOST=none",
            "-e",
            "STATSD_PORT=8125",
            "-e",
            "DB_URL=postgres://db.example.com/x",
            "-e",
            "SITE_URL=http://shop",
            "-e",
            "CACHE_URL=unix:///run/redis.sock",
            "-e",
            "DATABASE_URL=postgres://app:canary@db.corp/x",
            "-e",
            "REDIS_URL=redis://localhost:6379/0",
        ],
    );
    host.run("image", &["--network", "app", "defaults:1", "/bin/fixture", "wait-term"]);
    let run = host.run_runbooks(&["network"]);
    let (web, worker) = ("network.triage container:web", "network.triage container:worker");
    run.roots(&[web, worker]);
    run.mentions(
        web,
        &["step 1 of 8, mysql does not exist in DNS", "WORDPRESS_DB_HOST in its environment", "name or alias mysql"],
    );
    run.mentions(worker, &["queue:5672", "renamed in network back", "docker network connect back"]);
    assert_eq!(run.finding(web).severity.to_string(), "warn", "the program may not use the variable");
    assert_eq!(run.check("network.triage", "container:calm").verdict, "ok");
    assert_eq!(run.check("network.triage", "container:image").verdict, "ok");
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
}

#[test]
fn hosts_entry_that_contradicts_dns_of_the_engine() {
    let Some(host) = Host::with_edge() else { return };
    host.service("db", "ok");
    let address = host.address("db");
    let stale = format!("{}.77", address.rsplit_once('.').map_or("", |(network, _)| network));
    idle(&host, "well", &["--add-host", &format!("db:{address}"), "-e", "BACKEND_URL=http://db:8080/"]);
    idle(&host, "web", &["--add-host", &format!("db:{stale}"), "-e", "BACKEND_URL=http://db:8080/"]);
    let entry = "network.hosts-entry container:web";
    let run = host.run_runbooks(&["network"]);
    run.roots(&[entry]).explains(entry, "network.triage container:web");
    run.mentions(entry, &[&format!("/etc/hosts of web has {stale} for db"), &format!("db has {address}"), "web (BACKEND_URL)"]);
    run.mentions("network.triage container:web", &[&format!("{stale} (from its /etc/hosts) belongs to no container")]);
    assert_eq!(run.check("network.triage", "container:well").verdict, "ok");
}

#[test]
fn unit_whose_redis_does_not_listen() {
    let unit = "[Service]\nEnvironment=REDIS_HOST=127.0.0.1 APP_URL=http://shop:3000\nEnvironmentFile=/etc/default/app\nExecStart=/bin/sleep infinity\n";
    let files = [
        ("/etc/systemd/system/app.service", unit),
        ("/etc/default/app", "# queue\nBROKER_URL=redis://:canary@127.0.0.1:6399/0\n"),
    ];
    let Some(machine) = Machine::prepared(&files) else { return };
    machine.wait_for("systemd has started", "systemctl is-system-running --wait | grep -E 'running|degraded'");
    machine.sh("systemctl start app.service");
    let triage = "network.triage unit:app.service";
    let run = machine.diagnose(&["network"]);
    run.must(&[triage]);
    let found: Vec<String> =
        run.findings().filter(|f| f.code == "network.triage").map(|f| format!("{} {:?}", f.message, f.evidence)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    let mentions = |words: &[&str]| assert!(found.iter().any(|f| words.iter().all(|w| f.contains(w))), "{words:?}: {found:?}");
    mentions(&["127.0.0.1:6379", "this host has no listener on port 6379", "Environment= of app.service"]);
    mentions(&["127.0.0.1:6399", "/etc/default/app:2"]);
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
    for port in ["6379", "6399"] {
        machine.sh(&format!("systemd-run --unit redis-{port} /usr/local/bin/fixture httpd --port {port} --bind 127.0.0.1"));
        machine.wait_for("it listens", &format!("ss -Hltn | grep -q ':{port} '"));
    }
    machine.diagnose(&["network"]).must_not(&["network.triage"]);
}

#[test]
fn upstream_of_haproxy_without_a_listener() {
    let Some(host) = Host::with_edge() else { return };
    host.with_own_etc();
    host.service("b1", "ok");
    idle(&host, "b2", &[]);
    let (b1, b2) = (host.address("b1"), host.address("b2"));
    let configure = |servers: &str| {
        host.sh(&format!("mkdir -p /etc/haproxy; printf 'backend web\\n{servers}  # server old old:80\\n  server sock unix@/run/app.sock\\n' > /etc/haproxy/haproxy.cfg"));
    };
    configure(&format!("  server s1 {b1}:8080 check\\n  server s2 {b2}:8080 check\\n"));
    // only the name of the process and its file are read
    host.sh("cp /bin/sleep /run/lab/haproxy");
    host.spawn("/run/lab/haproxy", &["infinity"]);
    host.configure("[runbooks.network]\nstarting_s = 0\n");
    let triage = "network.triage process:haproxy";
    let run = eventually(10, "haproxy runs", || {
        let run = host.run_runbooks(&["network"]);
        let found = run.findings().any(|f| f.code == "network.triage");
        found.then_some(run)
    });
    run.explains("network.missing container:b2", triage);
    run.mentions(
        triage,
        &[&format!("{b2}:8080"), "b2 has no listener on port 8080", "haproxy, backend web", "/etc/haproxy/haproxy.cfg:3"],
    );
    assert_eq!(run.finding(triage).severity.to_string(), "warn", "the other server remains");
    configure(&format!("  server s2 {b2}:8080 check\\n"));
    assert_eq!(host.run_runbooks(&["network"]).finding(triage).severity.to_string(), "crit");
    configure(&format!("  server s1 {b1}:8080 check\\n"));
    host.run_runbooks(&["network"]).must_not(&["network.triage", "network.missing"]);
}

#[test]
fn service_of_the_host_that_a_container_needs() {
    let Some(host) = Host::with_edge() else { return };
    let backend = ["--add-host", "host.docker.internal:host-gateway", "-e", "BACKEND_URL=http://host.docker.internal:5000"];
    idle(&host, "web", &backend);
    let triage = "network.triage container:web";
    let run = host.run_runbooks(&["network"]);
    run.roots(&[triage]).mentions(triage, &["host.docker.internal:5000", "this host has no listener on port 5000", "0.0.0.0"]);
    assert_eq!(run.finding(triage).severity.to_string(), "warn");
    host.spawn("/run/lab/fixture", &["httpd", "--port", "5000", "--bind", "127.0.0.1"]);
    let listens = |address: &str| host.sh("ss -Hltn").contains(address).then_some(());
    eventually(20, "it listens", || listens("127.0.0.1:5000"));
    host.run_runbooks(&["network"]).mentions(triage, &["step 5 of 8, it listens on 127.0.0.1:5000 only"]);
    host.spawn("/run/lab/fixture", &["httpd", "--port", "5001", "--bind", "0.0.0.0"]);
    eventually(20, "it listens", || listens("0.0.0.0:5001"));
    idle(
        &host,
        "well",
        &["--add-host", "host.docker.internal:host-gateway", "-e", "BACKEND_URL=http://host.docker.internal:5001"],
    );
    let run = host.run_runbooks(&["network"]);
    assert_eq!(run.check("network.triage", "container:well").verdict, "ok");
}
