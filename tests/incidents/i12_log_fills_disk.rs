//! A container logs without a limit until the disk of the engine is full (Tarsnap, mailcow#1000).

use crate::lab::{Config, Host, Rootfs, eventually, installed};

const HUGE: &str = "container.log-huge container:spammer";
const SPACE: &str = "disk.space mount:/var/lib/docker";

#[test]
fn the_log_is_the_root_and_cutting_it_helps() {
    let Some(host) = Host::with(&Config { docker_disk: 300, ..Config::default() }) else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("bystander", &["app:1", "fixture", "httpd", "--port", "80"]);
    // one great burst, as while a database is away; then a trickle
    let line = format!("ERROR connection refused, retrying {}", "at Pool.acquire ".repeat(25));
    host.run("spammer", &["app:1", "fixture", "log-spammer", "--line", &line, "--burst-mb", "240", "--rate", "2"]);
    let pid = host.inspect("spammer", "{{.State.Pid}}");
    eventually(120, "the disk is full and the burst is over", || {
        let seen = host.sh(&format!("df --output=avail /var/lib/docker | tail -1; cat /proc/{pid}/wchan"));
        (seen.starts_with("0\n") && seen.contains("nanosleep")).then_some(())
    });
    let run = host.diagnose();
    run.must(&[HUGE, SPACE]).roots(&[HUGE]).explains(HUGE, SPACE);
    run.must_not(&["disk.inodes", "disk.deleted-open", "container.down", "container.restart-loop", "container.log-blocked"]);
    assert!(!run.has("container.log-huge container:bystander"));

    // losing data needs more than a yes
    host.fix("log.truncate", "spammer", &[]).exits(10);
    host.fix("log.truncate", "spammer", &["--risk", "R3"]).exits(15);
    host.configure("[policy]\nallow = [\"log.truncate\"]\n");
    host.fix("log.truncate", "spammer", &["--risk", "R3"]).exits(0);
    host.diagnose().must_not(&["container.log-huge", "disk.space"]);
    let log = host.inspect("spammer", "{{.LogPath}}");
    let size = || host.sh(&format!("stat -c %s {log}")).parse::<u64>().unwrap();
    let before = size();
    assert!(before < 1 << 20, "the file was cut: {before}");
    eventually(30, "the engine goes on writing to it", || (size() > before).then_some(()));
    assert!(
        !host.sh(&format!("find {} -type f -size +64k", host.path("state").display())).is_empty(),
        "the end of the log was saved"
    );
}

#[test]
fn everything_that_dies_of_it_has_the_same_root() {
    const REDIS: &str = "redis.persistence redis:127.0.0.1:6379";
    const RATE: &str = "nginx.5xx-rate nginx:127.0.0.1:80";
    const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1/health/";
    if !installed(&["psql", "redis-server", "nginx", "curl", "python3"]) {
        return;
    }
    let Some(host) = Host::with(&Config { docker_disk: 400, ..Config::default() }) else { return };
    // one disk for all of them
    host.sh("mkdir -p /var/lib/docker/pg /var/lib/docker/redis /mnt/pg; mount --bind /var/lib/docker/pg /mnt/pg");
    host.postgres("");
    host.redis(6379, &["--dir", "/var/lib/docker/redis", "--save", "3600 1"]);
    host.application();
    host.image("app:1", Rootfs::Scratch, &[]);
    let asked = ["container", "disk", "postgres", "redis", "nginx", "healthcheck"];
    host.ask(&asked).roots(&[]);

    let line = format!("ERROR connection refused, retrying {}", "at Pool.acquire ".repeat(25));
    host.run("spammer", &["app:1", "fixture", "log-spammer", "--line", &line, "--burst-mb", "400", "--rate", "2"]);
    eventually(120, "the disk is full", || host.sh("df --output=avail /var/lib/docker | tail -1").eq("0").then_some(()));
    eventually(60, "postgres has given up", || {
        let write = "SELECT pg_logical_emit_message(true, 'lab', repeat('x', 1000000))";
        host.sh(&format!("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \"{write}\" > /dev/null 2>&1 || true"));
        (!host.command("pgrep").args(["-x", "postgres"]).output().ok()?.status.success()).then_some(())
    });
    host.sh("redis-cli set a $(head -c 100000 /dev/zero | tr '\\0' x) > /dev/null; redis-cli bgsave > /dev/null");
    eventually(30, "the snapshot has failed", || {
        host.sh("redis-cli info persistence").contains("rdb_last_bgsave_status:err").then_some(())
    });
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/; done > /dev/null");
    let run = host.ask(&asked);
    run.must(&[HUGE, SPACE, REDIS, RATE, HEALTH]).explains(HUGE, SPACE).explains(SPACE, REDIS);
    run.must_not(&["disk.inodes", "postgres.slots", "disk.deleted-open", "nginx.upstream-"]);
    // of a database that was started by hand and is gone nobody can know
    run.roots(&[HUGE]).explains(REDIS, RATE);
}
