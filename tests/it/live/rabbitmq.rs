//! Alarms of RabbitMQ, and the tools of a node.

use std::time::Duration;

use crate::lab::{Host, eventually, installed};

#[test]
fn alarm_that_blocks_publishers_is_found_with_and_without_the_api() {
    if !installed(&["rabbitmq-server"]) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.rabbit();
    let tool = |words: &str| host.sh(&format!(". /mnt/rmq/env; /usr/lib/rabbitmq/bin/{words} > /dev/null"));
    // a node reports its alarms some seconds after its start
    let all_read = || Some(host.run_runbooks(&["rabbitmq", "celery"])).filter(|run| run.code == 0);
    let run = eventually(60, "the node reports its statistics", all_read);
    run.roots(&[]);
    assert_eq!(run.check("rabbitmq.node", "rabbitmq:127.0.0.1:5672").verdict, "ok", "{}", run.stdout);
    // the data of the node before its hostname changed
    let old = "rabbitmq.old-node-data rabbitmq:127.0.0.1:5672";
    let store = "/mnt/rmq/mnesia/rabbit@9f6c1a0b7d3e/msg_stores/vhosts/x/msg_store_persistent";
    host.sh(&format!("mkdir -p {store}; head -c 2M /dev/zero > {store}/0.rdq; touch -d '1 hour ago' {store}/0.rdq"));
    host.run_runbooks(&["rabbitmq"])
        .roots(&[old])
        .mentions(old, &["2 MiB of messages of rabbit@9f6c1a0b7d3e", "rabbit@localhost"]);
    host.sh("rm -r /mnt/rmq/mnesia/rabbit@9f6c1a0b7d3e");
    tool("rabbitmqctl set_vm_memory_high_watermark 0.00001");
    let alarm = "rabbitmq.alarms rabbitmq:127.0.0.1:5672";
    // statistics are up to five seconds old
    eventually(30, "the alarm is reported", || host.run_runbooks(&["rabbitmq"]).has(alarm).then_some(()));
    let run = host.run_runbooks(&["rabbitmq"]);
    run.roots(&[alarm]).mentions(alarm, &["all publishers are blocked", "watermark", "the management API"]);
    assert_eq!(run.check("rabbitmq.up", "rabbitmq:127.0.0.1:5672").verdict, "ok", "the node is up and takes connections");
    tool("rabbitmq-plugins disable rabbitmq_management");
    // rabbitmqctl starts an Erlang VM, which may be slow on a busy machine
    let run = eventually(60, "the alarm is reported", || {
        let run = host.run_runbooks(&["rabbitmq"]);
        run.has(alarm).then_some(run)
    });
    run.roots(&[alarm]).mentions(alarm, &["rabbitmqctl"]);
    tool("rabbitmqctl set_vm_memory_high_watermark 0.4");
    host.run_runbooks(&["rabbitmq"]).roots(&[]);

    host.sh("kill -STOP $(pgrep -x beam.smp)");
    let run = host.run_runbooks(&["rabbitmq", "disk"]);
    assert!(run.took < Duration::from_secs(12), "took {:?}", run.took);
    let up = "rabbitmq.up rabbitmq:127.0.0.1:5672";
    run.roots(&[up]).mentions(up, &["did not answer", "state T"]);
}

/// Erlang programs start a port mapper if there is none. A diagnosis starts no daemon.
#[test]
fn querying_the_node_s_tools_starts_no_daemon() {
    if !installed(&["rabbitmq-server"]) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.sh("cp /run/lab/fixture /mnt/beam.smp");
    let node = ["faulty", "management", "absent", "--bind", "127.0.0.1", "--port", "15999", "-s", "rabbit", "boot"];
    host.spawn("/mnt/beam.smp", &node);
    eventually(30, "it listens", || host.sh("ss -Hltn").contains(":5672 ").then_some(()));
    let run = host.run_runbooks(&["rabbitmq"]);
    let node = run.check("rabbitmq.node", "rabbitmq:127.0.0.1:5672");
    assert!(
        node.reason.as_ref().is_some_and(|r| r.contains("rabbitmq-diagnostics")),
        "the tools of the node were not run: {}",
        run.stdout
    );
    host.sh("! pgrep -x epmd");
}
