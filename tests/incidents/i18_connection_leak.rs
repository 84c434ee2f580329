//! An application leaves transactions open until no connection is left (scenario 18).

use crate::lab::{DATABASE, Host};

const IDLE: &str = "postgres.idle-in-tx postgres:127.0.0.1:5432";
const CONNECTIONS: &str = "postgres.connections postgres:127.0.0.1:5432";

#[test]
fn idle_transactions_are_the_root_and_postgres_is_up() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("max_connections = 20");
    host.run_runbooks(&["postgres"]).roots(&[]);
    for i in 0..15 {
        host.session(&format!("leak{i}"), "BEGIN; SELECT 1");
    }
    host.session("web1", "SELECT 1");
    host.session("web2", "SELECT 1");
    let refused = host.sh("psql -h /run/postgresql -U app shop -c 'SELECT 1' 2>&1 || true");
    assert!(refused.contains("remaining connection slots are reserved"), "{refused}");
    // one idle second distinguishes a leak from the time between two statements
    host.sh("sleep 2");
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[IDLE]).explains(IDLE, CONNECTIONS).must_not(&["postgres.up", "postgres.blocked"]);
    run.mentions(CONNECTIONS, &["17 of 17", "3 reserved", "idle in transaction"]).mentions(IDLE, &["15 of the 17"]);
    // none of them blocks another session: no criterion selects one to terminate
    run.offers_no("pg.terminate-idle", "postgres:127.0.0.1:5432");
    host.leaves(&run, "");

    // without a free reserved connection, the process titles still show the state of the sessions
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
        let error = host
            .sh("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -c 'SELECT 1' 2>&1 || true");
        error.contains("too many clients").then_some(())
    });
    let full = host.run_runbooks(&["postgres"]);
    full.roots(&[IDLE])
        .must(&[CONNECTIONS])
        .mentions(CONNECTIONS, &["not even a reserved one", "app shop idle in transaction: 15"]);
    full.verdict("postgres.up", "postgres:127.0.0.1:5432", "ok");
    host.leaves(&full, "full");
}

#[test]
fn idle_transactions_are_the_root_of_5xx_responses_of_nginx() {
    const RATE: &str = "nginx.5xx-rate nginx:127.0.0.1:80";
    const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1/health/";
    const FRONT: &str = "healthcheck.content endpoint:http://127.0.0.1/front";
    let Some(host) = Host::with_servers(&["psql", "nginx", "curl", "python3"]) else { return };
    host.postgres("max_connections = 20");
    host.application(&[DATABASE]);
    let runbooks = ["postgres", "nginx", "healthcheck"];
    host.run_runbooks(&runbooks).roots(&[]);
    for i in 0..17 {
        host.session(&format!("leak{i}"), "BEGIN; SELECT 1");
    }
    host.sh("for i in $(seq 12); do curl -s http://127.0.0.1/health/; done > /dev/null; sleep 1");
    let run = host.run_runbooks(&runbooks);
    run.must(&[HEALTH]).roots(&[IDLE]).explains(IDLE, CONNECTIONS).explains(CONNECTIONS, RATE).explains(CONNECTIONS, FRONT);
    run.mentions(HEALTH, &["503"]).must_not(&[
        "postgres.up",
        "postgres.blocked",
        "nginx.upstream-unreachable",
        "nginx.upstream-stale-ip",
    ]);
    assert!(!run.stdout.contains("canary"));
    host.leaves(&run, "nginx");
}
