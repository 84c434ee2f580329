//! Control: Redis with blocked clients, and a worker with ETA tasks (N9, trap 17). The fragmentation ratio is high at a few MiB.

use crate::lab::{Host, eventually};

#[test]
fn blocked_clients_and_eta_tasks_are_ok() {
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &[]);
    host.send("quick 200 0 1800");
    eventually(60, "the worker has the tasks", || (host.broker(&["LLEN", "celery"]) == "0").then_some(()));
    for _ in 0..3 {
        host.docker(&["exec", "-d", "cache", "redis-cli", "BRPOP", "nothing", "0"]);
    }
    // the worker itself is a blocked client from time to time
    let waiting = |info: &str| info.lines().find_map(|l| l.strip_prefix("blocked_clients:")?.trim().parse::<u32>().ok());
    eventually(30, "three clients are blocked", || (waiting(&host.broker(&["INFO", "clients"])) >= Some(3)).then_some(()));
    let run = host.run_runbooks(&["container", "redis", "celery"]);
    run.roots(&[]);
    run.verdict("celery.queues", "celery:cache", "ok").verdict("celery.workers", "host", "ok");
    for check in ["redis.up", "redis.memory", "redis.clients"] {
        run.verdict(check, "redis:cache", "ok");
    }
    host.leaves(&run, "");
}
