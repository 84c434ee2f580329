//! An application without a required variable is restarted in a loop.

use crate::lab::{Host, Rootfs, eventually};

const LOOP: &str = "container.restart-loop container:worker";

#[test]
fn restart_loop_shows_the_last_log_lines() {
    let Some(host) = Host::start() else { return };
    host.image("worker:1", Rootfs::Scratch, &[]);
    host.run("worker", &["--restart", "always", "worker:1", "fixture", "say", "KeyError: DATABASE_URL", "3"]);
    eventually(60, "it was restarted five times", || {
        host.inspect("worker", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
    let run = host.diagnose();
    run.must(&[LOOP]).roots(&[LOOP]).mentions(LOOP, &["3", "KeyError: DATABASE_URL"]);
    run.must_not(&["container.oom-killed", "container.down", "container.start-failed"]);
    // the engine restarts it already
    run.offers_no("container.restart", "container:worker");
    host.leaves(&run, "");

    // the container is recreated after the plan: another container with the same name
    let again = || {
        host.docker(&["rm", "-f", "worker"]);
        host.run("worker", &["--restart", "always", "worker:1", "fixture", "say", "KeyError: DATABASE_URL", "3"]);
        eventually(60, "it was restarted five times", || {
            host.inspect("worker", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
        });
    };
    host.fix_meanwhile("container.stop-loop", "worker", &[], again).exits(11);
    assert_eq!(host.inspect("worker", "{{.HostConfig.RestartPolicy.Name}}"), "always");
    // a further restart after the plan is part of the same loop
    let restarts = || host.inspect("worker", "{{.RestartCount}}").parse::<u32>().unwrap();
    let before = restarts();
    let restarted = || eventually(60, "it was restarted once more", || (restarts() > before).then_some(()));
    host.fix_meanwhile("container.stop-loop", "worker", &[], restarted).exits(0);
    assert_eq!(host.inspect("worker", "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}"), "false no");
    host.diagnose().must_not(&["container.restart-loop"]);
}

#[test]
fn restart_loop_is_the_root_of_an_unreachable_upstream_of_nginx() {
    const UNREACHABLE: &str = "nginx.upstream-unreachable nginx:edge";
    let Some(host) = Host::with_edge() else { return };
    host.service("worker", "ok");
    host.nginx_container("edge", &[], "server { listen 80; location / { proxy_pass http://worker:8080; } }");
    host.docker(&["rm", "-f", "worker"]);
    let policy = ["--network", "app", "--restart", "always", "svc:1", "/bin/fixture", "say", "KeyError: DATABASE_URL", "3"];
    host.run("worker", &policy);
    eventually(60, "it was restarted five times", || {
        host.inspect("worker", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
    let run = host.run_runbooks(&["container", "nginx"]);
    run.must(&[LOOP, UNREACHABLE]).roots(&[LOOP]).explains(LOOP, UNREACHABLE);
    run.must_not(&["container.oom-killed", "container.down", "nginx.upstream-stale-ip"]);
    host.leaves(&run, "nginx");
}
