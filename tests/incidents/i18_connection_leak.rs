//! An application leaves transactions open until no connection is left (scenario 18).

use crate::lab::{DATABASE, Host};

const IDLE: &str = "postgres.idle-in-tx postgres:127.0.0.1:5432";
const CONNECTIONS: &str = "postgres.connections postgres:127.0.0.1:5432";

#[test]
fn the_open_transactions_are_the_root_and_it_is_not_called_down() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("max_connections = 20");
    host.ask(&["postgres"]).roots(&[]);
    for i in 0..15 {
        host.session(&format!("leak{i}"), "BEGIN; SELECT 1");
    }
    host.session("web1", "SELECT 1");
    host.session("web2", "SELECT 1");
    let refused = host.sh("psql -h /run/postgresql -U app shop -c 'SELECT 1' 2>&1 || true");
    assert!(refused.contains("remaining connection slots are reserved"), "{refused}");
    // an idle second tells a leak from the moment between two statements
    host.sh("sleep 2");
    let run = host.ask(&["postgres"]);
    run.roots(&[IDLE]).explains(IDLE, CONNECTIONS).must_not(&["postgres.up", "postgres.blocked"]);
    run.says(CONNECTIONS, &["17 of 17", "3 reserved", "idle in transaction"]).says(IDLE, &["15 of the 17"]);
    // nobody waits for any of them: which one to end is not for a tool to say
    run.offers_no("pg.terminate-idle", "postgres:127.0.0.1:5432");
    host.leaves(&run, "");

    // when not even the reserve is left, the titles of its processes still tell
    crate::lab::eventually(30, "no connection is left", || {
        host.spawn(
            "setpriv",
            &[
                "--reuid",
                "postgres",
                "--clear-groups",
                "--regid",
                "postgres",
                "psql",
                "-h",
                "/run/postgresql",
                "-c",
                "SELECT 1",
                "-c",
                "\\! sleep 600",
            ],
        );
        let said = host
            .sh("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -c 'SELECT 1' 2>&1 || true");
        said.contains("too many clients").then_some(())
    });
    let full = host.ask(&["postgres"]);
    full.roots(&[IDLE]).must(&[CONNECTIONS]).says(CONNECTIONS, &["not even a reserved one", "app shop idle in transaction: 15"]);
    full.verdict("postgres.up", "postgres:127.0.0.1:5432", "ok");
    host.leaves(&full, "full");
}

#[test]
fn behind_nginx_the_leak_is_the_root_of_what_users_see() {
    const RATE: &str = "nginx.5xx-rate nginx:127.0.0.1:80";
    const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1/health/";
    const FRONT: &str = "healthcheck.content endpoint:http://127.0.0.1/front";
    let Some(host) = Host::with_servers(&["psql", "nginx", "curl", "python3"]) else { return };
    host.postgres("max_connections = 20");
    host.application(&[DATABASE]);
    let asked = ["postgres", "nginx", "healthcheck"];
    host.ask(&asked).roots(&[]);
    for i in 0..17 {
        host.session(&format!("leak{i}"), "BEGIN; SELECT 1");
    }
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/; done > /dev/null; sleep 1");
    let run = host.ask(&asked);
    run.must(&[HEALTH]).roots(&[IDLE]).explains(IDLE, CONNECTIONS).explains(CONNECTIONS, RATE).explains(CONNECTIONS, FRONT);
    run.says(HEALTH, &["503"]).must_not(&[
        "postgres.up",
        "postgres.blocked",
        "nginx.upstream-unreachable",
        "nginx.upstream-stale-ip",
    ]);
    assert!(!run.stdout.contains("canary"));
    host.leaves(&run, "nginx");
}
