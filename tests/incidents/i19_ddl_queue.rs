//! An idle session blocks a migration that blocks all other sessions (scenario 19).

use crate::lab::{Host, eventually};

const IDLE: &str = "postgres.idle-in-tx postgres:127.0.0.1:5432";
const BLOCKED: &str = "postgres.blocked postgres:127.0.0.1:5432";

/// A host with ten sessions blocked by a migration that an idle session blocks.
fn lock_queue() -> Option<Host> {
    let host = Host::with_servers(&["psql"])?;
    host.postgres("");
    // the default of ten seconds is too long for a test
    host.configure("[runbooks.postgres]\npile_up_s = 1.0\n");
    host.session("setup", "CREATE TABLE t (a int)");
    host.session("holder", "BEGIN; SELECT * FROM t");
    host.session("migration", "ALTER TABLE t ADD b int");
    for i in 0..10 {
        host.session(&format!("reader{i}"), "SELECT * FROM t WHERE a = 'canary'::text::int");
    }
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > interval '1.2 s'";
    eventually(30, "eleven sessions wait", || (host.psql(waiting) == "11").then_some(()));
    Some(host)
}

#[test]
fn idle_session_is_the_root_and_is_terminated() {
    let Some(host) = lock_queue() else { return };
    let holder = host.backend("holder");
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[IDLE]).explains(IDLE, BLOCKED).must_not(&["postgres.connections", "postgres.deadlocks", "postgres.up"]);
    let pid = format!("pid {holder}");
    run.mentions(IDLE, &[&pid, "11 sessions wait"]).mentions(BLOCKED, &[&pid, "ALTER TABLE t ADD b int"]);
    host.leaves(&run, "");
    assert!(!run.stdout.contains("canary"), "literals of statements may be personal data");

    host.fix("pg.terminate-idle", "127.0.0.1:5432", &["--dry-run"]).exits(10);
    assert_eq!(host.backend("holder"), holder);
    host.fix("pg.terminate-idle", "127.0.0.1:5432", &[]).exits(0);
    assert_eq!(host.backend("holder"), "", "only the root was terminated");
    assert_ne!(host.backend("migration"), "");
    host.run_runbooks(&["postgres"]).roots(&[]);
}

#[test]
fn session_that_ends_during_the_fix_is_not_terminated() {
    // before and after the recheck; after it, the statement itself detects the change
    for (failpoint, code) in [("before-recheck", 11), ("after-confirm", 12)] {
        let Some(host) = lock_queue() else { return };
        let holder = host.backend("holder");
        let ends = || {
            host.psql(&format!("SELECT pg_terminate_backend({holder})"));
            eventually(30, "the holder has ended", || host.backend("holder").is_empty().then_some(()));
        };
        host.fix_paused(failpoint, &["pg.terminate-idle", "127.0.0.1:5432"], ends).exits(code);
        assert_ne!(host.backend("migration"), "", "no other session was terminated");
    }
}

#[test]
fn timeout_of_the_role_is_set_and_reverted() {
    let Some(host) = lock_queue() else { return };
    let fix = host.fix("pg.set-guard", "127.0.0.1:5432", &[]);
    fix.exits(0);
    let setting = "SELECT rolconfig FROM pg_roles WHERE rolname = 'app'";
    assert!(host.psql(setting).contains("idle_in_transaction_session_timeout=10min"), "{}", host.psql(setting));
    let entry = fix.stdout.split("opsctl undo ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    host.opsctl(&["undo", entry, "--yes"]).exits(0);
    assert_eq!(host.psql(setting), "");
}
