//! Control: a Redis with waiting clients and a high ratio at a few megabytes, and a broker with a worker that waits for its time (N9, trap 17).

use crate::lab::{Host, eventually};

#[test]
fn waiting_clients_and_countdowns_are_no_finding() {
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &[]);
    host.send("quick 200 0 1800");
    eventually(60, "the worker has them", || (host.broker(&["LLEN", "celery"]) == "0").then_some(()));
    for _ in 0..3 {
        host.docker(&["exec", "-d", "cache", "redis-cli", "BRPOP", "nothing", "0"]);
    }
    // the worker waits in the same way, from time to time
    let waiting = |info: &str| info.lines().find_map(|l| l.strip_prefix("blocked_clients:")?.trim().parse::<u32>().ok());
    eventually(30, "clients wait", || (waiting(&host.broker(&["INFO", "clients"])) >= Some(3)).then_some(()));
    let run = host.ask(&["container", "redis", "celery"]);
    run.roots(&[]);
    run.verdict("celery.queues", "celery:cache", "ok").verdict("celery.workers", "host", "ok");
    for check in ["redis.up", "redis.memory", "redis.clients"] {
        run.verdict(check, "redis:cache", "ok");
    }
    host.leaves(&run, "");
}
