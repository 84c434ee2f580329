//! Redis is stopped, and an application that cannot start without it is restarted in a loop.

use crate::lab::{Host, Rootfs, eventually, installed};

const REDIS: &str = "redis.up redis:cache";
const LOOP: &str = "container.restart-loop container:shop";

/// An application that exits at once, and names its cache in its environment.
fn start_shop(host: &Host) {
    let environment = ["--network", "app", "--restart", "always", "-e", "CACHE_URL=redis://cache:6379/0"];
    host.run("shop", &[&environment[..], &["shop:1", "/bin/fixture", "say", "ConnectionError: cache:6379", "1"]].concat());
    eventually(60, "it was restarted five times", || {
        host.inspect("shop", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
}

fn with_cache() -> Option<Host> {
    if !installed(&["redis-server"]) {
        return None;
    }
    let host = Host::start()?;
    host.image("machine:1", Rootfs::Machine, &[]);
    host.image("shop:1", Rootfs::Scratch, &[]);
    host.docker(&["network", "create", "app"]);
    host.redis_container("cache", &[]);
    Some(host)
}

#[test]
fn stopped_cache_is_the_root_of_the_restart_loop_of_its_application() {
    let Some(host) = with_cache() else { return };
    host.docker(&["stop", "cache"]);
    start_shop(&host);
    let run = host.run_runbooks(&["container", "redis"]);
    run.must(&[REDIS, LOOP]).roots(&[REDIS]).explains(REDIS, LOOP);
    host.leaves(&run, "");
    // the cause is open
    host.fix("container.stop-loop", "shop", &[]).exits(15);
}

#[test]
fn restart_loop_with_a_running_cache_has_no_other_cause() {
    let Some(host) = with_cache() else { return };
    start_shop(&host);
    let run = host.run_runbooks(&["container", "redis"]);
    run.must(&[LOOP]).roots(&[LOOP]).must_not(&["redis."]);
}
