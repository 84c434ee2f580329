//! nginx proxies to the old address of a recreated upstream (scenario 29; dify#40448, sentry self-hosted#4492). It resolves names at load
//! time only: first the address belongs to another service, which returns 200, then to none.

use crate::lab::Host;

const STALE: &str = "nginx.upstream-stale-ip nginx:edge";
const RATE: &str = "nginx.5xx-rate nginx:edge";

#[test]
fn recreated_upstream_is_found_while_its_old_address_is_reused_and_unused() {
    let Some(host) = Host::with_edge() else { return };
    host.service("b2", "old");
    host.nginx_container(
        "edge",
        &[],
        "server { listen 80; location / { proxy_pass http://b2:8080; proxy_connect_timeout 2s; } }",
    );
    let edge = format!("http://{}/health", host.address("edge"));
    assert_eq!(host.curl(&edge), "old 200");
    host.run_runbooks(&["nginx", "container"]).must_not(&["nginx."]);

    let before = host.address("b2");
    host.docker(&["rm", "-f", "b2"]);
    host.service("thief", "THIEF");
    assert_eq!(host.address("thief"), before, "the thief has the address");
    host.service("b2", "new");
    assert_eq!(host.curl(&edge), "THIEF 200");

    let run = host.run_runbooks(&["nginx", "container"]);
    run.roots(&[STALE]).must_not(&["nginx.config-test", "container.down", "nginx.upstream-unreachable"]);
    run.mentions(STALE, &["for b2:8080 to", "now the address of thief", "b2 was started", "connections to the old address"]);
    assert_eq!(run.finding(STALE).severity.to_string(), "crit");
    host.leaves(&run, "thief");

    // the second phase: the old address is unused
    host.docker(&["rm", "-f", "thief"]);
    let got = host.sh(&format!("for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}} ' -m 20 {edge} & done; wait"));
    assert_eq!(got.matches("502").count() + got.matches("504").count(), 12, "{got}");
    let run = host.run_runbooks(&["nginx", "container"]);
    run.roots(&[STALE]).explains(STALE, RATE).must_not(&["nginx.config-test", "container.down"]);
    run.mentions(STALE, &["now unused"]);
    host.leaves(&run, "");

    // the configuration is edited after the plan, and is invalid
    let site = host.path("nginx-edge/conf.d/site.conf");
    let valid = std::fs::read_to_string(&site).unwrap();
    host.fix_meanwhile("nginx.reload", "edge", &[], || std::fs::write(&site, "server {").unwrap()).exits(11);
    std::fs::write(&site, valid).unwrap();
    host.fix("nginx.reload", "edge", &[]).exits(0);
    assert_eq!(host.curl(&edge), "new 200");
    host.run_runbooks(&["nginx"]).must_not(&["nginx.upstream-stale-ip", "nginx.config-not-loaded"]);
}
