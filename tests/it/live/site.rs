//! Custom runbooks on real servers: every kind of check, and the worked example in all its states.

use opsctl_core::model::CheckRow;

use crate::lab::{Host, Machine, Run, TRUST, eventually, site};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/runbooks.d/aletheia.toml");

/// Configuration of an nginx in place of Aletheia and Helios, with these responses.
fn answers(health: u16, config: u16, front: &str) -> String {
    format!(
        "server {{ listen 127.0.0.1:8000;
            location = /health/ {{ default_type application/json; return {health} '{{\"status\":\"said canary-body\"}}'; }}
            location /api/v1/websites/ {{ return {config} '{{}}'; }} }}
        server {{ listen 127.0.0.1:3000; default_type text/html; location / {{ return 200 '{front}'; }} }}"
    )
}

const SITE: &str = "<h1>Cabinet dentaire</h1>";

/// Changes its responses.
fn answer(host: &Host, health: u16, config: u16, front: &str) {
    let before = workers(host);
    host.nginx_conf("host", &answers(health, config, front));
    host.sh(&format!("cp -r {}/. /etc/nginx/; nginx -s reload", host.path("nginx-host").display()));
    replaced(host, &before);
    wait_until_configured(host, health, config, front);
}

/// PIDs of the nginx workers.
fn workers(host: &Host) -> Vec<String> {
    host.sh("pgrep -f 'nginx: worker process'").lines().map(str::to_owned).collect()
}

/// Waits until all of these workers have exited: for a moment both old and new ones respond.
fn replaced(host: &Host, before: &[String]) {
    eventually(30, "nginx has new workers only", || {
        let now = host.command("pgrep").args(["-f", "nginx: worker process"]).output().ok()?;
        let now = String::from_utf8_lossy(&now.stdout).into_owned();
        (!now.is_empty() && !now.lines().any(|pid| before.iter().any(|b| b == pid))).then_some(())
    });
}

fn wait_until_configured(host: &Host, health: u16, config: u16, front: &str) {
    let code = |url: &str| host.curl(url).rsplit(' ').next().unwrap_or_default().to_owned();
    eventually(30, "nginx responds as configured", || {
        let api = "http://127.0.0.1:8000/api/v1/websites/x";
        let now = (code("http://127.0.0.1:8000/health/"), code(api), host.curl("http://127.0.0.1:3000/"));
        (now == (health.to_string(), config.to_string(), format!("{front} 200"))).then_some(())
    });
}

#[test]
fn aletheia_is_distinguished_from_its_database_its_api_and_its_frontend() {
    let Some(host) = Host::with_servers(&["nginx", "redis-server", "curl", "make"]) else { return };
    host.nginx(&answers(200, 200, SITE));
    wait_until_configured(&host, 200, 200, SITE);
    host.redis(6379, &[]);
    host.configure(
        "[policy]\nallow = [\"aletheia.restart\"]\n[[server]]\nname = \"shared_redis\"\nurl = \"redis://127.0.0.1:6379\"\n",
    );
    host.sh(&format!(
        "mkdir {0}; cp {EXAMPLE} {0}/; mount -t tmpfs tmpfs /opt; mkdir -p /opt/docker/aletheia/repo",
        host.path("runbooks.d").display()
    ));
    let [health, config, front] = ["health", "config-probe", "frontend"].map(|c| format!("aletheia.{c} service:aletheia"));
    let diagnose = || host.run_runbooks(&["aletheia", "redis.up"]);

    // healthy; it is listed like every other runbook
    let run = host.opsctl(&["aletheia", "--format", "json"]);
    run.exits(0).roots(&[]);
    assert_eq!(run.check("aletheia.health", "service:aletheia").verdict, "ok");
    assert!(run.report().measures.iter().any(|m| m.name == "health" && m.warn == Some(1.0)));
    assert!(host.opsctl(&["list"]).exits(0).stdout.contains("aletheia"));
    assert!(host.opsctl(&["list", "fixes"]).stdout.contains("aletheia.restart"));
    assert!(host.opsctl(&["targets"]).stdout.contains("services\n  aletheia  "));
    assert!(host.opsctl(&["explain", "HealthCheckFailing"]).exits(0).stdout.contains("the DRF layer is broken"));
    assert!(host.opsctl(&["explain", "aletheia.config-probe"]).stdout.contains("caused by `aletheia.health`"));
    assert!(host.opsctl(&["aletheia", "--help"]).exits(0).stdout.contains("Aletheia: its health"));
    host.opsctl(&["alethea"]).exits(64);

    // health 503 because Redis is down: that is the cause, and a restart of the backend does not help
    answer(&host, 503, 200, SITE);
    host.sh("redis-cli shutdown nosave");
    let run = diagnose();
    run.roots(&["redis.up redis:shared_redis"]).explains("redis.up redis:shared_redis", &health);
    run.mentions(&health, &["status 503 instead of 200", "http://127.0.0.1:8000/health/"]);
    let offer = run.offer("aletheia.restart", "service:aletheia").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(offer.starts_with("its cause is open: redis.up"), "{offer}");
    let refused = host.fix("aletheia.restart", "aletheia", &[]);
    refused.exits(15);
    assert!(refused.stdout.contains("refused: its cause is open: redis.up"), "{}", refused.stdout);

    // or because PostgreSQL is
    host.redis(6379, &[]);
    let servers = "[[server]]\nname = \"shared_postgres\"\nurl = \"postgres://127.0.0.1:5433/app\"\n";
    let before = std::fs::read_to_string(host.path("opsctl.toml")).unwrap();
    host.configure(&(before.clone() + servers));
    let run = host.run_runbooks(&["aletheia", "redis.up", "postgres.up"]);
    run.roots(&["postgres.up postgres:shared_postgres"]).explains("postgres.up postgres:shared_postgres", &health);
    host.configure(&before);

    // health 200 and the config probe 500: the DRF layer
    answer(&host, 200, 500, SITE);
    diagnose()
        .roots(&[&config])
        .must_not(&["aletheia.health"])
        .mentions(&config, &["status 500 instead of 200", "look at the web logs"]);

    // the frontend's soft 404 is not caused by the backend
    answer(&host, 200, 200, "<h1>Site introuvable</h1>");
    let run = diagnose();
    run.roots(&[&front]).must_not(&["aletheia.health", "aletheia.config-probe"]).exits(1);
    run.mentions(&front, &["status 200 without the text `Cabinet dentaire`"]);
    // unless the backend is down too
    answer(&host, 503, 503, "<h1>Site introuvable</h1>");
    diagnose().roots(&[&health]).explains(&health, &front).explains(&health, &config);

    the_fix(&host, &health);
    recorded(&host, &health);
}

/// The restart: refused without the directory of its Makefile, shown in full, cancelled when the service is healthy again,
/// applied and verified.
fn the_fix(host: &Host, health: &str) {
    answer(host, 503, 200, SITE);
    let fix = |more: &[&str]| host.fix("aletheia.restart", "aletheia", more);
    fix(&[]).exits(12);
    let well = answers(200, 200, SITE).replace('\'', "'\\''");
    host.sh(&format!(
        "printf '%s\\n' 'restart:' '\tcp /mnt/well.conf /etc/nginx/conf.d/site.conf && nginx -s reload && echo \"$(ENV)\" >> /mnt/restarted' \
         > /opt/docker/aletheia/repo/Makefile; printf '%s' '{well}' > /mnt/well.conf"
    ));
    let plan = fix(&["--dry-run"]);
    plan.exits(10);
    assert!(plan.stdout.contains("cd /opt/docker/aletheia/repo && /usr/bin/make restart ENV=prod"), "{}", plan.stdout);
    assert!(plan.stdout.contains("requests in progress fail"), "{}", plan.stdout);

    // healthy again between plan and apply
    let marker = host.path("paused");
    let mut command = host.opsctl_command(&[], &["fix", "aletheia.restart", "aletheia", "--yes"]);
    command.env("OPSCTL_FAILPOINT_PAUSE", format!("before-recheck={}", marker.display()));
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually(30, "the fix is about to recheck", || marker.exists().then_some(()));
    answer(host, 200, 200, SITE);
    std::fs::remove_file(&marker).unwrap();
    let changed = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&changed.stdout).into_owned();
    assert_eq!(changed.status.code(), Some(11), "{stdout}");
    assert!(stdout.contains("changed since the plan: aletheia.health no longer reports"), "{stdout}");
    host.sh("[ ! -e /mnt/restarted ]");

    answer(host, 503, 200, SITE);
    host.run_runbooks(&["aletheia"]).must(&[health]);
    let before = workers(host);
    fix(&[]).exits(0);
    assert_eq!(host.sh("cat /mnt/restarted"), "prod");
    replaced(host, &before);
    host.run_runbooks(&["aletheia"]).roots(&[]);
    assert!(host.opsctl(&["audit", "show"]).stdout.contains("aletheia.restart"));
}

/// A recording contains the evidence, and is replayed with the runbook file.
fn recorded(host: &Host, health: &str) {
    answer(host, 503, 200, SITE);
    let alert = host.path("alert.json");
    std::fs::write(&alert, "{\"version\":\"4\",\"status\":\"firing\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"alertname\":\"HealthCheckFailing\"},\"annotations\":{},\"startsAt\":\"2026-11-21T00:00:00Z\"}]}").unwrap();
    let answered = host.opsctl(&["respond", alert.to_str().unwrap()]);
    assert!(answered.stdout.contains("aletheia.health"), "{}{}", answered.stdout, answered.stderr);
    let nagios = host.opsctl(&["aletheia", "--format", "nagios"]);
    assert!(
        nagios.stdout.starts_with("OPSCTL CRITICAL - http://127.0.0.1:8000/health/ answers with status 503"),
        "{}",
        nagios.stdout
    );

    let file = host.path("recording.json");
    let file = file.to_str().unwrap();
    host.opsctl(&["record", file, "aletheia"]).exits(0);
    let replay = ["diagnose", "--replay", file, "--format", "json"];
    host.opsctl(&replay).roots(&[health]);
    let without = host.read(host.opsctl_command(&[], &replay).env_remove("OPSCTL_CONFIG"));
    without.exits(3);
    let row = without.check("aletheia.health", "service:aletheia");
    assert_eq!((row.verdict.as_str(), row.reason.as_deref()), ("unknown", Some("this opsctl has no check aletheia.health")));
    let waive = ["waive", "aletheia.health", "--for", "1h", "--reason", "a test"];
    host.opsctl(&waive).exits(0);
    host.run_runbooks(&["aletheia"]).exits(0);
}

/// Every kind, right and wrong.
const KINDS: &str = r#"
[runbook]
name = "parts"
title = "Every kind of check"

[[check]]
name = "tcp"
title = "redis listens"
tcp = { address = "127.0.0.1:6379" }
[[check]]
name = "tcp-closed"
title = "the port has a listener"
tcp = { address = "127.0.0.1:6390" }
severity = "warn"
[[check]]
name = "tls"
title = "the certificate lasts"
tls = { address = "127.0.0.1:443", name = "shop.test" }
[[check]]
name = "tls-name"
title = "the certificate is for another name"
tls = { address = "127.0.0.1:443", name = "other.test", trusted = false }
[[check]]
name = "token"
title = "a request with the token is accepted"
http = { url = "http://127.0.0.1:8080/secret", status = [200], header = { X-Key = "${SITE_KEY}" }, bearer_file = "/mnt/own/token", answer_header = { X-Of = "shop" } }
[[check]]
name = "token-missing"
title = "a request without the token is accepted"
http = { url = "http://nowhere.test:8080/secret", status = [200], address = "127.0.0.1" }
[[check]]
name = "sql"
title = "there are few orders"
sql = { database = "shop", query = "SELECT count(*) FROM public.orders -- all of them" }
crit_above = 2
[[check]]
name = "sql-flag"
title = "it is read-only"
sql = { query = "SELECT current_setting('transaction_read_only');", equals = "on" }
[[check]]
name = "sql-slow"
title = "it answers soon"
sql = { query = "SELECT pg_sleep(30)::text", equals = "" }
timeout = "300ms"
[[check]]
name = "sql-write"
title = "it writes nothing"
sql = { database = "shop", query = "SELECT nextval('public.numbers')", equals = "1" }
[[check]]
name = "sql-wrong"
title = "the query is right"
sql = { database = "shop", query = "SELECT x FROM nothing", equals = "1" }
[[check]]
name = "sql-elsewhere"
title = "the server is known"
sql = { server = "elsewhere", query = "SELECT 1", equals = "1" }
[[check]]
name = "redis"
title = "the queue is short"
redis = { database = 2, command = ["LLEN", "celery"] }
warn_above = 2
[[check]]
name = "redis-info"
title = "redis has clients"
redis = { command = ["INFO", "connected_clients"] }
crit_below = 1
[[check]]
name = "redis-type"
title = "it is a list"
redis = { database = 2, command = ["GET", "celery"], equals = "x" }
[[check]]
name = "metric"
title = "the shop is up"
metric = { query = "up" }
crit_below = 1
[[check]]
name = "metric-none"
title = "there is such a metric"
metric = { query = "no_such_metric" }
crit_above = 1
[[check]]
name = "hang"
title = "it ends"
command = { argv = ["sleep", "4242"] }
timeout = "300ms"
[[check]]
name = "forks"
title = "its children end with it"
command = { argv = ["sh", "-c", "sleep 4243 & sleep 4243 & wait"] }
timeout = "300ms"
[[check]]
name = "leaves"
title = "it leaves nothing behind"
command = { argv = ["sh", "-c", "sleep 4244 > /dev/null 2>&1 & exit 0"] }
[[check]]
name = "endless"
title = "it stops talking"
command = { argv = ["yes"] }
timeout = "300ms"
[[check]]
name = "secret"
title = "it keeps secrets"
command = { argv = ["/mnt/own/secret.sh"] }
[[check]]
name = "plugin"
title = "a plugin is understood"
command = { argv = ["sh", "-c", "echo 'LOAD WARNING - 7|load=7'; exit 1"], exit = "nagios" }
[[check]]
name = "number"
title = "there are few messages"
command = { argv = ["sh", "-c", "echo 12 messages"] }
warn_above = 10
[[check]]
name = "absent"
title = "it is installed"
command = { argv = ["no-such-program"] }
[[check]]
name = "backup"
title = "the backup is fresh"
file = { path = "/mnt/backup-*.gz", max_age = "26h", min_size = 1 }
[[check]]
name = "flag"
title = "maintenance is over"
file = { path = "/mnt/maintenance", exists = false }
[[check]]
name = "app-log"
title = "the application logs no errors"
log = { file = "/mnt/app.log", pattern = "ERROR", within = "10m" }
[[check]]
name = "web-log"
title = "the container logs no errors"
log = { container = "web", pattern = "broken \\d+" }
[[check]]
name = "no-log"
title = "the container is there"
log = { container = "wbe", pattern = "x" }
"#;

#[test]
fn every_kind_of_check_reports_real_values() {
    if !crate::lab::installed(&["redis-server", "prometheus"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    host.postgres("");
    host.sh("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -d shop -Atqc \
         'CREATE TABLE orders AS SELECT generate_series(1, 3); CREATE SEQUENCE numbers'");
    host.redis(6379, &[]);
    host.sh("redis-cli -n 2 rpush celery a b c");
    host.prometheus("prometheus", &["127.0.0.1:9999"]);
    host.until_scraped("prometheus", "127.0.0.1:9999", "down");
    host.run("web", &["svc:1", "/bin/fixture", "say", "broken 7", "0"]);
    host.until("web", "{{.State.Status}}", "exited");
    host.authority();
    host.certificate("shop", "shop.test", "-1 day", "+60 days", "");
    let secret = "server { listen 8080; add_header X-Of shop; location / { if ($http_authorization != 'Bearer canary-site-token') { return 401; }
        if ($http_x_key != 'canary-site-key') { return 403; } return 200 ok; } }";
    host.nginx(&(site("shop.test", "shop") + secret));
    host.sh(
        "mkdir /mnt/own; printf 'canary-site-token\\n' > /mnt/own/token; echo x > /mnt/backup-1.gz; touch -d '-3 days' /mnt/backup-1.gz; touch /mnt/maintenance
        printf '#!/bin/sh\\necho password=canary-site-password; exit 1\\n' > /mnt/own/secret.sh; chmod 755 /mnt/own/secret.sh
        { date -ud '-2 hours' '+%Y-%m-%dT%H:%M:%SZ ERROR old'; date -ud '-1 minute' '+%Y-%m-%dT%H:%M:%SZ ERROR new'; echo '  ERROR its trace'; } > /mnt/app.log",
    );
    host.configure(TRUST);
    std::fs::create_dir(host.path("runbooks.d")).unwrap();
    std::fs::write(host.path("runbooks.d/parts.toml"), KINDS).unwrap();
    let run = host.read(host.opsctl_command(&[], &["parts", "--format", "json"]).env("SITE_KEY", "canary-site-key"));

    let row = |check: &str| -> &CheckRow { run.check(&format!("parts.{check}"), "service:parts") };
    let verdicts = |verdict: &str| {
        let rows = run.report().checks.iter().filter(|c| c.runbook == "parts" && c.verdict == verdict);
        rows.map(|c| c.check.trim_start_matches("parts.").to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(verdicts("ok"), "tcp tls token sql-flag redis-info leaves", "{}", run.stdout);
    let unknown = "sql-write sql-wrong sql-elsewhere redis-type metric-none absent no-log";
    assert_eq!(verdicts("unknown"), unknown, "{}", run.stdout);
    assert_eq!(verdicts("warn"), "tcp-closed redis plugin number", "{}", run.stdout);
    for (check, words) in [
        ("sql-write", "read-only transaction"),
        ("sql-wrong", "\"nothing\" does not exist"),
        ("sql-elsewhere", "no postgres has this name"),
        ("redis-type", "WRONGTYPE"),
        ("metric-none", "returns no series"),
        ("absent", "no-such-program was not found in /usr/local/sbin"),
        ("no-log", "there is no container of this name"),
    ] {
        let reason = row(check).reason.clone().unwrap_or_default();
        assert!(reason.contains(words), "{check}: {reason}");
    }
    let mentions = |check: &str, words: &[&str]| {
        run.mentions(&format!("parts.{check} service:parts"), words);
    };
    mentions("tls-name", &["the certificate of 127.0.0.1:443 is not for other.test", "is for: shop.test"]);
    mentions("token-missing", &["answers with status 401 instead of 200"]);
    mentions("sql", &["answers 3, limit 2", "SELECT count(*) FROM public.orders"]);
    mentions("sql-slow", &["does not answer: "]);
    mentions("redis", &["answers 3, limit 2", "LLEN celery"]);
    mentions("metric", &["prometheus answers 0, limit 1", "job=lab"]);
    mentions("hang", &["sleep did not end within 0.3 s"]);
    mentions("forks", &["sh did not end within 0.3 s"]);
    mentions("endless", &["yes did not end within 0.3 s"]);
    mentions("secret", &["secret.sh exited with 1: password=[redacted]"]);
    mentions("plugin", &["LOAD WARNING - 7"]);
    mentions("number", &["prints 12, limit 10"]);
    mentions("backup", &["/mnt/backup-1.gz was written 3 d ago, limit 26 h"]);
    mentions("flag", &["/mnt/maintenance exists and should not"]);
    mentions("app-log", &["2 of 2 log lines in the last 10 min have `ERROR`", "its trace"]);
    mentions("web-log", &["1 of 1 log lines", "broken 7"]);
    eventually(10, "no child is running", || {
        let left = host.command("pgrep").args(["-f", "^(sleep 424[234]|yes)$"]).output().unwrap();
        left.stdout.is_empty().then_some(())
    });
    assert_no_secret(&host, &run);
}

/// Sent tokens and output of programs appear nowhere.
fn assert_no_secret(host: &Host, run: &Run) {
    let recording = host.path("recording.json");
    let record = ["record", recording.to_str().unwrap(), "parts"];
    host.read(host.opsctl_command(&[], &record).env("SITE_KEY", "canary-site-key")).exits(0);
    for text in [run.stdout.clone(), std::fs::read_to_string(recording).unwrap(), host.opsctl(&["explain", "parts"]).stdout] {
        assert!(!text.contains("canary-site"), "{text}");
    }
}

#[test]
fn custom_fix_is_reverted_by_its_undo_command() {
    let Some(host) = Host::without_engine() else { return };
    host.configure("");
    std::fs::create_dir(host.path("runbooks.d")).unwrap();
    let runbook = "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"flag\"\ntitle = \"maintenance is over\"\n\
        file = { path = \"/mnt/maintenance\", exists = false }\n[check.fix]\nname = \"open\"\ntitle = \"end the maintenance\"\n\
        argv = [\"mv\", \"/mnt/maintenance\", \"/mnt/aside\"]\nundo = [\"mv\", \"/mnt/aside\", \"/mnt/maintenance\"]\nrisk = \"R1\"\n";
    std::fs::write(host.path("runbooks.d/shop.toml"), runbook).unwrap();
    host.sh("touch /mnt/maintenance");
    let run = host.run_runbooks(&["shop"]);
    run.roots(&["shop.flag service:shop"]);
    let done = host.fix("shop.open", "shop", &[]);
    done.exits(0);
    assert!(done.stdout.contains("opsctl undo 2 reverts it"), "{}", done.stdout);
    host.run_runbooks(&["shop"]).roots(&[]);
    let undone = host.opsctl(&["undo", "2", "--yes"]);
    undone.exits(0);
    assert!(undone.stdout.contains("/mv /mnt/aside /mnt/maintenance"), "{}", undone.stdout);
    host.sh("[ -e /mnt/maintenance ] && [ ! -e /mnt/aside ]");
    host.run_runbooks(&["shop"]).roots(&["shop.flag service:shop"]);
}

#[test]
fn runbook_directory_and_unit_log_on_a_machine() {
    let Some(machine) = Machine::boot() else { return };
    machine.unit(
        "shop.service",
        "[Service]\nExecStart=/bin/sh -c 'echo ERROR no stock; exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n",
    );
    machine.sh("systemctl enable --now shop.service");
    let runbook = "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"log\"\ntitle = \"the shop logs no errors\"\n\
        log = { unit = \"shop\", pattern = \"ERROR\" }\nexplained_by = [\"systemd.unit-failed shop\"]\n";
    machine.write("/etc/opsctl/runbooks.d/shop.toml", runbook);
    eventually(30, "the journal has its line", || machine.diagnose(&["shop"]).has("shop.log service:shop").then_some(()));
    let run = machine.diagnose(&["shop", "systemd"]);
    run.mentions("shop.log service:shop", &["1 of ", "ERROR no stock"]);
    assert!(run.finding("shop.log service:shop").explained_by.is_none());
    machine.write("/etc/opsctl/runbooks.d/broken.toml", &runbook.replace("pattern", "patern"));
    let broken = machine.opsctl(&["disk"]);
    broken.exits(78);
    assert!(broken.stderr.contains("/etc/opsctl/runbooks.d/broken.toml:7:"), "{}", broken.stderr);
    assert!(broken.stderr.contains("unknown key `patern` in [check.log]; did you mean `pattern`?"), "{}", broken.stderr);
}
