//! A worker runs and consumes no tasks (scenario 24; celery#8030, #9054, #10205).

use crate::lab::{Host, eventually};

const STALLED: &str = "celery.stalled queue:celery";

/// A host with a worker that executes one long task.
fn busy_worker() -> Option<Host> {
    let host = Host::with_broker()?;
    host.worker("worker", &[]);
    host.run_runbooks(&["redis", "celery"]).roots(&[]);
    host.send("nap 1 0 0 3000");
    eventually(30, "the worker has its task", || (host.broker(&["HLEN", "unacked"]) == "1").then_some(()));
    Some(host)
}

#[test]
fn stopped_worker_is_stalled_and_is_restarted() {
    let Some(host) = busy_worker() else { return };
    let pid = host.inspect("worker", "{{.State.Pid}}");
    host.sh(&format!("kill -STOP {pid}"));
    // half of them in a priority queue that `LLEN celery` does not count
    host.send("quick 25");
    host.send("quick 25 3");
    assert_eq!(host.broker(&["LLEN", "celery"]), "25");
    let run = host.run_runbooks(&["container", "redis", "celery"]);
    run.roots(&[STALLED]).must_not(&["celery.no-consumer", "redis.", "container."]);
    run.mentions(STALLED, &["50 tasks wait", "state T", "tasks.quick", "at other priorities: 25", "celery 5.", "kombu 5."]);
    host.leaves(&run, "");

    host.fix("celery.restart-worker", "celery", &["--dry-run"]).exits(10);
    assert_eq!(host.inspect("worker", "{{.State.Pid}}"), pid);
    host.fix("celery.restart-worker", "celery", &[]).exits(0);
    assert_ne!(host.inspect("worker", "{{.State.Pid}}"), pid);
    eventually(60, "the tasks are done", || (host.broker(&["LLEN", "celery"]) == "0").then_some(()));
    host.run_runbooks(&["celery"]).must_not(&["celery."]);
}

#[test]
fn disconnected_worker_is_stalled() {
    let Some(host) = busy_worker() else { return };
    let pid = host.inspect("worker", "{{.State.Pid}}");
    let broker = host.inspect("cache", "{{(index .NetworkSettings.Networks \"app\").IPAddress}}");
    host.sh(&format!(
        "nsenter -t {pid} -n nft 'add table ip cut; add chain ip cut in {{ type filter hook input priority 0; }}; add chain ip cut out {{ type filter hook output priority 0; }}; \
         add rule ip cut in ip saddr {broker} drop; add rule ip cut out ip daddr {broker} drop'"
    ));
    host.send("quick 30");
    eventually(60, "the broker waits for acknowledgements", || host.run_runbooks(&["celery"]).has(STALLED).then_some(()));
    let run = host.run_runbooks(&["container", "redis", "celery"]);
    run.roots(&[STALLED]).mentions(STALLED, &["not acknowledged"]).must_not(&["celery.no-consumer", "redis."]);
    host.leaves(&run, "cut-off");
    // the worker is restarted after the plan, with a new network namespace
    let restart = || _ = host.docker(&["restart", "-t", "0", "worker"]);
    host.fix_meanwhile("celery.restart-worker", "celery", &[], restart).exits(11);
}

#[test]
fn paused_worker_is_explained_by_the_pause() {
    let Some(host) = busy_worker() else { return };
    host.docker(&["pause", "worker"]);
    host.send("quick 5");
    let run = host.run_runbooks(&["container", "celery"]);
    run.roots(&["container.paused container:worker"]).explains("container.paused container:worker", STALLED);
    host.leaves(&run, "paused");
    host.fix("celery.restart-worker", "celery", &[]).exits(15);
    host.docker(&["unpause", "worker"]);
}
