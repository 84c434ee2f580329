//! After a reboot another process or container uses the published port.

use crate::lab::{Host, Rootfs, eventually};

const FAILED: &str = "container.start-failed container:web";

/// Starts `web` on a port in use, and diagnoses the failure.
fn diagnose_failed_start(host: &Host, variant: &str, owner: &[&str]) {
    let publish = ["run", "-d", "--name", "web", "--restart", "always", "-p", "127.0.0.1:18099:80"];
    let refused = host.try_docker(&[&publish[..], &["app:1", "fixture", "httpd", "--port", "80"]].concat());
    assert!(!refused.status.success());
    assert_eq!(host.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "created 128");
    let run = host.run_runbooks(&["container", "healthcheck", "network"]);
    run.must(&[FAILED]).roots(&[FAILED]).mentions(FAILED, &["18099"]);
    run.must_not(&["container.restart-loop", "container.down", "container.oom-killed", "network."]);
    run.mentions(FAILED, owner);
    host.leaves(&run, variant);
    // a start is refused while the port is in use
    host.fix("container.start", "web", &[]).exits(15);
}

#[test]
fn port_is_in_use_by_a_process() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.spawn("/run/lab/fixture", &["tcp-sink", "--port", "18099"]);
    let owner = || host.sh("ss -Hltnp 'sport = 18099' | grep -o 'pid=[0-9]*' | cut -d= -f2 || true");
    let pid = eventually(10, "the port is in use", || Some(owner()).filter(|pid| !pid.is_empty()));
    diagnose_failed_start(&host, "", &["fixture", &pid]);
}

#[test]
fn port_is_in_use_by_another_container() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("first", &["-p", "127.0.0.1:18099:80", "app:1", "fixture", "httpd", "--port", "80"]);
    diagnose_failed_start(&host, "container", &["first"]);
    // the port is free, and the container is started after the plan
    host.docker(&["rm", "-f", "first"]);
    host.fix_meanwhile("container.start", "web", &[], || _ = host.docker(&["start", "web"])).exits(11);
    host.docker(&["rm", "-f", "web"]);
    host.run("first", &["-p", "127.0.0.1:18099:80", "app:1", "fixture", "httpd", "--port", "80"]);
    diagnose_failed_start(&host, "container", &["first"]);
    host.docker(&["rm", "-f", "first"]);
    host.fix("container.start", "web", &[]).exits(0);
    host.diagnose().roots(&[]);
}
