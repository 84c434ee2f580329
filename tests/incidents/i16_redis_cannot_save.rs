//! Redis cannot save although `df` looks fine: the temporary file is gone again (scenario 16).

use crate::lab::{Host, MACHINE, Rootfs, eventually, installed};

const PERSISTENCE: &str = "redis.persistence redis:cache";
const WEAK: &str = "healthcheck.weak container:cache";

#[test]
fn the_folder_that_is_too_small_is_the_root_and_room_and_a_save_help() {
    if !installed(&["redis-server", "redis-cli"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.image("machine:1", Rootfs::Machine, &[]);
    host.disk("/mnt/redis", 16, "-m 0");
    // its health test asks and does not look at the answer
    let health = ["--health-cmd", "redis-cli ping", "--health-interval", "1s", "-v", "/mnt/redis:/data"];
    let program = ["machine:1", "redis-server", "--dir", "/data", "--save", "3600 1", "--protected-mode", "no"];
    host.run("cache", &[&health, MACHINE, &program].concat());
    let redis = |words: &str| host.sh(&format!("docker exec -i cache redis-cli {words}"));
    eventually(60, "it answers", || host.try_docker(&["exec", "cache", "redis-cli", "ping"]).status.success().then_some(()));
    let info = |key: &str| redis(&format!("info persistence | tr -d '\\r' | sed -n 's/^{key}://p'"));
    let save = |wanted: &str| {
        redis("bgsave > /dev/null");
        eventually(30, "the save has ended", || {
            (info("rdb_bgsave_in_progress") == "0" && info("rdb_last_bgsave_status") == wanted).then_some(())
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
    assert!(redis("ping; true").contains("MISCONF"), "even PING is refused");
    host.until("cache", "{{.State.Health.Status}}", "healthy");

    let run = host.ask(&["redis", "disk", "container", "healthcheck"]);
    run.roots(&[PERSISTENCE]).must(&[WEAK]).must_not(&["redis.up", "disk.space", "healthcheck.unhealthy", "container."]);
    run.says(PERSISTENCE, &["do not fit", "MISCONF", "No space left on device", "changes not saved: 6"]);
    run.says(WEAK, &["redis-cli ping"]).verdict("redis.up", "redis:cache", "ok");
    host.leaves(&run, "");
    // a save that cannot fit is not begun
    host.fix("redis.bgsave", "cache", &[]).exits(15);

    // room is made by somebody who knows what may go; a delete is refused like every other write
    redis("config set stop-writes-on-bgsave-error no");
    redis("del second:1 second:2 second:3 second:4 second:5 second:6 first:9");
    redis("config set stop-writes-on-bgsave-error yes");
    host.sh("rm /mnt/redis/dump.rdb");
    // and somebody else takes it meanwhile
    let taken = || _ = host.sh("cat /dev/zero > /mnt/redis/ballast 2> /dev/null || true");
    host.fix_meanwhile("redis.bgsave", "cache", &[], taken).exits(11);
    host.sh("rm /mnt/redis/ballast");
    host.fix("redis.bgsave", "cache", &[]).exits(0);
    host.ask(&["redis"]).must_not(&["redis."]);
    assert_eq!(redis("ping"), "PONG");
}
