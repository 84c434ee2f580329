//! After a reboot something else has the port.

use crate::lab::{Host, Rootfs, eventually};

const FAILED: &str = "container.start-failed container:web";

#[test]
fn the_owner_of_the_port_is_named() {
    let Some(host) = Host::start() else { return };
    host.image("web:1", Rootfs::Scratch, &[]);
    host.spawn("/run/lab/fixture", &["tcp-sink", "--port", "18099"]);
    eventually(10, "the port is taken", || host.sh("ss -Hltn 'sport = 18099'").contains("18099").then_some(()));
    let start = [
        "run",
        "-d",
        "--name",
        "web",
        "--restart",
        "always",
        "-p",
        "127.0.0.1:18099:80",
        "web:1",
        "fixture",
        "httpd",
        "--port",
        "80",
    ];
    assert!(!host.try_docker(&start).status.success());
    assert_eq!(host.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "created 128");

    let pid = host.sh("ss -Hltnp 'sport = 18099' | grep -o 'pid=[0-9]*' | cut -d= -f2");
    let run = host.diagnose();
    run.must(&[FAILED]).roots(&[FAILED]).says(FAILED, &["18099", "fixture", &pid]);
    run.must_not(&["container.restart-loop", "container.down", "container.oom-killed", "network."]);
}
