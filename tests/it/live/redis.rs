//! Redis near the memory limit of its container.

use crate::lab::{Host, installed};

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
