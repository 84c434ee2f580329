//! A log was deleted to free space, and its writer still has it open.

use crate::lab::{Host, eventually};

const OPEN: &str = "disk.deleted-open mount:/mnt/data";
const SPACE: &str = "disk.space mount:/mnt/data";

/// Starts a process with a deleted file open; its pid.
fn hold_deleted_log(host: &Host) -> String {
    host.spawn("/run/lab/fixture", &["hold-deleted", "/mnt/data/app.log", "40"]);
    eventually(30, "the log is deleted and open", || {
        let found = host.sh("find /proc/[0-9]*/fd -lname '/mnt/data/app.log (deleted)' 2> /dev/null || true");
        found.split('/').nth(2).map(str::to_owned)
    })
}

#[test]
fn deleted_open_file_is_found_and_truncated() {
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/data", 64, "-m 0");
    let pid = hold_deleted_log(&host);
    host.fill("/mnt/data", 99);
    let run = host.diagnose();
    run.must(&[SPACE, OPEN]).roots(&[OPEN]).explains(OPEN, SPACE).mentions(OPEN, &["app.log", "40 MiB", &pid]);
    run.must_not(&["container.log-huge", "disk.inodes"]);
    host.leaves(&run, "");

    host.fix("fd.truncate", "/mnt/data", &[]).exits(10);
    host.fix("fd.truncate", "/mnt/data", &["--risk", "R3"]).exits(15);
    host.configure("[policy]\nallow = [\"fd.truncate\"]\n");
    // its writer exits after the plan
    let risk = ["--risk", "R3"];
    host.fix_meanwhile("fd.truncate", "/mnt/data", &risk, || {
        host.sh(&format!("kill {pid}; while [ -d /proc/{pid} ]; do sleep 0.05; done"));
    })
    .exits(11);
    host.sh("rm /mnt/data/ballast");
    let pid = hold_deleted_log(&host);
    host.fill("/mnt/data", 99);
    host.diagnose().roots(&[OPEN]);
    host.fix("fd.truncate", "/mnt/data", &risk).exits(0);
    host.diagnose().roots(&[]).must_not(&["disk.deleted-open", "disk.space"]);
    host.sh(&format!("[ -d /proc/{pid} ]"));
}
