//! Somebody stops Redis: Celery has no broker, and the application says so (scenario 21).

use crate::lab::{Host, MACHINE};

#[test]
fn the_stopped_cache_is_the_root_and_celery_is_unknown() {
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &[]);
    let web = ["--network", "app", "-e", "CACHE_URL=redis://cache:6379/0"];
    host.run("web", &[&web, MACHINE, &["machine:1", "sleep", "infinity"]].concat());
    host.ask(&["container", "redis", "celery"]).roots(&[]);
    host.docker(&["stop", "cache"]);
    let run = host.ask(&["container", "healthcheck", "redis", "celery", "postgres"]);
    run.roots(&["redis.up redis:cache"]).must_not(&["celery.", "postgres.", "container."]);
    run.says("redis.up redis:cache", &["stopped by hand", "needed by: web", "exit code 0"]);
    let queues = run.check("celery.queues", "celery:cache");
    assert_eq!(queues.verdict, "unknown");
    assert!(queues.reason.as_ref().is_some_and(|r| r.contains("the broker cache does not run")), "{:?}", queues.reason);
}
