//! Promise 1: no command of opsctl that root runs gives a local user or a container additional privileges or data.

use std::thread;

use crate::lab::Run;

use super::Scene;

/// The commands without changes to the host.
const COMMANDS: &[&[&str]] = &[
    &["diagnose", "-vv"],
    &["diagnose", "-vv", "--format", "json"],
    &["diagnose", "--format", "jsonl"],
    &["diagnose", "-v", "--format", "markdown"],
    &["diagnose", "-v", "--format", "html"],
    &["diagnose", "--format", "junit"],
    &["diagnose", "--format", "tap"],
    &["diagnose", "--format", "nagios"],
    &["diagnose", "--format", "prometheus"],
    &["targets", "--format", "json"],
    &["targets", "-v"],
    &["changes", "--since", "3d", "-v"],
    &["report", "--always", "-vv"],
    &["fix"],
    &["audit", "show"],
];

/// Runs the commands two at a time, and checks their output and state files.
#[track_caller]
fn nothing_gained(scene: &Scene, environment: &[(&str, &str)]) {
    let record = scene.path("recording.json").display().to_string();
    let recording: &[&str] = &["record", &record, "-vv"];
    let commands: Vec<&[&str]> = COMMANDS.iter().copied().chain([recording]).collect();
    for some in commands.chunks(2) {
        let run = |words: &&[&str]| -> Run {
            let mut command = scene.opsctl_command(&[], words);
            scene.read(command.envs(environment.iter().copied()))
        };
        let runs: Vec<Run> = thread::scope(|scope| {
            let started: Vec<_> = some.iter().map(|words| scope.spawn(|| run(words))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let problems = scene.problems(&runs.iter().collect::<Vec<_>>());
        assert!(problems.is_empty(), "{some:?}: {}", problems.join("\n"));
    }
    scene.no_login_received();
}

#[test]
fn user_with_fakes_of_every_product_gains_nothing() {
    let Some(scene) = Scene::without_engine() else { return };
    let secret = |name: &str, content: &str| scene.plant(&format!("/mnt/secret/{name}"), content);
    secret("token", "SECRET");
    secret("loki.yml", "common:\n  path_prefix: /SECRET\n");
    secret("prometheus.yml", "SECRET: 1\n");
    secret(
        "site.conf",
        "server { listen 127.0.0.1:8443 ssl; server_name SECRET.test; ssl_certificate /x.pem; ssl_certificate_key /x.key; }\n",
    );
    secret("redis.log", &"1:M 01 Jan 2026 00:00:00.000 # Can't save in background: SECRET: No space left on device\n".repeat(3));
    scene.write("/mnt/home/mallory/nginx.conf", "events {} http { include /mnt/secret/*.conf; server { listen 8080; } }");
    let title = "nginx: master process nginx -c /mnt/home/mallory/nginx.conf";
    scene.program("nginx").title(title).rogue("http", &["--port", "8080"]);
    let failed =
        "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":false,\"lastConfigTime\":\"2026-01-01T00:00:00Z\"}}";
    let args =
        ["--port", "9090", "--page", "/-/ready=200:ready", "--page", failed, "--", "--config.file=/mnt/secret/prometheus.yml"];
    scene.program("prometheus").rogue("http", &args);
    let args = ["--port", "3100", "--page", "/ready=200:ready", "--", "-config.file=/mnt/secret/loki.yml"];
    scene.program("loki").rogue("http", &args);
    let info = "info=redis_version:7.0.15\\nrdb_last_bgsave_status:err\\nrdb_bgsave_in_progress:0\\nloading:0\\nrole:master\\n";
    let settings = ["--port", "6379", "--set", info, "--set", "logfile=/mnt/secret/redis.log", "--set", "dir=/mnt/secret"];
    scene.program("redis-server").env("REDIS_PASSWORD_FILE=/mnt/secret/token").rogue("redis", &settings);
    scene.program("postgres").env("POSTGRES_PASSWORD_FILE=/etc/shadow").rogue("postgres", &["--port", "5432"]);
    let rabbit =
        ["--port", "5672,15672", "--auth", "basic", "--", "-sname", "$(id>/mnt/marks/name)@localhost", "-s", "rabbit", "boot"];
    scene.program("beam.smp").env("RABBITMQ_DEFAULT_PASS_FILE=/mnt/secret/token").rogue("rabbitmq", &rabbit);
    for port in [8080, 9090, 3100, 6379, 5432, 5672, 15672] {
        scene.until_listening(port);
    }
    scene.plant("/mnt/root/.pgpass", "*:*:*:*:SECRET\n");
    nothing_gained(&scene, &[("HOME", "/mnt/root"), ("PGPASSWORD", &scene.secret), ("REDISCLI_AUTH", &scene.secret)]);
}

/// An engine of a user, which would name any process a container's.
#[test]
fn engine_in_a_runtime_directory_of_a_user_is_not_used() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn_as_user(
        "mkdir -p /mnt/home/mallory/run/podman; exec /run/lab/fixture fake-docker /mnt/home/mallory/run/podman/podman.sock never",
    );
    scene.wait_for("[ -S /mnt/home/mallory/run/podman/podman.sock ]");
    let environment = [("XDG_RUNTIME_DIR", "/mnt/home/mallory/run")];
    let run = scene.read(scene.opsctl_command(&[], &["targets"]).envs(environment));
    assert!(!run.stdout.contains("podman.sock"), "{}", run.stdout);
}
