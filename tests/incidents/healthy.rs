//! The first requirement: a healthy host is called healthy.

use crate::lab::{Config, Host, Rootfs};

/// Twenty containers as one finds them: services with and without health tests, published ports, volumes, a user network,
/// limits, compose labels, finished jobs.
fn ordinary_host() -> Option<Host> {
    let host = Host::with(&Config { docker_disk: 1024, daemon: r#"{"log-opts": {"max-size": "10m", "max-file": "3"}}"# })?;
    let test = r#"HEALTHCHECK --interval=1s --timeout=3s --retries=3 CMD ["fixture","get","8080","/health"]"#;
    host.image("shop/web:1", Rootfs::Scratch, &[test, "EXPOSE 8080"]);
    host.image("shop/tool:1", Rootfs::Shell, &[]);
    host.docker(&["network", "create", "shop"]);
    host.docker(&["volume", "create", "shop-data"]);
    let serve = ["shop/web:1", "fixture", "httpd", "--port", "8080"];
    for n in 0..8 {
        let (name, port) = (format!("web{n}"), format!("127.0.0.1:{}:8080", 18080 + n));
        let service = format!("com.docker.compose.service=web{n}");
        let ordinary = [
            "--restart",
            "unless-stopped",
            "--network",
            "shop",
            "-p",
            &port,
            "-m",
            "128m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "100",
        ];
        host.run(&name, &[&ordinary[..], &["--label", "com.docker.compose.project=shop", "--label", &service], &serve].concat());
    }
    for n in 0..4 {
        let name = format!("worker{n}");
        host.run(
            &name,
            &["--restart", "always", "--init", "--network", "shop", "-v", "shop-data:/data", "shop/tool:1", "sleep", "100000"],
        );
    }
    host.sh("mkdir -p /mnt/conf && echo 'level = 3' > /mnt/conf/app.conf");
    host.run("bound", &["-v", "/mnt/conf/app.conf:/etc/app.conf:ro", "-v", "/mnt/conf:/conf", "shop/tool:1", "sleep", "100000"]);
    host.run("postgres", &["-v", "pg:/var/lib/postgresql/data", "shop/tool:1", "sleep", "100000"]);
    host.run(
        "exporter",
        &["--network", "host", "--read-only", "--tmpfs", "/tmp", "shop/tool:1", "fixture", "httpd", "--port", "9100"],
    );
    host.run("sidecar", &["--network", "container:web0", "shop/tool:1", "fixture", "wait-term"]);
    host.run("chatty", &["shop/tool:1", "fixture", "log-spammer", "--rate", "20"]);
    for n in 0..3 {
        host.docker(&["run", "--name", &format!("job{n}"), "shop/tool:1", "fixture", "say", "done", "0"]);
    }
    for n in 0..8 {
        host.until(&format!("web{n}"), "{{.State.Health.Status}}", "healthy");
    }
    assert_eq!(host.sh("docker ps -aq | wc -l"), "20");
    Some(host)
}

#[test]
fn twenty_ordinary_containers_are_healthy() {
    let Some(host) = ordinary_host() else { return };
    let run = host.diagnose();
    run.roots(&[]);
    for row in &run.report().checks {
        assert!(row.verdict != "unknown", "everything can be looked at: {row:?}");
    }
    host.opsctl(&["diagnose", "container", "healthcheck", "--format", "json"]).exits(0);
    // a second look has a history to compare with
    host.diagnose().roots(&[]);
}
