//! Celery on RabbitMQ, and Celery processes.

use crate::lab::{Host, eventually, installed};

#[test]
fn celery_on_rabbitmq_with_and_without_consumers() {
    if !installed(&["rabbitmq-server"]) {
        return;
    }
    let Some(host) = Host::with_broker() else { return };
    host.rabbit();
    host.celery(
        "worker",
        &["--network", "host", "-e", "BROKER_URL=amqp://guest:guest@127.0.0.1:5672//"],
        &["worker", "-c", "1", "-l", "warning"],
    );
    let consumers =
        ". /mnt/rmq/env; /usr/lib/rabbitmq/bin/rabbitmqctl -q list_queues name consumers | awk '$1 == \"celery\" {print $2}'";
    eventually(60, "the worker consumes", || (host.sh(consumers) == "1").then_some(()));
    let broker = "celery:127.0.0.1:5672";
    // a node reports its alarms some seconds after its start
    let all_read = || Some(host.run_runbooks(&["rabbitmq", "celery"])).filter(|run| run.code == 0);
    let run = eventually(60, "the node reports its statistics", all_read);
    run.roots(&[]);
    assert_eq!(run.check("celery.queues", broker).verdict, "ok", "{}", run.stdout);
    host.docker(&["rm", "-f", "worker"]);
    host.send_over("amqp://guest:guest@127.0.0.1:5672//", "quick 3");
    let none = "celery.no-consumer queue:celery";
    eventually(30, "the statistics have caught up", || host.run_runbooks(&["celery"]).has(none).then_some(()));
    let run = host.run_runbooks(&["celery", "rabbitmq"]);
    run.roots(&[none]).mentions(none, &["3 tasks wait"]).explains(none, "rabbitmq.queue queue:celery");
}

#[test]
fn two_beats_and_an_oom_killed_child_are_found() {
    let Some(host) = Host::with_broker() else { return };
    let broker = ["--network", "app", "-e", "BROKER_URL=redis://cache:6379/1"];
    let beat = ["beat", "-l", "warning", "-s", "/tmp/schedule"];
    host.celery("beat", &broker, &beat);
    // the main process is small and the last one to be killed
    let limited = [&broker[..], &["--memory", "160m", "--memory-swap", "160m"]].concat();
    host.celery("worker", &limited, &["worker", "-c", "1", "-l", "warning", "--prefetch-multiplier", "1"]);
    eventually(60, "the worker consumes tasks", || host.broker(&["CLIENT", "LIST"]).contains("cmd=brpop").then_some(()));
    host.run_runbooks(&["container", "celery"]).roots(&[]);
    host.celery("beat2", &broker, &beat);
    let doubled = |name: &str| format!("celery.beat container:{name}");
    eventually(60, "both are connected", || {
        let run = host.run_runbooks(&["celery"]);
        (run.has(&doubled("beat")) || run.has(&doubled("beat2"))).then_some(())
    });
    host.docker(&["rm", "-f", "beat2"]);
    host.docker(&["stop", "beat"]);
    host.run_runbooks(&["celery"]).must(&["celery.beat container:beat"]);
    host.docker(&["start", "beat"]);

    host.send("eat 1");
    let oom = "celery.worker-oom container:worker";
    eventually(60, "the child is killed", || host.run_runbooks(&["container", "celery"]).has(oom).then_some(()));
    let run = host.run_runbooks(&["container", "celery"]);
    run.explains("container.oom-killed container:worker", oom).must_not(&["container.down"]);
}
