//! Promise 3: a file that a process names is read only with the user and groups of that process, below its root, if it is a regular file, and
//! up to a size limit.

use crate::lab::{MACHINE, Run, WITHOUT_OPENAT2, installed};

use super::{SHARED, Scene, belongs_to_attacker, quoted, rogue, rows, summary};

/// Response of a Prometheus that failed to load its configuration.
const RELOAD_FAILED: &str =
    "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":false,\"lastConfigTime\":\"2026-01-01T00:00:00Z\"}}";

/// A part of an nginx configuration with the secret as server name, which would be visible as the target of its certificate.
const SECRET_SITE: &str =
    "server { listen 127.0.0.1:8443 ssl; server_name SECRET.test; ssl_certificate /x.pem; ssl_certificate_key /x.key; }\n";

#[test]
fn password_file_of_user_postgres_is_not_read() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.program("postgres").env("POSTGRES_PASSWORD_FILE=/etc/shadow").rogue("postgres", &["--port", "5432"]);
    scene.until_listening(5432);
    let run = scene.run_verified(&["postgres"]);
    belongs_to_attacker(&run, ":5432");
    scene.no_login_received();
}

#[test]
fn password_file_of_user_redis_is_not_read() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/token", "SECRET");
    scene.program("redis-server").env("REDIS_PASSWORD_FILE=/mnt/secret/token").rogue("redis", &["--port", "6379"]);
    scene.until_listening(6379);
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6379");
    scene.no_login_received();
}

#[test]
fn password_file_of_user_rabbitmq_is_not_read() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/token", "SECRET");
    let program = scene.program("beam.smp").env("RABBITMQ_DEFAULT_PASS_FILE=/mnt/secret/token");
    program.rogue("rabbitmq", &["--port", "5672,15672", "--auth", "basic", "--", "-s", "rabbit", "boot"]);
    scene.until_listening(15672);
    let run = scene.run_verified(&["rabbitmq"]);
    belongs_to_attacker(&run, ":5672");
    scene.no_login_received();
}

#[test]
fn configuration_link_in_other_mount_namespace_is_not_read() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/redis.conf", "requirepass SECRET\n");
    let link = "mount -t tmpfs tmpfs /etc; mkdir /etc/redis; ln -s /mnt/secret/redis.conf /etc/redis/redis.conf";
    let program = scene.program("redis-server").unshare("--user --map-root-user --mount").before(link);
    program.rogue("redis", &["--port", "6390"]);
    scene.until_listening(6390);
    let run = scene.run_verified(&["redis"]);
    belongs_to_attacker(&run, ":6390");
    scene.no_login_received();
}

#[test]
fn configuration_link_out_of_container_is_not_followed() {
    let Some(scene) = Scene::start() else { return };
    scene.plant("/mnt/secret/redis.conf", "requirepass SECRET\n");
    scene.tools(&["redis-server"]);
    scene.sh("mkdir /mnt/conf; ln -s /mnt/secret/redis.conf /mnt/conf/redis.conf");
    scene.hostile("cache", &["-v", "/mnt/conf:/etc/redis"], "redis-server", "redis-server *:6379", "redis", &["--port", "6379"]);
    scene.run_verified(&["redis"]);
    // as well where the kernel has no openat2
    if installed(&["strace"]) {
        let prefix = [WITHOUT_OPENAT2, &["--inject=openat2:error=ENOSYS"]].concat();
        scene.run_verified_under(&prefix, &["diagnose", "redis"], &[]);
        for link in [
            "../../../../../../mnt/secret/redis.conf",
            "/proc/1/root/mnt/secret/redis.conf",
            "/proc/self/root/mnt/secret/redis.conf",
        ] {
            scene.sh(&format!("ln -sfn {link} /mnt/conf/redis.conf"));
            scene.run_verified_under(&prefix, &["diagnose", "redis"], &[]);
        }
    }
}

#[test]
fn hostname_link_out_of_container_is_not_followed() {
    let Some(mut scene) = Scene::start() else { return };
    scene.own_rights = vec![0];
    scene.plant("/mnt/secret/hostname", "SECRET\n");
    scene.tools(&["rabbitmqctl", "rabbitmq-diagnostics", "env"]);
    scene.sh("mkdir -p /mnt/jail/etc /mnt/jail/mnt/loot; ln -s /mnt/secret/hostname /mnt/jail/etc/hostname; cp /run/lab/fixture /mnt/jail/beam.smp");
    // the engine mounts its own hostname file; a process hides it with chroot(2), which is allowed in every container
    let own = [
        "-v",
        "/mnt/jail:/jail",
        "-v",
        "/mnt/loot:/jail/mnt/loot",
        "-v",
        "/mnt/tools:/tools",
        "-e",
        "PATH=/tools:/usr/sbin:/usr/bin",
    ];
    let (variable, shown) = rogue("mq", "rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    let script = format!("export {}; exec chroot /jail /beam.smp \"$@\"", quoted(&variable));
    scene.run("mq", &[&own, SHARED, MACHINE, &["machine:1", "/usr/bin/bash", "-c", &script, "beam.smp"], &shown].concat());
    scene.until_runs("mq", "beam.smp");
    scene.run_verified(&["rabbitmq"]);
}

#[test]
fn file_of_container_root_is_not_read_for_container_user() {
    let Some(mut scene) = Scene::start() else { return };
    scene.own_rights = vec![1000];
    scene.plant("/mnt/private/upstream.conf", SECRET_SITE);
    scene.tools(&["nginx"]);
    scene.sh("printf 'events {} http { include /private/upstream.conf; }' > /mnt/tools/nginx.conf");
    let options = ["-u", "1000", "-v", "/mnt/private:/private:ro"];
    let title = "nginx: master process nginx -c /tools/nginx.conf";
    scene.hostile("web", &options, "nginx", title, "http", &["--port", "8080"]);
    scene.run_verified(&["nginx", "tls"]);
}

/// Diagnoses a server of the attacker with arguments or files that name a file readable by root only.
#[track_caller]
fn diagnose_server(scene: &Scene, program: &str, title: &str, port: u16, args: &[&str], runbooks: &[&str]) {
    scene.program(program).title(title).rogue(args[0], &[&["--port", &port.to_string()], &args[1..]].concat());
    scene.until_listening(port);
    let run = scene.run_verified(runbooks);
    belongs_to_attacker(&run, &format!(":{port}"));
}

/// Diagnoses the nginx of the attacker at port 8080, with `nginx.conf` in the home directory.
#[track_caller]
fn diagnose_nginx(scene: &Scene) {
    let title = "nginx: master process nginx -c /mnt/home/mallory/nginx.conf";
    diagnose_server(scene, "nginx", title, 8080, &["http"], &["nginx", "tls"]);
}

#[test]
fn prometheus_configuration_of_root_is_not_quoted() {
    if !installed(&["promtool"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/prometheus.yml", "SECRET: 1\n");
    let args =
        ["http", "--page", "/-/ready=200:ready", "--page", RELOAD_FAILED, "--", "--config.file=/mnt/secret/prometheus.yml"];
    diagnose_server(&scene, "prometheus", "prometheus", 9090, &args, &["monitoring"]);
}

#[test]
fn shadow_as_prometheus_configuration_is_not_quoted() {
    if !installed(&["promtool"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let args = ["http", "--page", "/-/ready=200:ready", "--page", RELOAD_FAILED, "--", "--config.file=/etc/shadow"];
    diagnose_server(&scene, "prometheus", "prometheus", 9090, &args, &["monitoring"]);
}

#[test]
fn rule_files_of_root_are_not_listed() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.sh(&format!("touch /mnt/secret/{}.yml", scene.secret));
    let rules = "/api/v1/rules=200:{\"data\":{\"groups\":[{\"file\":\"/mnt/secret/*.yml\"}]}}";
    let loaded =
        "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":true,\"lastConfigTime\":\"2020-01-01T00:00:00Z\"}}";
    let args =
        ["http", "--page", "/-/ready=200:ready", "--page", loaded, "--page", rules, "--", "--config.file=/mnt/secret/none.yml"];
    diagnose_server(&scene, "prometheus", "prometheus", 9090, &args, &["monitoring"]);
}

#[test]
fn loki_configuration_of_root_is_not_quoted() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/loki.yml", "common:\n  path_prefix: /SECRET\n");
    let args = ["http", "--page", "/ready=200:ready", "--", "-config.file=/mnt/secret/loki.yml"];
    diagnose_server(&scene, "loki", "loki", 3100, &args, &["monitoring"]);
}

#[test]
fn alloy_configuration_of_root_is_not_quoted() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant(
        "/mnt/secret/config.alloy",
        "loki.write \"default\" { endpoint { url = \"http://SECRET.test:3100/loki/api/v1/push\" } }\n",
    );
    let args = ["http", "--page", "/-/ready=200:ready", "--page", "/-/healthy=200:ok", "--", "run", "/mnt/secret/config.alloy"];
    diagnose_server(&scene, "alloy", "alloy", 12345, &args, &["monitoring"]);
}

#[test]
fn include_of_fake_nginx_is_not_quoted() {
    if !installed(&["nginx"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.plant("/mnt/secret/upstream.conf", SECRET_SITE);
    scene.write("/mnt/home/mallory/nginx.conf", "events {} http { include /mnt/secret/*.conf; server { listen 8080; } }");
    diagnose_nginx(&scene);
}

#[test]
fn include_of_user_nginx_is_not_quoted_by_its_test() {
    if !installed(&["nginx"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    // the real program, so that `nginx -t` quotes the file
    scene.user_nginx();
    scene.plant("/mnt/secret/upstream.conf", "SECRET;\n");
    scene.as_user("printf 'include /mnt/secret/upstream.conf;' >> ~mallory/nginx.conf");
    let run = scene.run_verified(&["nginx"]);
    belongs_to_attacker(&run, ":8080");
}

#[test]
fn nginx_error_log_of_root_is_not_quoted() {
    let Some(scene) = Scene::without_engine() else { return };
    let now = scene.sh("date '+%Y/%m/%d %H:%M:%S'");
    let line = format!("{now} [crit] 1#1: *1 open() \"/SECRET\" failed (13: Permission denied), host: \"SECRET\"\n");
    scene.plant("/mnt/secret/error.log", &line.repeat(5));
    let conf = "error_log /mnt/secret/error.log; events {} http { access_log off; server { listen 8080; } }";
    scene.write("/mnt/home/mallory/nginx.conf", conf);
    diagnose_nginx(&scene);
}

#[test]
fn redis_log_of_root_is_not_quoted() {
    let Some(scene) = Scene::without_engine() else { return };
    let line = "1:M 01 Jan 2026 00:00:00.000 # Can't save in background: SECRET: No space left on device\n";
    scene.plant("/mnt/secret/redis.log", &line.repeat(3));
    let info = "info=redis_version:7.0.15\\nrdb_last_bgsave_status:err\\nrdb_bgsave_in_progress:0\\nloading:0\\nrole:master\\n";
    let server =
        ["redis", "--auth", "trust", "--set", info, "--set", "logfile=/mnt/secret/redis.log", "--set", "dir=/mnt/secret"];
    diagnose_server(&scene, "redis-server", "redis-server *:6379", 6379, &server, &["redis"]);
}

#[test]
fn postgres_log_behind_a_mount_is_not_quoted() {
    let Some(scene) = Scene::without_engine() else { return };
    let failure = "2026-01-01 00:00:00 UTC [1] PANIC:  could not write to file \"SECRET\": No space left on device\n";
    scene.plant("/mnt/secret/server.log", &failure.repeat(3));
    // the open file is owned by the attacker; a later file at its path is not
    let swap =
        "cd /mnt/home/mallory; mkdir -p log; exec 7> /mnt/home/mallory/log/server.log; mount -t tmpfs tmpfs /mnt/home/mallory/log
        ln -s /mnt/secret/server.log /mnt/home/mallory/log/server.log";
    let program = scene.program("postgres").unshare("--user --map-root-user --mount").before(swap);
    program.rogue("postgres", &["--port", "5432", "--how", "hang"]);
    scene.until_listening(5432);
    let run = scene.run_verified(&["postgres"]);
    belongs_to_attacker(&run, ":5432");
}

/// Runs a program, prints its peak RSS in KiB, and exits with its exit code.
const MEASURE_MEMORY: [&str; 3] = [
    "/usr/bin/python3",
    "-c",
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); \
     print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)",
];

/// Limits of a run on a host with one hostile container.
const MAX_MEMORY_KIB: u64 = 300 << 10;
const MAX_SECONDS: u64 = 12;

/// A container with an nginx that has its files in `/hostile`, a directory that the test creates.
#[track_caller]
fn hostile_nginx(script: &str, conf: &str) -> Option<(Scene, Run)> {
    let scene = Scene::start()?;
    scene.tools(&["nginx"]);
    scene.sh(&format!("mkdir /mnt/hostile; cd /mnt/hostile; {script}"));
    let staged = scene.path("nginx.conf");
    std::fs::write(&staged, conf).unwrap();
    scene.sh(&format!("cp {} /mnt/hostile/nginx.conf", staged.display()));
    let title = "nginx: master process nginx -c /hostile/nginx.conf";
    scene.hostile("web", &["-v", "/mnt/hostile:/hostile"], "nginx", title, "http", &["--port", "8080"]);
    let words = ["diagnose", "nginx", "tls", "-vv", "--format", "json"];
    let run = scene.read(&mut scene.opsctl_command(&MEASURE_MEMORY, &words));
    let peak: u64 = run.stderr.lines().find_map(|l| l.strip_prefix("peak ")?.parse().ok()).unwrap_or(u64::MAX);
    assert!(peak < MAX_MEMORY_KIB, "peak memory {} MiB: {}", peak >> 10, summary(&run));
    assert!((0..=3).contains(&run.code) && !run.stderr.contains("panicked"), "exit {}\n{}", run.code, run.stderr);
    assert!(run.took.as_secs() < MAX_SECONDS, "took {:?}", run.took);
    assert!(rows(&run, "web").next().is_some(), "no row about web: {}", summary(&run));
    Some((scene, run))
}

#[test]
fn device_in_place_of_a_file_is_not_read() {
    hostile_nginx(
        "ln -s /dev/zero zero.conf",
        "include /hostile/zero.conf; events {} http { access_log /hostile/zero.conf; error_log /hostile/zero.conf; }",
    );
}

#[test]
fn endless_file_is_read_up_to_a_limit() {
    hostile_nginx(
        "truncate -s 1T endless.conf || truncate -s 100G endless.conf",
        "include /hostile/endless.conf; events {} http { access_log /hostile/endless.conf; error_log /hostile/endless.conf; }",
    );
}

#[test]
fn directory_loop_terminates() {
    hostile_nginx(
        "ln -s . self; ln -s loop2 loop1; ln -s loop1 loop2; for n in a b c; do mkdir $n; ln -s .. $n/up; done",
        "include /hostile/*/*/*/*/*/*/*/*/*/*/*.conf; include /hostile/loop1; include /hostile/self/self/self/nginx.conf; events {}",
    );
}

#[test]
fn directory_of_100000_entries_is_read_up_to_a_limit() {
    hostile_nginx(
        "mkdir many; cd many; seq -f '%06g.conf' 100000 | xargs touch",
        "events {} http { include /hostile/many/*.conf; include /hostile/many/*/*.conf; }",
    );
}

#[test]
fn file_names_with_newlines_and_escapes_are_escaped() {
    let names = "mkdir odd; printf '\\001 {' > odd/$'a\\n\\e[2J\\e]0;owned\\a crit all is lost.conf'; printf '}}' > odd/$'b\\r\\u202e.conf'";
    let Some((scene, _)) = hostile_nginx(names, "events {} http { include /hostile/odd/*.conf; }") else { return };
    let run = scene.opsctl(&["diagnose", "nginx", "-vv"]);
    let odd = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!run.stdout.chars().any(odd) && !run.stderr.chars().any(odd), "{:?}{:?}", run.stdout, run.stderr);
    let forged = |line: &str| line.trim_start().starts_with("crit all is lost") || line.trim_start().starts_with("[2J");
    assert!(!run.stdout.lines().any(forged), "{}", run.stdout);
}

#[test]
fn group_readable_file_is_read_with_the_groups_of_the_process() {
    let Some(mut scene) = Scene::start() else { return };
    scene.own_rights = vec![1000];
    // the harmless counterpart: a server that can read its file only through one of its groups
    scene.tools(&["nginx"]);
    scene.sh(
        "mkdir -m 750 /mnt/conf; printf 'events {} http { server { listen 8080; server_name may.test; } }' > /mnt/conf/nginx.conf
        chmod 640 /mnt/conf/nginx.conf; chgrp 2000 /mnt/conf /mnt/conf/nginx.conf",
    );
    let options = ["-u", "1000:1000", "--group-add", "2000", "-v", "/mnt/conf:/conf"];
    let title = "nginx: master process nginx -c /conf/nginx.conf";
    scene.hostile("web", &options, "nginx", title, "http", &["--port", "8080"]);
    let run = scene.run_verified(&["nginx"]);
    let config = rows(&run, "web").find(|r| r.check == "nginx.config");
    assert!(config.is_some_and(|r| r.reason.as_ref().is_none_or(|why| !why.contains("could not be read"))), "{}", summary(&run));
}
