//! Limits that the processes of a user share.

use crate::lab::{Host, Rootfs, eventually};

/// `RLIMIT_NPROC` counts all processes of a user id: those of another container as well.
#[test]
fn processes_of_a_user_in_two_containers() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let script = "i=0; while [ $i -lt 10 ]; do sleep 100000 & i=$((i+1)); done; echo up; wait";
    let run = |name: &str, user: &str| {
        host.run(name, &["--user", user, "--ulimit", "nproc=24:24", "app:1", "sh", "-c", script]);
        eventually(30, "all its processes run", || (host.docker(&["logs", name]) == "up").then_some(()));
    };
    // a shell and ten children each
    run("one", "54321");
    run("alone", "54322");
    let full = "host.user-processes host";
    host.run_runbooks(&["host"]).must_not(&["host.user-processes"]);
    run("two", "54321");
    host.run_runbooks(&["host"]).mentions(full, &["uid 54321 has 22 of the 24 processes", "container "]);
}

/// The kernel counts inotify instances by user id, in all containers without a user namespace of their own (dotnet/aspnetcore#7531,
/// apecloud/kubeblocks#8460, gorakhargosh/watchdog#846). The limit is that of this machine: no other program has this user id.
#[test]
fn inotify_instances_of_a_user_in_two_containers() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let up =
        |name: &str| eventually(30, "it has its instances", || host.docker(&["logs", name]).contains("instances").then_some(()));
    // as many as an ordinary program has
    host.run("few", &["--user", "54331", "app:1", "fixture", "inotify", "3"]);
    up("few");
    host.run_runbooks(&["host", "container"]).must_not(&["host.inotify"]);
    host.run("watcher", &["--user", "54332", "app:1", "fixture", "inotify", "1000000"]);
    up("watcher");
    // another container of the same user gets none
    host.run("late", &["--user", "54332", "--restart", "on-failure:1", "app:1", "fixture", "inotify", "1"]);
    let exited = || host.docker(&["inspect", "--format", "{{.State.Status}} {{.RestartCount}}", "late"]) == "exited 1";
    eventually(30, "it was given up", || exited().then_some(()));
    let (full, down) = ("host.inotify host", "container.down container:late");
    let run = host.run_runbooks(&["host", "container"]);
    run.roots(&[full]).explains(full, down);
    run.mentions(full, &["uid 54332", "inotify instances", "watcher"]);
}
