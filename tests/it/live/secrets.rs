//! Secrets of a container appear nowhere: not on a terminal, in a report, a recording, the journal or the history.

use std::fs;
use std::path::Path;

use crate::lab::{Host, Rootfs, eventually};

/// Planted in an environment, a URL, a log line and a health check.
const CANARIES: &[&str] = &["canary-env-7f3a", "canary-url-9b1c", "canary-log-2d4e", "canary-health-5a6b", "canary-bearer-0c8d"];

/// Every command that prints a report, in every format, and commands that print state of opsctl.
const OUTPUTS: &[&[&str]] = &[
    &["diagnose", "-v"],
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
    &["changes", "--since", "3d", "--format", "json"],
    &["changes", "--since", "3d", "-v"],
    &["config", "show"],
    &["config", "check"],
    &["report", "--always", "-vv"],
    &["record", "/mnt/recording.json", "-vv"],
    &["fix"],
    &["audit", "show"],
];

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

#[track_caller]
fn clean(source: &str, text: &str) {
    if let Some(at) = text.find("canary-") {
        let context = &text.as_bytes()[at.saturating_sub(300)..text.len().min(at + 100)];
        panic!("a secret is in {source}: {}", String::from_utf8_lossy(context));
    }
}

/// Runs opsctl with each of these arguments and searches its output, then all files it stores.
fn assert_no_canary(host: &Host, outputs: &[&[&str]]) {
    for some in outputs.chunks(5) {
        std::thread::scope(|scope| {
            for args in some {
                scope.spawn(|| {
                    let output = host.opsctl_command(&[], args).env("SHOP_PW", "canary-config-variable").output().unwrap();
                    clean(&args.join(" "), &String::from_utf8_lossy(&output.stdout));
                    clean(&args.join(" "), &String::from_utf8_lossy(&output.stderr));
                });
            }
        });
    }
    for file in files(&host.path("state")) {
        clean(&file.display().to_string(), &String::from_utf8_lossy(&fs::read(&file).unwrap()));
    }
}

#[test]
fn planted_secrets_appear_nowhere() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let shout = "echo connecting with $API_SECRET to $DATABASE_URL; \
                 echo 'password=canary-log-2d4e rejected'; echo 'Authorization: Bearer canary-bearer-0c8d'; exit 1";
    let env = ["-e", "API_SECRET=canary-env-7f3a", "-e", "DATABASE_URL=postgres://app:canary-url-9b1c@db:5432/app"];
    host.run("loop", &[&env[..], &["--restart", "always", "app:1", "sh", "-c", shout]].concat());
    let test = "--health-cmd=echo trying -u me:canary-health-5a6b with $API_SECRET; exit 1";
    host.run(
        "sick",
        &[&env[..], &[test, "--health-interval=1s", "--health-retries=1", "app:1", "fixture", "wait-term"]].concat(),
    );
    host.until("sick", "{{.State.Health.Status}}", "unhealthy");
    eventually(60, "it loops", || host.inspect("loop", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(()));

    let run = host.diagnose();
    run.must(&["container.restart-loop container:loop", "healthcheck.unhealthy container:sick"]);
    run.mentions("container.restart-loop container:loop", &["[redacted]"]);
    assert!(CANARIES.iter().all(|canary| canary.starts_with("canary-")));
    let fixes: [&[&str]; 2] =
        [&["fix", "container.stop-loop", "loop", "--dry-run"], &["fix", "container.stop-loop", "loop", "--yes"]];
    assert_no_canary(&host, OUTPUTS);
    // one at a time: a fix holds the lock
    for fix in fixes {
        assert_no_canary(&host, &[fix]);
    }
    let recording = host.sh("cat /mnt/recording.json");
    assert!(recording.contains("[redacted]"), "the recording holds the evidence: {recording}");
    clean("the recording", &recording);
    assert!(files(&host.path("state")).iter().any(|f| f.ends_with("journal.jsonl")));
}

/// An alert with secrets in its labels and annotations.
const ALERT: &str = r#"[{"labels":{"alertname":"RedisDown","instance":"http://u:canary-label-url@cache:9121/"},"annotations":
    {"summary":"password=canary-annotation","runbook":"curl -H 'Authorization: Bearer canary-annotation-bearer' http://x"},"startsAt":"2026-01-10T12:00:00Z"}]"#;

#[test]
fn secrets_of_servers_users_and_callers_appear_nowhere() {
    let Some(host) = Host::with_servers(&["redis-server", "psql", "nginx", "prometheus", "python3"]) else { return };
    host.redis(6379, &["--requirepass", "canary-redis-pw"]);
    host.redis(6380, &["--masterauth", "canary-master-auth", "--replicaof", "127.0.0.1 1"]);
    host.postgres("primary_conninfo = 'host=127.0.0.1 port=1 user=repl password=canary-conninfo'");
    // a session with a password in its statement, idle in transaction
    host.session("app", "BEGIN; SELECT 'canary-literal'; ALTER ROLE app PASSWORD 'canary-statement'");
    // a command line, and a deleted file that is still open
    host.spawn(
        "/run/lab/fixture",
        &["hold-deleted", "/mnt/held.log", "40", "--password", "canary-argument", "--token=canary-option"],
    );
    host.spawn("env", &["DATABASE_URL=postgres://app:canary-process-url@127.0.0.1:5432/shop", "/run/lab/fixture", "cpu"]);
    // an nginx with credentials for its upstream, which is down; an access log with a query
    host.nginx(
        "server { listen 80; auth_basic x; auth_basic_user_file /mnt/htpasswd;
           location / { auth_basic off; proxy_set_header Authorization 'Basic canary-proxy-header'; proxy_pass http://127.0.0.1:1; } }",
    );
    host.sh("printf 'admin:canary-htpasswd\n' > /mnt/htpasswd
        for i in $(seq 30); do curl -s -o /dev/null -H 'Authorization: Bearer canary-sent-bearer' 'http://127.0.0.1/?token=canary-query-token'; done");
    // a Prometheus with credentials of every kind
    host.sh("mkdir -p /mnt/prom; cat > /mnt/prom/prometheus.yml <<'EOF'
global: {scrape_interval: 1s, scrape_timeout: 1s}
remote_write: [{url: 'http://w:canary-remote-write@127.0.0.1:1/push'}]
scrape_configs:
- {job_name: a, authorization: {credentials: canary-prometheus-bearer}, static_configs: [{targets: ['127.0.0.1:1']}]}
- {job_name: b, basic_auth: {username: u, password: canary-prometheus-password}, params: {token: [canary-scrape-param]}, static_configs: [{targets: ['127.0.0.1:2']}]}
EOF");
    host.spawn(
        "prometheus",
        &["--config.file=/mnt/prom/prometheus.yml", "--storage.tsdb.path=/mnt/prom/data", "--web.listen-address=127.0.0.1:9090"],
    );
    host.until_open(9090);
    // sudo commands and apt command lines
    host.sh("for d in /var/log/apt /var/log/journal /run/log/journal; do [ ! -d $d ] || mount -t tmpfs tmpfs $d; done
        mkdir -p /mnt/log; mount --bind /mnt/log /var/log; mkdir -p /var/log/apt
        now=$(date '+%b %e %T'); day=$(date '+%F  %T')
        echo \"$now web sudo: anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/mysql --password=canary-sudo -u root\" > /var/log/auth.log
        printf 'Start-Date: %s\nCommandline: apt-get -o Acquire::http::Proxy=http://u:canary-apt@proxy:3128 install jq\nInstall: jq:amd64 (1.6)\nEnd-Date: %s\n\n' \"$day\" \"$day\" > /var/log/apt/history.log
        echo \"$(date '+%F %T') install jq:amd64 <none> 1.6\" > /var/log/dpkg.log");
    // credentials of deliveries, and of opsctl itself
    let token = host.secret_file("token", "canary-listen-token-0123456789abcdef");
    host.configure(&format!(
        "[report]\nheartbeat = \"http://127.0.0.1:1/canary-heartbeat\"\n[listen]\ntoken_file = \"{}\"\n\
         [[delivery]]\nto = \"http://127.0.0.1:1/hooks/canary-hook-path\"\nshape = \"slack\"\n\
         [[delivery]]\nto = \"smtp://127.0.0.1:1\"\nmail = [\"ops@example.org\"]\nfrom = \"opsctl@example.org\"\n\
         [[server]]\nname = \"shop\"\nurl = \"postgres://app:${{SHOP_PW}}@127.0.0.1:5432/shop\"\n\
         [[server]]\nname = \"queue\"\nurl = \"redis://:${{SHOP_PW}}@127.0.0.1:6379/0\"\n\
         [[endpoint]]\nurl = \"http://127.0.0.1:1/?token=canary-endpoint-query\"\n",
        token.display()
    ));
    host.opsctl(&["note", "deploy", "shop", "password=canary-note"]);
    fs::write(host.path("alert.json"), ALERT).unwrap();
    let alert = host.path("alert.json").display().to_string();
    let of_alerts: [&[&str]; 3] =
        [&["respond", &alert], &["respond", "-vv", "--format", "json", &alert], &["respond", "--format", "markdown", &alert]];
    assert_no_canary(&host, &[OUTPUTS, &of_alerts].concat());
    clean("the recording", &host.sh("cat /mnt/recording.json"));
    // over HTTP: accepted, diagnosed, stored, measured
    host.listen();
    let post = "curl -s -H 'Authorization: Bearer canary-listen-token-0123456789abcdef' -d @";
    clean("the answer to an alert", &host.sh(&format!("{post}{alert} http://127.0.0.1:9797/")));
    clean(
        "the answer to a wrong token",
        &host.sh("curl -s -H 'Authorization: Bearer canary-wrong-token' -d '[]' http://127.0.0.1:9797/"),
    );
    let metrics = "curl -s -H 'Authorization: Bearer canary-listen-token-0123456789abcdef' http://127.0.0.1:9797/metrics";
    clean("the metrics", &host.sh(metrics));
    host.stop_listening();
    clean("the log of listen", &host.listen_log());
    assert_no_canary(&host, &[&["audit", "show"]]);
    // errors of a configuration are reported without its values
    for wrong in [
        "[[server]]\nname = \"a\"\nurl = \"postgers://app:canary-wrong-scheme@db:5432/shop\"\n",
        "[[server]]\nname = \"a\"\nurl = \"postgres://app:canary-wrong-port@db:99999/shop\"\n",
        "[[server]]\nname = \"a\"\npassword = \"canary-literal-password\"\nunknown = 1\n",
        "[[endpoint]]\nurl = \"http://u:canary-endpoint-login@127.0.0.1/\"\n",
        "[[delivery]]\nto = \"http://127.0.0.1:1/canary-other-hook\"\nshape = \"slcak\"\n",
        "[[delivery]]\nto = \"htpt://127.0.0.1:1/canary-third-hook\"\n",
    ] {
        host.configure(wrong);
        assert_no_canary(&host, &[&["config", "check"], &["config", "show"], &["diagnose", "cpu"]]);
    }
}
