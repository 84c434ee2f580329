//! Redis cannot save although `df` shows free space (scenario 16): the temporary file of the failed save was removed.

use crate::lab::{Host, MACHINE, Rootfs, eventually, installed};

const PERSISTENCE: &str = "redis.persistence redis:cache";
const WEAK: &str = "healthcheck.weak container:cache";

#[test]
fn full_data_directory_is_the_root_and_a_save_succeeds_with_free_space() {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.image("machine:1", Rootfs::Machine, &[]);
    host.disk("/mnt/redis", 16, "-m 0");
    // its health test ignores the reply
    let health = ["--health-cmd", "redis-cli ping", "--health-interval", "1s", "-v", "/mnt/redis:/data"];
    let program = ["machine:1", "redis-server", "--dir", "/data", "--save", "3600 1", "--protected-mode", "no"];
    host.run("cache", &[&health, MACHINE, &program].concat());
    let redis = |words: &str| host.sh(&format!("docker exec -i cache redis-cli {words}"));
    eventually(60, "redis replies", || host.try_docker(&["exec", "cache", "redis-cli", "ping"]).status.success().then_some(()));
    let info = |key: &str| redis(&format!("info persistence | tr -d '\\r' | sed -n 's/^{key}://p'"));
    let save = |expected: &str| {
        redis("bgsave > /dev/null");
        eventually(30, "the save has ended", || {
            (info("rdb_bgsave_in_progress") == "0" && info("rdb_last_bgsave_status") == expected).then_some(())
        });
    };
    let put = |key: &str, n: u8| {
        host.sh(&format!(
            "for i in $(seq {n}); do head -c 1M /dev/urandom | docker exec -i cache redis-cli -x set {key}:$i > /dev/null; done"
        ));
    };
    put("first", 9);
    save("ok");
    put("second", 6);
    save("err");
    assert!(redis("ping; true").contains("MISCONF"), "PING is rejected too");
    host.until("cache", "{{.State.Health.Status}}", "healthy");

    let run = host.run_runbooks(&["redis", "disk", "container", "healthcheck"]);
    run.roots(&[PERSISTENCE]).must(&[WEAK]).must_not(&["redis.up", "disk.space", "healthcheck.unhealthy", "container."]);
    run.mentions(PERSISTENCE, &["do not fit", "MISCONF", "No space left on device", "changes not saved: 6"]);
    run.mentions(WEAK, &["redis-cli ping"]).verdict("redis.up", "redis:cache", "ok");
    host.leaves(&run, "");
    // a save that does not fit is not started
    host.fix("redis.bgsave", "cache", &[]).exits(15);

    // space is freed by hand; DEL is rejected like every other write command
    redis("config set stop-writes-on-bgsave-error no");
    redis("del second:1 second:2 second:3 second:4 second:5 second:6 first:9");
    redis("config set stop-writes-on-bgsave-error yes");
    host.sh("rm /mnt/redis/dump.rdb");
    // the freed space is used by another file after the plan
    let filled = || _ = host.sh("cat /dev/zero > /mnt/redis/ballast 2> /dev/null || true");
    host.fix_meanwhile("redis.bgsave", "cache", &[], filled).exits(11);
    host.sh("rm /mnt/redis/ballast");
    host.fix("redis.bgsave", "cache", &[]).exits(0);
    host.run_runbooks(&["redis"]).must_not(&["redis."]);
    assert_eq!(redis("ping"), "PONG");
}
