//! A container logs without a limit until the disk of the engine is full (Tarsnap, mailcow#1000).

use crate::lab::{Config, Host, Rootfs, eventually};

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
