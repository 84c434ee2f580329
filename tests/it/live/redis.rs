//! Redis near the memory limit of its container, and with a directory that a client changed.

use crate::lab::{Host, MACHINE, Rootfs, eventually, installed};

#[test]
fn redis_near_its_container_limit_gets_maxmemory_and_it_is_reverted() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.cache("80m", 56);
    let redis = |words: &[&str]| host.docker(&[&["exec", "cache", "redis-cli"], words].concat());
    let memory = "redis.memory redis:cache";
    let run = host.run_runbooks(&["redis"]);
    run.must(&[memory]).mentions(memory, &["no maxmemory", "of its limit 80 MiB"]);
    let fix = host.fix("redis.maxmemory", "cache", &[]);
    fix.exits(0);
    assert_eq!(redis(&["config", "get", "maxmemory"]), format!("maxmemory\n{}", 60 << 20));
    let entry = fix.stdout.split("opsctl undo ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    host.opsctl(&["undo", entry, "--yes"]).exits(0);
    assert_eq!(redis(&["config", "get", "maxmemory"]), "maxmemory\n0");
}

#[test]
fn directory_that_a_client_changed_is_reported_and_never_saved_to() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.image("machine:1", Rootfs::Machine, &[]);
    let options = ["--save", "3600 1", "--protected-mode", "no", "--enable-protected-configs", "yes"];
    host.run("cache", &[MACHINE, &["machine:1", "redis-server"], &options].concat());
    let redis = |words: &[&str]| host.docker(&[&["exec", "cache", "redis-cli"], words].concat());
    eventually(60, "redis replies", || host.try_docker(&["exec", "cache", "redis-cli", "ping"]).status.success().then_some(()));
    let persistence = "redis.persistence redis:cache";
    host.run_runbooks(&["redis"]).must_not(&[persistence]);
    host.docker(&["exec", "cache", "mkdir", "-p", "/etc/cron.d"]);
    redis(&["config", "set", "dir", "/etc/cron.d"]);
    redis(&["config", "set", "dbfilename", "root"]);
    redis(&["set", "key", "value"]);
    let run = host.run_runbooks(&["redis"]);
    run.must(&[persistence]).mentions(persistence, &["saves to /etc/cron.d/root instead of"]);
    assert_eq!(run.offer("redis.bgsave", "redis:cache"), None);
    host.fix("redis.bgsave", "cache", &[]);
    assert!(!host.try_docker(&["exec", "cache", "test", "-e", "/etc/cron.d/root"]).status.success(), "it was saved");
}

/// redis/docker-library-redis#259: "REPLICAOF 194.40.243.61:8886 enabled (user request from …)".
#[test]
fn master_that_a_client_set_and_rejected_logins_are_reported() {
    let Some(host) = Host::with_servers(&["redis-server"]) else { return };
    host.redis(6379, &[]);
    let foreign = "redis.foreign-master redis:127.0.0.1:6379";
    let refused = "redis.refused-clients redis:127.0.0.1:6379";
    host.sh("redis-cli ACL SETUSER app on '>canary-app-password' '~*' +@all; redis-cli AUTH app mistyped || true");
    host.run_runbooks(&["redis"]).must_not(&[foreign, refused]);
    host.sh("yes 'AUTH app canary-old-password' | head -80 | redis-cli > /dev/null || true");
    host.sh("redis-cli REPLICAOF 203.0.113.5 8886");
    let run = host.run_runbooks(&["redis"]);
    run.must(&[foreign, refused]);
    run.mentions(foreign, &["replicates from 203.0.113.5:8886, a public address"]);
    run.mentions(refused, &["127.0.0.1 as user app (wrong password)"]);
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
}
