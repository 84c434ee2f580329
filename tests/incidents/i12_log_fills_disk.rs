//! A container logs without a limit until the disk is full, and everything that writes there dies of it (scenario 12; Tarsnap,
//! mailcow#1000).

use crate::lab::{CACHE, Config, DATABASE, Host, Rootfs, eventually, installed};

const HUGE: &str = "container.log-huge container:spammer";
const SPACE: &str = "disk.space mount:/var/lib/docker";
const POSTGRES: &str = "postgres.up postgres:db";
const REDIS: &str = "redis.persistence redis:127.0.0.1:6379";
const LOKI: &str = "monitoring.loki loki:loki";
const RATE: &str = "nginx.5xx-rate nginx:127.0.0.1:80";
const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1/health/";
const ASKED: &[&str] = &["container", "disk", "postgres", "redis", "nginx", "healthcheck", "monitoring"];

/// One disk for the engine, a database, a cache and the logs of everything.
fn one_disk() -> Option<Host> {
    if !installed(&["psql", "redis-server", "nginx", "curl", "python3"]) {
        return None;
    }
    let host = Host::with(&Config { docker_disk: 400, ..Config::default() })?;
    host.image("app:1", Rootfs::Scratch, &[]);
    host.image("machine:1", Rootfs::Machine, &[]);
    host.image("loki:1", Rootfs::Stub("loki"), &[]);
    host.docker(&["network", "create", "app"]);
    host.sh("mkdir -p /var/lib/docker/pg /var/lib/docker/redis /mnt/pg; mount --bind /var/lib/docker/pg /mnt/pg");
    host.make_postgres("");
    host.postgres_container("db", &[]);
    host.redis(6379, &["--dir", "/var/lib/docker/redis", "--save", "3600 1"]);
    host.stub("loki", "loki", &["-v", "loki-data:/loki"], &["-common.path-prefix=/loki"]);
    host.application(&[DATABASE, CACHE]);
    host.run("bystander", &["app:1", "fixture", "httpd", "--port", "80"]);
    host.ask(ASKED).roots(&[]);
    Some(host)
}

/// Until nothing is left, and everybody has noticed.
fn fill(host: &Host) {
    // one great burst, as while a database is away; then a trickle
    let line = format!("ERROR connection refused, retrying {}", "at Pool.acquire ".repeat(25));
    host.run("spammer", &["app:1", "fixture", "log-spammer", "--line", &line, "--burst-mb", "400", "--rate", "2"]);
    let pid = host.inspect("spammer", "{{.State.Pid}}");
    eventually(120, "the disk is full and the burst is over", || {
        let seen = host.sh(&format!("df --output=avail /var/lib/docker | tail -1; cat /proc/{pid}/wchan"));
        (seen.starts_with("0\n") && seen.contains("nanosleep")).then_some(())
    });
    eventually(60, "postgres has given up", || {
        let write = "SELECT pg_logical_emit_message(true, 'lab', repeat('x', 1000000))";
        host.sh(&format!("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \"{write}\" > /dev/null 2>&1 || true"));
        (host.inspect("db", "{{.State.Running}}") == "false").then_some(())
    });
    let log = host.try_docker(&["logs", "db"]);
    assert!(String::from_utf8_lossy(&log.stderr).contains("PANIC"), "{}", String::from_utf8_lossy(&log.stderr));
    // what the database gave up is not enough for a snapshot
    host.sh(
        "for i in 1 2 3; do head -c 16M /dev/urandom | redis-cli -x set key:$i > /dev/null; done; redis-cli bgsave > /dev/null",
    );
    eventually(30, "the snapshot has failed", || {
        host.sh("redis-cli info persistence").contains("rdb_last_bgsave_status:err").then_some(())
    });
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/; done > /dev/null");
}

#[test]
fn the_log_is_the_root_of_all_and_cutting_it_helps() {
    let Some(host) = one_disk() else { return };
    fill(&host);
    let run = host.ask(ASKED);
    run.must(&[HUGE, SPACE, POSTGRES, REDIS, LOKI, RATE, HEALTH]).roots(&[HUGE]).explains(HUGE, SPACE);
    run.explains(SPACE, REDIS).explains(SPACE, LOKI);
    run.says(HEALTH, &["503"]).says(REDIS, &["MISCONF"]);
    run.must_not(&["disk.inodes", "postgres.slots", "disk.deleted-open", "container.restart-loop", "container.log-blocked"]);
    run.must_not(&["nginx.upstream-unreachable", "nginx.upstream-stale-ip"]);
    assert!(!run.has("container.log-huge container:bystander"));
    host.leaves(&run, "");

    // neither of the effects is treated before the cause
    host.fix("container.start", "db", &[]).exits(15);
    assert_eq!(host.inspect("db", "{{.State.Running}}"), "false", "a database on a full disk is left alone");
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(15);

    // losing data needs more than a yes
    let risk = ["--risk", "R3"];
    host.fix("log.truncate", "spammer", &[]).exits(10);
    host.fix("log.truncate", "spammer", &risk).exits(15);
    let endpoints = std::fs::read_to_string(host.path("opsctl.toml")).unwrap();
    host.configure(&format!("{endpoints}[policy]\nallow = [\"log.truncate\"]\n"));
    // somebody has put the log aside meanwhile: what has its name now is another one
    let log = host.inspect("spammer", "{{.LogPath}}");
    let aside = || _ = host.sh(&format!("mv {log} {log}.aside && touch {log}"));
    host.fix_meanwhile("log.truncate", "spammer", &risk, aside).exits(11);
    host.sh(&format!("mv {log}.aside {log}"));
    host.fix("log.truncate", "spammer", &risk).exits(0);
    let size = || host.sh(&format!("stat -c %s {log}")).parse::<u64>().unwrap();
    let before = size();
    eventually(30, "the engine goes on writing to it", || (size() > before).then_some(()));
    assert!(
        !host.sh(&format!("find {} -type f -size +64k", host.path("state").display())).is_empty(),
        "the end of the log was saved"
    );

    // now there is room for the others
    host.fix("container.start", "db", &[]).exits(0);
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(0);
    host.ask(ASKED).must_not(&["container.", "disk.", "postgres.", "redis.", "healthcheck."]);
}
