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
