//! Log drivers of containers.

use crate::lab::{Host, Rootfs, eventually};

#[test]
fn writer_blocked_by_its_log_driver_is_found() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    // a log server that accepts and never reads: the engine stops reading the pipe, the writer blocks in write(2) (moby#31540)
    host.spawn("/run/lab/fixture", &["tcp-sink", "--port", "5514"]);
    eventually(10, "the log server listens", || (!host.sh("ss -Hltn 'sport = 5514'").is_empty()).then_some(()));
    let driver =
        ["--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:5514", "--log-opt", "syslog-format=rfc3164"];
    host.run("frozen", &[&driver[..], &["app:1", "fixture", "log-spammer", "--burst-mb", "100"]].concat());
    host.run("quiet", &["app:1", "fixture", "wait-term"]);
    let pid = host.inspect("frozen", "{{.State.Pid}}");
    eventually(60, "the process is blocked in a write to its pipe", || {
        host.sh(&format!("cat /proc/{pid}/task/*/wchan")).contains("pipe_write").then_some(())
    });
    let blocked = "container.log-blocked container:frozen";
    let run = host.diagnose();
    run.roots(&[blocked]).mentions(blocked, &["pipe_write"]).must_not(&["container.down", "container.paused"]);
}

#[test]
fn log_without_a_size_limit_is_reported_as_info() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("unlimited", &["app:1", "fixture", "wait-term"]);
    host.run("limited", &["--log-opt", "max-size=10m", "app:1", "fixture", "wait-term"]);
    let run = host.diagnose();
    run.roots(&[]).must(&["container.log-unbounded container:unlimited"]);
    assert!(!run.has("container.log-unbounded container:limited"));
}
