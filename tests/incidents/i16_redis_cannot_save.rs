//! Redis cannot save although `df` looks fine: the temporary file is gone again (scenario 16).

use crate::lab::{Host, eventually};

const PERSISTENCE: &str = "redis.persistence redis:127.0.0.1:6379";

#[test]
fn the_folder_that_is_too_small_is_the_root_and_room_and_a_save_help() {
    let Some(host) = Host::with_servers(&["redis-server", "redis-cli"]) else { return };
    host.disk("/mnt/redis", 16, "-m 0");
    host.redis(6379, &["--dir", "/mnt/redis", "--save", "3600 1", "--logfile", "/mnt/redis.log"]);
    let info = |key: &str| host.sh(&format!("redis-cli info persistence | tr -d '\\r' | sed -n 's/^{key}://p'"));
    let save = |wanted: &str| {
        host.sh("redis-cli bgsave > /dev/null");
        eventually(30, "the save has ended", || {
            (info("rdb_bgsave_in_progress") == "0" && info("rdb_last_bgsave_status") == wanted).then_some(())
        });
    };
    host.sh("for i in $(seq 9); do head -c 1M /dev/urandom | redis-cli -x set first:$i > /dev/null; done");
    save("ok");
    host.sh("for i in $(seq 6); do head -c 1M /dev/urandom | redis-cli -x set second:$i > /dev/null; done");
    save("err");
    assert!(host.sh("redis-cli ping; true").contains("MISCONF"), "even PING is refused");

    let run = host.ask(&["redis", "disk"]);
    run.roots(&[PERSISTENCE]).must_not(&["redis.up", "disk.space"]);
    run.says(PERSISTENCE, &["do not fit, /mnt/redis has", "MISCONF", "No space left on device", "changes not saved: 6"]);
    assert_eq!(run.check("redis.up", "redis:127.0.0.1:6379").verdict, "ok");
    // a save that cannot fit is not begun
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(15);

    // room is made by somebody who knows what may go; a delete is refused like every other write
    host.sh("redis-cli config set stop-writes-on-bgsave-error no; redis-cli del second:{1..6} first:9; redis-cli config set stop-writes-on-bgsave-error yes
        rm /mnt/redis/dump.rdb");
    host.fix("redis.bgsave", "127.0.0.1:6379", &[]).exits(0);
    host.ask(&["redis"]).must_not(&["redis."]);
    assert_eq!(host.sh("redis-cli ping"), "PONG");
}
