//! Promise 5: a server of an unexpected user is reported as unknown, with its user: no login, no fix. Servers of root, of their standard users
//! and in containers are examined fully.

use crate::lab::{MACHINE, Machine, Rootfs, Run, installed};

use super::{Scene, UID, belongs_to, belongs_to_attacker, examined, rows, summary};

/// Disables the grace period after the start of Prometheus.
const NO_GRACE_PERIOD: &str = "[runbooks.monitoring]\nstarting_s = 0\n";

const SERVERS: &[&str] = &["nginx", "redis", "postgres", "rabbitmq", "monitoring"];

#[test]
fn hung_redis_of_a_user_is_no_alarm() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn_as_user("cd ~mallory; exec redis-server --port 6379 --save ''");
    scene.until_listening(6379);
    scene.sh("pkill -STOP -x redis-server");
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6379");
    run.exits(3);
}

#[test]
fn readme_shows_the_row_of_a_user_server() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn_as_user("cd ~mallory; exec redis-server --port 6379 --save ''");
    scene.until_listening(6379);
    let readme = include_str!("../../README.md");
    let block = readme.split("```text\n").find(|block| block.starts_with("Could not check")).unwrap();
    let shown = block.split("```").next().unwrap();
    let run = scene.opsctl(&["redis"]);
    assert!(run.stdout.contains(shown), "{}", run.stdout);
}

#[test]
fn user_without_a_name_is_reported_by_uid() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn(
        "setpriv",
        &["--reuid", "5999", "--regid", "5999", "--clear-groups", "redis-server", "--port", "6379", "--save", ""],
    );
    scene.until_listening(6379);
    belongs_to(&scene.run_verified(&["redis"]), ":6379", "5999");
}

#[test]
fn reload_of_user_nginx_is_refused() {
    if !installed(&["nginx", "openssl"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let certificate = |days: &str| {
        scene.as_user(&format!(
            "cd ~mallory; openssl req -x509 -newkey rsa:2048 -nodes -days {days} -subj /CN=shop.test -addext subjectAltName=DNS:shop.test \
             -keyout key.pem -out cert.pem 2> /dev/null"
        ));
    };
    certificate("2");
    scene.user_nginx_with(
        "server { listen 8443 ssl; server_name shop.test; ssl_certificate /mnt/home/mallory/cert.pem; ssl_certificate_key /mnt/home/mallory/key.pem; }",
    );
    scene.wait_for("pgrep -f \"[n]ginx: worker\"");
    let workers = || scene.sh("pgrep -f '[n]ginx: worker'");
    let before = workers();
    // the served certificate differs from the file on disk: a reason to reload
    certificate("90");
    let fix = scene.opsctl(&["fix", "nginx.reload", "shop.test", "--yes"]);
    assert!(fix.code != 0 && workers() == before, "exit {}: {}{}", fix.code, fix.stdout, fix.stderr);
}

#[test]
fn reload_of_user_prometheus_is_refused() {
    let Some(scene) = Scene::without_engine() else { return };
    let failed =
        "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":false,\"lastConfigTime\":\"2026-01-01T00:00:00Z\"}}";
    scene.write("/mnt/home/mallory/prometheus.yml", "global: {}\n");
    let shown = ["--config.file=/mnt/home/mallory/prometheus.yml", "--web.enable-lifecycle"];
    let args = ["--port", "9090", "--page", "/-/ready=200:ready", "--page", failed, "--page", "/-/reload=200:ok", "--"];
    scene.program("prometheus").rogue("http", &[&args[..], &shown].concat());
    scene.until_listening(9090);
    let fix = scene.opsctl(&["fix", "prom.reload", "127.0.0.1:9090", "--yes"]);
    assert_ne!(fix.code, 0, "{}{}", fix.stdout, fix.stderr);
    assert!(!scene.loot().contains("POST"), "{}", scene.loot());
}

/// Repeats a diagnosis up to ten times until the condition holds, because servers have just started.
#[track_caller]
fn until(mut diagnose: impl FnMut() -> Run, holds: impl Fn(&Run) -> bool) -> Run {
    let mut last = None;
    for _ in 0..10 {
        let run = diagnose();
        if holds(&run) {
            return run;
        }
        last = Some(run);
    }
    last.unwrap()
}

/// Whether no row of these targets is unknown, warn or crit.
fn all_ok(targets: &[&str]) -> impl Fn(&Run) -> bool {
    move |run| targets.iter().all(|t| rows(run, t).all(|row| !matches!(row.verdict.as_str(), "unknown" | "crit" | "warn")))
}

/// A configuration with one target, so that all checks of Prometheus apply.
const PROMETHEUS: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: self, static_configs: [{targets: ['127.0.0.1:9090']}]}]
";

/// Succeeds if Prometheus on port 9090 has scraped its target.
const SCRAPED: &str =
    "exec 3<>/dev/tcp/127.0.0.1/9090; printf 'GET /api/v1/targets HTTP/1.0\r\n\r\n' >&3; grep -q '\"health\":\"up\"' <&3";

#[test]
fn servers_of_their_standard_users_are_examined() {
    if !installed(&["redis-server", "psql", "nginx", "prometheus", "promtool"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.nginx("server { listen 8080; location / { return 200 ok; } }");
    scene.sh("install -d -o redis /mnt/redis; install -d -o prometheus /mnt/prometheus");
    let as_user = |user: &str, line: &str| {
        scene.spawn("bash", &["-c", &format!("exec setpriv --reuid {user} --regid {user} --clear-groups {line}")]);
    };
    as_user("redis", "redis-server --port 6379 --dir /mnt/redis --save '3600 1'");
    scene.postgres("");
    std::fs::write(scene.path("prometheus.yml"), PROMETHEUS).unwrap();
    scene.sh(&format!("install -m 644 {} /mnt/prometheus/prometheus.yml", scene.path("prometheus.yml").display()));
    as_user(
        "prometheus",
        "prometheus --config.file=/mnt/prometheus/prometheus.yml --storage.tsdb.path=/mnt/prometheus/data --web.listen-address=127.0.0.1:9090",
    );
    for port in [8080, 6379, 5432, 9090] {
        scene.until_listening(port);
    }
    scene.wait_for(SCRAPED);
    scene.configure(NO_GRACE_PERIOD);
    let targets = [":8080", ":6379", ":5432", ":9090"];
    let run = until(|| scene.run_verified(SERVERS), all_ok(&targets));
    examined(&run, "nginx:127.0.0.1:8080", &["nginx.config", "nginx.processes"]);
    examined(&run, "redis:127.0.0.1:6379", &["redis.up", "redis.memory", "redis.persistence"]);
    examined(&run, "postgres:127.0.0.1:5432", &["postgres.up", "postgres.activity", "postgres.connections"]);
    examined(&run, "prometheus:127.0.0.1:9090", &["monitoring.prometheus", "monitoring.targets"]);
    let test = scene.opsctl(&["fix", "nginx.reload", "127.0.0.1:8080", "--dry-run"]);
    assert!(!test.stderr.contains("belongs to"), "{}", test.stderr);
}

#[test]
fn rabbitmq_of_its_standard_user_is_examined() {
    if !installed(&["rabbitmq-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.sh("install -d -o rabbitmq -g rabbitmq /mnt/rmq /mnt/rmq/home; for d in /var/lib/rabbitmq /var/log/rabbitmq; do mount -t tmpfs tmpfs $d; chown rabbitmq:rabbitmq $d; done");
    scene.spawn(
        "bash",
        &[
            "-c",
            "export HOME=/var/lib/rabbitmq RABBITMQ_NODENAME=rabbit@localhost; \
        exec setpriv --reuid rabbitmq --regid rabbitmq --clear-groups /usr/lib/rabbitmq/bin/rabbitmq-server",
        ],
    );
    // without the management API it is examined with rabbitmqctl
    scene.wait_long("the node runs", "RABBITMQ_NODENAME=rabbit@localhost rabbitmqctl -q status");
    let run = until(|| scene.run_verified(&["rabbitmq"]), all_ok(&[":5672"]));
    examined(&run, ":5672", &["rabbitmq.up", "rabbitmq.node"]);
}

#[test]
fn servers_in_containers_are_examined() {
    if !installed(&["redis-server", "psql", "nginx", "prometheus"]) {
        return;
    }
    let Some(host) = crate::lab::Host::with_edge() else { return };
    let scene = Scene::on(host);
    scene.service("app", "ok");
    scene.nginx_container("web", &[], "server { listen 80; location / { return 200 ok; } }");
    scene.redis_container("cache", &["-v", "cache-data:/data"]);
    scene.make_postgres("");
    scene.postgres_container("db", &[]);
    scene.prometheus("prom", &["app:8080"]);
    scene.until_scraped("prom", "app:8080", "up");
    scene.configure(NO_GRACE_PERIOD);
    let run = until(|| scene.run_verified(SERVERS), all_ok(&["web", "cache", "db", "prom"]));
    examined(&run, "nginx:web", &["nginx.config", "nginx.processes"]);
    examined(&run, "redis:cache", &["redis.up", "redis.memory"]);
    examined(&run, "postgres:db", &["postgres.up", "postgres.activity"]);
    examined(&run, "prometheus:prom", &["monitoring.prometheus", "monitoring.targets"]);
}

#[test]
fn container_password_of_its_own_server_is_used() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    let password = format!("REDIS_PASSWORD={}", scene.secret);
    let line = "exec redis-server --port 6379 --requirepass \"$REDIS_PASSWORD\"";
    scene.run("cache", &[MACHINE, &["-e", &password, "machine:1", "bash", "-c", line]].concat());
    scene.until_answers("cache");
    examined(&scene.run_verified(&["redis"]), "redis:cache", &["redis.up", "redis.memory"]);
}

#[test]
fn container_with_a_user_of_its_own_is_examined() {
    if !installed(&["redis-server", "prometheus", "nginx"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    let user = ["--user", "1000:1000", "--tmpfs", "/scratch:mode=1777"];
    let password = format!("REDIS_PASSWORD={}", scene.secret);
    let redis = "exec redis-server --port 6379 --dir /scratch --requirepass \"$REDIS_PASSWORD\"";
    scene.run("cache", &[MACHINE, &user, &["-e", &password, "machine:1", "bash", "-c", redis]].concat());
    std::fs::write(scene.path("prometheus.yml"), PROMETHEUS).unwrap();
    let mount = format!("{}:/etc/prometheus.yml:ro", scene.path("prometheus.yml").display());
    let prometheus = ["machine:1", "prometheus", "--config.file=/etc/prometheus.yml", "--storage.tsdb.path=/scratch"];
    scene.run("prom", &[MACHINE, &user, &["-v", &mount], &prometheus].concat());
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|t| format!("{t}_temp_path /scratch/{t}; ")).concat();
    let conf = format!(
        "pid /scratch/nginx.pid; error_log /dev/stderr; events {{}} http {{ access_log /dev/stdout; {temporary} server {{ listen 8080; location / {{ return 200 ok; }} }} }}"
    );
    std::fs::write(scene.path("nginx.conf"), conf).unwrap();
    let mount = format!("{}:/etc/nginx/nginx.conf:ro", scene.path("nginx.conf").display());
    let nginx = ["machine:1", "nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"];
    scene.run("web", &[MACHINE, &user, &["-v", &mount], &nginx].concat());
    scene.until_answers("cache");
    scene.until_workers("web");
    scene.configure(NO_GRACE_PERIOD);
    let targets = ["cache", "prom", "web"];
    let run = until(|| scene.run_verified(&["redis", "monitoring", "nginx"]), all_ok(&targets));
    examined(&run, "redis:cache", &["redis.up", "redis.memory"]);
    examined(&run, "prometheus:prom", &["monitoring.prometheus", "monitoring.targets"]);
    examined(&run, "nginx:web", &["nginx.config", "nginx.processes"]);
}

#[test]
fn dedicated_user_below_an_init_of_root_is_examined() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    let password = format!("REDIS_PASSWORD={}", scene.secret);
    // an init of root that starts the server as another user, as s6 and supervisord do
    let redis = "setpriv --reuid redis --regid redis --clear-groups redis-server --port 6379 --dir /tmp --requirepass \"$REDIS_PASSWORD\" & wait";
    scene.run("cache", &[MACHINE, &["-e", &password, "machine:1", "bash", "-c", redis]].concat());
    scene.until_answers("cache");
    examined(&scene.run_verified(&["redis"]), "redis:cache", &["redis.up", "redis.memory"]);
}

#[test]
fn container_with_a_user_namespace_is_examined() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::with_remapped_users() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    let password = format!("REDIS_PASSWORD={}", scene.secret);
    let redis = "exec redis-server --port 6379 --dir /tmp --requirepass \"$REDIS_PASSWORD\"";
    scene.run("cache", &[MACHINE, &["-e", &password, "machine:1", "bash", "-c", redis]].concat());
    scene.until_answers("cache");
    let pid = scene.inspect("cache", "{{.State.Pid}}");
    assert_ne!(scene.sh(&format!("stat -c %u /proc/{pid}")), "0", "users of the container are mapped to other users of the host");
    examined(&scene.run_verified(&["redis"]), "redis:cache", &["redis.up", "redis.memory"]);
}

#[test]
fn root_of_a_user_namespace_gains_nothing() {
    let Some(mut scene) = Scene::with_remapped_users() else { return };
    scene.plant("/mnt/secret/hostname", "SECRET\n");
    scene.tools(&["nginx", "rabbitmqctl", "rabbitmq-diagnostics", "env", "beam.smp"]);
    scene.sh("chmod -R o+rX /mnt/tools");
    let title = "nginx: master process nginx -c /tools/nginx.conf";
    scene.hostile("web", &[], "nginx", title, "http", &["--port", "8080"]);
    let path = ["-e", "PATH=/tools:/usr/sbin:/usr/bin"];
    scene.hostile("mq", &path, "beam.smp", "beam.smp", "rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    let first = scene.inspect("web", "{{.State.Pid}}");
    scene.own_rights = vec![scene.sh(&format!("stat -c %u /proc/{first}")).parse().unwrap()];
    let run = scene.run_verified(&["nginx", "tls", "rabbitmq"]);
    assert!(rows(&run, "web").next().is_some(), "{}", summary(&run));
}

#[test]
fn servers_of_units_are_examined() {
    if !installed(&["redis-server", "psql", "nginx", "prometheus"]) {
        return;
    }
    let Some(machine) = Machine::with_servers() else { return };
    let service = |name: &str, user: &str, line: &str| {
        machine.unit(
            &format!("{name}.service"),
            &format!("[Service]\nUser={user}\nExecStart=/opt/lab/env {line}\n[Install]\nWantedBy=multi-user.target"),
        );
    };
    machine.sh("mkdir -p /etc/nginx /var/log/nginx /var/lib/nginx /run/postgresql; chown postgres /run/postgresql
        printf 'daemon off; pid /run/nginx.pid; events {} http { access_log /var/log/nginx/access.log; server { listen 8080; location / { return 200 ok; } } }' > /etc/nginx/nginx.conf
        ip link set lo up");
    machine.write("/etc/opsctl/config.toml", NO_GRACE_PERIOD);
    machine.write("/etc/prometheus/prometheus.yml", PROMETHEUS);
    machine.sh("chmod 755 /etc/prometheus; chmod 644 /etc/prometheus/prometheus.yml
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1); ln -s $bin /opt/lab/pg
        su postgres -s /bin/bash -c \"/opt/lab/env /opt/lab/pg/initdb -D /var/lib/postgres/data --no-sync -U postgres -A peer > /dev/null\"");
    service("redis-server", "redis", "/host/bin/redis-server --port 6379 --dir /var/lib/redis");
    service("nginx", "root", "/host/sbin/nginx -c /etc/nginx/nginx.conf -e /var/log/nginx/error.log");
    service(
        "postgresql@15-main",
        "postgres",
        "/opt/lab/pg/postgres -D /var/lib/postgres/data -c unix_socket_directories=/run/postgresql",
    );
    service(
        "prometheus",
        "prometheus",
        "/host/bin/prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus/data --web.listen-address=127.0.0.1:9090",
    );
    machine.sh("systemctl start redis-server nginx postgresql@15-main prometheus");
    machine.wait_for(
        "all servers listen",
        "for p in 6379 8080 5432 9090; do (exec 3<>/dev/tcp/127.0.0.1/$p) 2> /dev/null || exit 1; done",
    );
    machine.wait_for("Prometheus has scraped itself", SCRAPED);
    let units = ["redis-server.service", "nginx.service", "postgresql@15-main.service", "prometheus.service"];
    let run = until(|| machine.diagnose(SERVERS), all_ok(&units));
    examined(&run, "redis:redis-server.service", &["redis.up", "redis.memory", "redis.persistence"]);
    examined(&run, "nginx:nginx.service", &["nginx.config", "nginx.processes"]);
    examined(&run, "postgres:postgresql@15-main.service", &["postgres.up", "postgres.activity", "postgres.connections"]);
    examined(&run, "prometheus:prometheus.service", &["monitoring.prometheus", "monitoring.targets"]);
}

#[test]
fn list_of_targets_names_the_user_of_a_server() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn_as_user("cd ~mallory; exec redis-server --port 6379 --save ''");
    scene.until_listening(6379);
    let run = scene.opsctl(&["targets"]);
    let line = run.stdout.lines().find(|l| l.contains(":6379")).unwrap_or_default();
    assert!(line.contains("; not examined: belongs to user mallory"), "{}", run.stdout);
}

#[test]
fn forged_line_of_a_unix_socket_does_not_replace_a_server() {
    if !installed(&["redis-server", "python3"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.redis(6379, &[]);
    let inode = scene.sh("awk '$2 ~ /:18EB$/ && $4 == \"0A\" { print $10; exit }' /proc/net/tcp");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/forged_line.py");
    scene.sh(&format!("install -m 644 {script} /mnt/forged_line.py"));
    scene.spawn_as_user(&format!("exec python3 /mnt/forged_line.py {inode} /mnt/home/mallory/socket"));
    scene.wait_for("grep -q 10000.*/mnt/home/mallory/socket /proc/net/unix");
    examined(&scene.run_verified(&["redis"]), ":6379", &["redis.up"]);
}

/// Names and arguments of processes are free text: they make no finding and hide none.
#[test]
fn docker_proxy_of_a_user_is_no_proxy() {
    let Some(scene) = Scene::without_engine() else { return };
    let arguments = "-proto tcp -host-ip 0.0.0.0 -host-port 443 -container-ip 172.17.0.99 -container-port 80";
    let words: Vec<&str> = ["--port", "8443", "--"].into_iter().chain(arguments.split(' ')).collect();
    scene.program("docker-proxy").rogue("http", &words);
    scene.until_listening(8443);
    let run = scene.run_verified(&["network"]);
    assert!(!summary(&run).contains("docker-proxy"), "{}", summary(&run));
}

#[test]
fn celery_of_a_user_is_not_counted() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.program("celery").rogue("http", &["--port", "8443", "--", "-A", "shop", "beat"]);
    scene.until_listening(8443);
    let run = scene.run_verified(&["celery"]);
    let examined = rows(&run, "").find(|row| row.check.starts_with("celery.") && row.verdict != "skip");
    assert!(examined.is_none(), "{examined:?}");
}

#[test]
fn clock_daemon_of_a_user_is_not_counted() {
    let Some(scene) = Scene::without_engine() else { return };
    for (name, port) in [("chronyd", "8443"), ("ntpd", "8444")] {
        scene.program(name).rogue("http", &["--port", port]);
        scene.wait_for(&format!("ss -Hltn sport = :{port} | grep -q ."));
    }
    let run = scene.run_verified(&["time"]);
    assert!(!summary(&run).contains("chronyd") && !summary(&run).contains("ntpd"), "{}", summary(&run));
}

/// Starts an engine on TCP port 2375 that claims the container `web` of root, as this user of the host.
#[track_caller]
fn tcp_engine(scene: &Scene, user: u32) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/tcp_engine.py");
    scene.sh(&format!("install -m 644 {script} /mnt/tcp_engine.py"));
    let (id, pid) = (scene.inspect("web", "{{.Id}}"), scene.inspect("web", "{{.State.Pid}}"));
    let user = user.to_string();
    let program = ["--reuid", &user, "--regid", &user, "--clear-groups", "/usr/bin/python3", "/mnt/tcp_engine.py", "2375"];
    scene.spawn("setpriv", &[&program[..], &[id.trim(), pid.trim()]].concat());
    scene.until_listening(2375);
}

#[test]
fn engine_of_a_user_on_the_tcp_port_of_docker_gains_nothing() {
    let Some(scene) = Scene::start() else { return };
    scene.plant("/mnt/secret/log", "SECRET");
    scene.tools(&[]);
    scene.run("web", &[MACHINE, &["machine:1", "sleep", "1000"]].concat());
    tcp_engine(&scene, UID);
    let run = scene.run_verified_with(&["diagnose"], &[("DOCKER_HOST", "tcp://localhost:2375")]);
    assert!(run.stdout.contains("is not proven to belong to root"), "{}", summary(&run));
    let of_container = |target: &str| target.starts_with("container:");
    let report = run.report();
    let targets: Vec<&str> = report.checks.iter().map(|row| row.target.as_str()).filter(|target| of_container(target)).collect();
    assert!(!targets.is_empty() && targets.iter().all(|target| target.contains("user 4711")), "{targets:?}");
    assert!(report.fixes.is_empty(), "{:?}", report.fixes);
}

/// A tunnel or a socket proxy of root.
#[test]
fn engine_of_root_on_a_tcp_port_is_not_another_users() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&[]);
    scene.run("web", &[MACHINE, &["machine:1", "sleep", "1000"]].concat());
    tcp_engine(&scene, 0);
    let run = scene.run_verified_with(&["diagnose", "container"], &[("DOCKER_HOST", "tcp://localhost:2375")]);
    run.verdict("container.state", "container:web", "ok");
    assert!(!run.stdout.contains("is not proven to belong to root"), "{}", summary(&run));
}
