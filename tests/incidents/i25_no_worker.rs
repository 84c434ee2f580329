//! A queue with tasks and without a worker (scenario 25).

use crate::lab::{Host, eventually};

const NO_CONSUMER: &str = "celery.no-consumer queue:celery";
const BACKLOG: &str = "celery.backlog queue:celery";

#[test]
fn missing_worker_is_the_root_and_its_unacked_task_is_reported() {
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &[]);
    host.send("nap 1 0 0 3000");
    eventually(30, "the worker has its task", || (host.broker(&["HLEN", "unacked"]) == "1").then_some(()));
    host.docker(&["kill", "worker"]);
    host.send("quick 1200");
    let run = host.run_runbooks(&["container", "redis", "celery"]);
    run.roots(&[NO_CONSUMER]).explains(NO_CONSUMER, BACKLOG).must_not(&["celery.stalled", "redis."]);
    run.mentions(NO_CONSUMER, &["1 200 tasks wait", "worker containers that do not run: worker"]);
    run.must(&["celery.unacked-orphans celery:cache"]);
    host.leaves(&run, "");

    // a missing worker is explained by the restart loop of its container
    host.docker(&["rm", "worker"]);
    let broken = ["--network", "app", "--restart", "always", "-e", "BROKER_URL=redis://cache:6379/1"];
    host.celery("worker", &broken, &["worker", "--no-such-option"]);
    eventually(60, "the worker is in a restart loop", || {
        host.inspect("worker", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
    let run = host.run_runbooks(&["container", "redis", "celery"]);
    run.roots(&["container.restart-loop container:worker"]).explains("container.restart-loop container:worker", NO_CONSUMER);
    host.leaves(&run, "loop");
}

#[test]
fn queue_without_a_subscribed_worker_has_no_consumer() {
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &["-Q", "mail"]);
    host.send("quick 5");
    // a worker that connected just now has a grace period
    let run = eventually(30, "the missing consumer is reported", || {
        let run = host.run_runbooks(&["container", "redis", "celery"]);
        run.has(NO_CONSUMER).then_some(run)
    });
    run.roots(&[NO_CONSUMER]).mentions(NO_CONSUMER, &["5 tasks wait", "consume other queues"]);
    host.leaves(&run, "other-queue");
}
