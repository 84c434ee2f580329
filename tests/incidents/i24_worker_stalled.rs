//! A worker that is alive and takes nothing (scenario 24; celery#8030, #9054, #10205).

use crate::lab::{Host, eventually};

const STALLED: &str = "celery.stalled queue:celery";

/// A host whose worker has one long task under way.
fn busy() -> Option<Host> {
    let host = Host::with_broker()?;
    host.worker("worker", &[]);
    host.ask(&["redis", "celery"]).roots(&[]);
    host.send("nap 1 0 0 3000");
    eventually(30, "the worker has its task", || (host.broker(&["HLEN", "unacked"]) == "1").then_some(()));
    Some(host)
}

#[test]
fn a_stopped_worker_is_stalled_and_a_restart_helps() {
    let Some(host) = busy() else { return };
    let pid = host.inspect("worker", "{{.State.Pid}}");
    host.sh(&format!("kill -STOP {pid}"));
    // half of them where LLEN celery does not count
    host.send("quick 25");
    host.send("quick 25 3");
    assert_eq!(host.broker(&["LLEN", "celery"]), "25");
    let run = host.ask(&["container", "redis", "celery"]);
    run.roots(&[STALLED]).must_not(&["celery.no-consumer", "redis.", "container."]);
    run.says(STALLED, &["50 tasks wait", "state T", "tasks.quick", "at other priorities: 25", "celery 5.", "kombu 5."]);
    host.leaves(&run, "");

    host.fix("celery.restart-worker", "celery", &["--dry-run"]).exits(10);
    assert_eq!(host.inspect("worker", "{{.State.Pid}}"), pid);
    host.fix("celery.restart-worker", "celery", &[]).exits(0);
    assert_ne!(host.inspect("worker", "{{.State.Pid}}"), pid);
    eventually(60, "the tasks are done", || (host.broker(&["LLEN", "celery"]) == "0").then_some(()));
    host.ask(&["celery"]).must_not(&["celery."]);
}

#[test]
fn a_worker_that_is_cut_off_is_stalled() {
    let Some(host) = busy() else { return };
    let pid = host.inspect("worker", "{{.State.Pid}}");
    let broker = host.inspect("cache", "{{(index .NetworkSettings.Networks \"app\").IPAddress}}");
    host.sh(&format!(
        "nsenter -t {pid} -n nft 'add table ip cut; add chain ip cut in {{ type filter hook input priority 0; }}; add chain ip cut out {{ type filter hook output priority 0; }}; \
         add rule ip cut in ip saddr {broker} drop; add rule ip cut out ip daddr {broker} drop'"
    ));
    host.send("quick 30");
    eventually(60, "the broker waits for acknowledgements", || host.ask(&["celery"]).has(STALLED).then_some(()));
    let run = host.ask(&["container", "redis", "celery"]);
    run.roots(&[STALLED]).says(STALLED, &["not acknowledged"]).must_not(&["celery.no-consumer", "redis."]);
    host.leaves(&run, "cut-off");
    // somebody starts it anew meanwhile, with a network of its own: the plan was for another one
    let again = || _ = host.docker(&["restart", "-t", "0", "worker"]);
    host.fix_meanwhile("celery.restart-worker", "celery", &[], again).exits(11);
}

#[test]
fn a_paused_worker_is_explained_by_the_pause() {
    let Some(host) = busy() else { return };
    host.docker(&["pause", "worker"]);
    host.send("quick 5");
    let run = host.ask(&["container", "celery"]);
    run.roots(&["container.paused container:worker"]).explains("container.paused container:worker", STALLED);
    host.leaves(&run, "paused");
    host.fix("celery.restart-worker", "celery", &[]).exits(15);
    host.docker(&["unpause", "worker"]);
}
