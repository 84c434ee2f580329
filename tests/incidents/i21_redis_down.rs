//! Redis is stopped by hand (scenario 21). Celery has no broker, `/health/` of the application returns 503, and its frontend returns 200 with
//! an error page.

use crate::lab::{Host, installed};

const REDIS: &str = "redis.up redis:cache";
const RATE: &str = "nginx.5xx-rate nginx:edge";

#[test]
fn stopped_redis_is_the_root_and_celery_is_unknown() {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    let Some(host) = Host::with_broker() else { return };
    host.worker("worker", &[]);
    host.app_container("web", &["CACHE_URL=redis://cache:6379/0"]);
    host.nginx_container("edge", &["-p", "127.0.0.1:80:80"], "server { listen 80; location / { proxy_pass http://web:8000; } }");
    host.configure(
        "[[endpoint]]\nurl = \"http://127.0.0.1/health/\"\nproves = \"deep health\"\n\
         [[endpoint]]\nurl = \"http://127.0.0.1/front\"\nexpect_body = \"Welcome\"\nproves = \"frontend only\"\n",
    );
    let runbooks = ["container", "healthcheck", "redis", "celery", "nginx", "postgres"];
    let health = "healthcheck.http endpoint:http://127.0.0.1/health/";
    let front = "healthcheck.content endpoint:http://127.0.0.1/front";
    host.run_runbooks(&runbooks).roots(&[]);

    host.docker(&["stop", "cache"]);
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/ > /dev/null & done; wait");
    assert_eq!(host.curl("http://127.0.0.1/front"), "something went wrong 200", "the error page has status 200");
    let run = host.run_runbooks(&runbooks);
    run.must(&[health, front, RATE]).roots(&[REDIS]).traces(REDIS, health).traces(REDIS, front).traces(REDIS, RATE);
    run.must_not(&["celery.", "postgres.", "container.", "nginx.upstream-unreachable", "nginx.upstream-stale-ip"]);
    run.mentions(REDIS, &["stopped by hand", "needed by: web", "exit code 0"])
        .mentions(health, &["503"])
        .mentions(front, &["Welcome"]);
    run.verdict("celery.queues", "celery:cache", "unknown");
    let reason = run.check("celery.queues", "celery:cache").reason.clone();
    assert!(reason.as_ref().is_some_and(|r| r.contains("the broker cache does not run")), "{reason:?}");
    host.leaves(&run, "");

    // started by hand
    host.docker(&["start", "cache"]);
    host.until_redis("cache");
    let run = host.run_runbooks(&runbooks);
    run.must_not(&["redis.", "celery.", "healthcheck."]);
}
