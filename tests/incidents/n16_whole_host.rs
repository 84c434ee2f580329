//! Control: a healthy host has no root causes (the first requirement). It has fifty typical containers, databases, a broker, a worker, nginx
//! with its certificate, and the monitoring stack.

use opsctl_core::model::CheckRow;

use crate::lab::{Host, Rootfs, Run, TRUST, eventually, installed, site};

/// Runbooks of resources that this test shares with concurrent tests and with the machine: not part of the host under test.
const SHARED: &str = "cpu,memory,time";

/// Checked in the first run, and left out of the recording for its size.
const NOT_RECORDED: &str = "network,container.logs,container.resources,container.storage,container.image,container.network,healthcheck.tcp,dns.container";

/// Services with and without health tests, published ports, volumes, a user network, limits, compose labels, finished jobs.
fn containers(host: &Host) {
    let test = r#"HEALTHCHECK --interval=2s --timeout=3s --retries=3 CMD ["fixture","get","8080","/health"]"#;
    host.image("shop/web:1", Rootfs::Scratch, &[test, "EXPOSE 8080"]);
    host.image("shop/tool:1", Rootfs::Shell, &[]);
    host.sh("docker network create shop > /dev/null; docker volume create shop-data > /dev/null
        mkdir -p /mnt/conf; echo 'level = 3' > /mnt/conf/app.conf");
    let web =
        "--restart unless-stopped --network shop -m 128m --cpus 0.5 --pids-limit 100 --label com.docker.compose.project=shop";
    // four at a time: the engine mostly waits
    let mut all: Vec<String> = (0..16)
        .map(|n| {
            let own = format!("-p 127.0.0.1:{}:8080 --label com.docker.compose.service=web{n}", 18080 + n);
            format!("--name web{n} {web} {own} shop/web:1 fixture httpd --port 8080")
        })
        .collect();
    all.extend(
        (0..16).map(|n| {
            format!("--name worker{n} --restart always --init --network shop -v shop-data:/data shop/tool:1 sleep 100000")
        }),
    );
    all.extend(
        [
            "--name bound -v /mnt/conf/app.conf:/etc/app.conf:ro -v /mnt/conf:/conf shop/tool:1 sleep 100000",
            "--name exporter --network host --read-only --tmpfs /tmp shop/tool:1 fixture httpd --port 9100",
            "--name chatty shop/tool:1 fixture log-spammer --rate 20 --line INFO:request-served",
        ]
        .map(str::to_owned),
    );
    all.extend((0..5).map(|n| format!("--name job{n} shop/tool:1 fixture say done 0")));
    let list = host.path("containers");
    std::fs::write(&list, all.join("\n") + "\n").unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    host.sh(&format!("xargs -P 4 -L 1 docker run -d < {} > /dev/null", list.display()));
    host.run("sidecar", &["--network", "container:web0", "shop/tool:1", "fixture", "wait-term"]);
}

/// Runs all checks but `skip`. The load of the machine determines the duration of a run: it is repeated if a check timed out.
fn diagnose_without(host: &Host, skip: &str) -> Run {
    eventually(120, "no check times out", || {
        let run = host.run_recorded(&["diagnose", "--deadline", "60s", "--skip", skip]);
        let timed_out = |row: &CheckRow| row.reason.as_ref().is_some_and(|r| r.starts_with("timed out"));
        (!run.report().checks.iter().any(timed_out)).then_some(run)
    })
}

#[test]
fn fifty_containers_databases_nginx_and_monitoring_are_ok() {
    if !installed(&["psql", "redis-server", "rabbitmq-server", "nginx", "openssl", "prometheus"]) {
        return;
    }
    let Some(host) = Host::with_names(|| Host::with_celery(Host::with_monitoring)) else { return };
    host.own_names();
    containers(&host);
    host.redis_container("cache", &["--restart", "always", "-v", "cache-data:/data"]);
    host.worker("celery", &[]);
    host.make_postgres("");
    host.postgres_container("db", &["--restart", "always"]);
    host.rabbit();
    host.authority();
    host.certificate("shop", "shop.test", "-1 day", "+80 days", "");
    host.app_container("app", &["CACHE_URL=redis://cache:6379/0"]);
    host.nginx(&site("shop.test", "shop"));
    // concurrent load of the processors increases the latency of Redis
    host.configure(&format!("{TRUST}[runbooks.redis]\nlatency_warn_ms = 5000.0\n"));
    host.monitoring();
    for n in 0..16 {
        host.until(&format!("web{n}"), "{{.State.Health.Status}}", "healthy");
    }
    assert!(host.sh("docker ps -aq | wc -l").parse::<u32>().unwrap() >= 50);

    let run = diagnose_without(&host, SHARED);
    run.roots(&[]).exits(0);
    for (check, target) in [
        ("postgres.up", "postgres:db"),
        ("redis.up", "redis:cache"),
        ("celery.queues", "celery:cache"),
        ("rabbitmq.up", "rabbitmq:127.0.0.1:5672"),
        ("rabbitmq.node", "rabbitmq:127.0.0.1:5672"),
        ("rabbitmq.queues", "rabbitmq:127.0.0.1:5672"),
        ("nginx.config", "nginx:127.0.0.1:443"),
        ("tls.served", "certificate:shop.test"),
        ("monitoring.prometheus", "prometheus:prometheus"),
        ("monitoring.alertmanager", "alertmanager:alertmanager"),
        ("monitoring.loki", "loki:loki"),
        ("monitoring.alloy", "alloy:alloy"),
        ("monitoring.grafana", "grafana:grafana"),
    ] {
        run.verdict(check, target, "ok");
    }
    for row in &run.report().checks {
        assert!(row.verdict != "unknown", "no check is unknown: {row:?}");
    }
    // a second run has a history to compare with; a recording of all checks of fifty containers would be large
    let run = diagnose_without(&host, &format!("{SHARED},{NOT_RECORDED}"));
    run.roots(&[]).exits(0);
    for target in ["container:web0", "container:worker15", "container:job4", "container:sidecar"] {
        run.verdict("container.state", target, "ok");
    }
    host.leaves(&run, "");
}
