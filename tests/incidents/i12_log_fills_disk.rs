//! A container log without a size limit fills the disk (scenario 12; Tarsnap, mailcow#1000). Services that write to it fail.

use crate::lab::{CACHE, Config, DATABASE, Host, Rootfs, eventually, installed};

const HUGE: &str = "container.log-huge container:spammer";
const SPACE: &str = "disk.space mount:/var/lib/docker";
const POSTGRES: &str = "postgres.up postgres:db";
const REDIS: &str = "redis.persistence redis:127.0.0.1:6379";
const LOKI: &str = "monitoring.loki loki:loki";
const RATE: &str = "nginx.5xx-rate nginx:127.0.0.1:80";
const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1/health/";
const RUNBOOKS: &[&str] = &["container", "disk", "postgres", "redis", "nginx", "healthcheck", "monitoring"];

/// A host with one disk for the engine, a database, a cache and all logs.
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
    host.run_runbooks(RUNBOOKS).roots(&[]);
    Some(host)
}

/// Fills the disk, and waits until every service has failed a write.
fn fill(host: &Host) {
    // one large burst, as during a database outage, then a low rate
    let line = format!("ERROR connection refused, retrying {}", "at Pool.acquire ".repeat(25));
    host.run("spammer", &["app:1", "fixture", "log-spammer", "--line", &line, "--burst-mb", "400", "--rate", "2"]);
    let pid = host.inspect("spammer", "{{.State.Pid}}");
    eventually(120, "the disk is full and the burst is over", || {
        let seen = host.sh(&format!("df --output=avail /var/lib/docker | tail -1; cat /proc/{pid}/wchan"));
        (seen.starts_with("0\n") && seen.contains("nanosleep")).then_some(())
    });
    eventually(60, "postgres has exited", || {
        let write = "SELECT pg_logical_emit_message(true, 'lab', repeat('x', 1000000))";
        host.sh(&format!("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \"{write}\" > /dev/null 2>&1 || true"));
        (host.inspect("db", "{{.State.Running}}") == "false").then_some(())
    });
    let log = host.try_docker(&["logs", "db"]);
    assert!(String::from_utf8_lossy(&log.stderr).contains("PANIC"), "{}", String::from_utf8_lossy(&log.stderr));
    // the space that the exited database released is too small for a snapshot
    host.sh(
        "for i in 1 2 3; do head -c 16M /dev/urandom | redis-cli -x set key:$i > /dev/null; done; redis-cli bgsave > /dev/null",
    );
    eventually(30, "the snapshot has failed", || {
        host.sh("redis-cli info persistence").contains("rdb_last_bgsave_status:err").then_some(())
    });
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/; done > /dev/null");
}

#[test]
fn container_log_is_the_root_and_is_truncated() {
    let Some(host) = one_disk() else { return };
    fill(&host);
    let run = host.run_runbooks(RUNBOOKS);
    run.must(&[HUGE, SPACE, POSTGRES, REDIS, LOKI, RATE, HEALTH]).roots(&[HUGE]).explains(HUGE, SPACE);
    run.explains(SPACE, REDIS).explains(SPACE, LOKI);
    run.mentions(HEALTH, &["503"]).mentions(REDIS, &["MISCONF"]);
    run.must_not(&["disk.inodes", "postgres.slots", "disk.deleted-open", "container.restart-loop", "container.log-blocked"]);
    run.must_not(&["nginx.upstream-unreachable", "nginx.upstream-stale-ip"]);
    assert!(!run.has("container.log-huge container:bystander"));
    host.leaves(&run, "");

    // fixes of the effects are refused while the cause is open
    host.fix("container.start", "db", &[]).exits(15);
    assert_eq!(host.inspect("db", "{{.State.Running}}"), "false", "the database on a full disk is not started");
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(15);

    // a fix that deletes data needs a policy in addition to the confirmation
    let risk = ["--risk", "R3"];
    host.fix("log.truncate", "spammer", &[]).exits(10);
    host.fix("log.truncate", "spammer", &risk).exits(15);
    let endpoints = std::fs::read_to_string(host.path("opsctl.toml")).unwrap();
    host.configure(&format!("{endpoints}[policy]\nallow = [\"log.truncate\"]\n"));
    // the log is renamed and recreated after the plan
    let log = host.inspect("spammer", "{{.LogPath}}");
    let renamed = || _ = host.sh(&format!("mv {log} {log}.aside && touch {log}"));
    host.fix_meanwhile("log.truncate", "spammer", &risk, renamed).exits(11);
    host.sh(&format!("mv {log}.aside {log}"));
    host.fix("log.truncate", "spammer", &risk).exits(0);
    let size = || host.sh(&format!("stat -c %s {log}")).parse::<u64>().unwrap();
    let before = size();
    eventually(30, "the engine continues to write to it", || (size() > before).then_some(()));
    assert!(
        !host.sh(&format!("find {} -type f -size +64k", host.path("state").display())).is_empty(),
        "the end of the log was saved"
    );

    // the other services have space again
    host.fix("container.start", "db", &[]).exits(0);
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(0);
    host.run_runbooks(RUNBOOKS).must_not(&["container.", "disk.", "postgres.", "redis.", "healthcheck."]);
}
