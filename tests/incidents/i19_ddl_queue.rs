//! A migration waits for a session that does nothing, and everybody waits for the migration (scenario 19).

use crate::lab::{Host, eventually};

const IDLE: &str = "postgres.idle-in-tx postgres:127.0.0.1:5432";
const BLOCKED: &str = "postgres.blocked postgres:127.0.0.1:5432";

/// A host with the queue, and how many wait in it.
fn queue() -> Option<Host> {
    let host = Host::with_servers(&["psql"])?;
    host.postgres("");
    // ten seconds are long for a test
    host.configure("[runbooks.postgres]\npile_up_s = 1.0\n");
    host.session("setup", "CREATE TABLE t (a int)");
    host.session("holder", "BEGIN; SELECT * FROM t");
    host.session("migration", "ALTER TABLE t ADD b int");
    for i in 0..10 {
        host.session(&format!("reader{i}"), "SELECT * FROM t WHERE a = 'canary'::text::int");
    }
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > interval '1.2 s'";
    eventually(30, "eleven wait", || (host.psql(waiting) == "11").then_some(()));
    Some(host)
}

#[test]
fn the_session_that_does_nothing_is_the_root_and_ending_it_frees_all() {
    let Some(host) = queue() else { return };
    let holder = host.backend("holder");
    let run = host.ask(&["postgres"]);
    run.roots(&[IDLE]).explains(IDLE, BLOCKED).must_not(&["postgres.connections", "postgres.deadlocks", "postgres.up"]);
    let pid = format!("pid {holder}");
    run.says(IDLE, &[&pid, "11 sessions wait"]).says(BLOCKED, &[&pid, "ALTER TABLE t ADD b int"]);
    host.leaves(&run, "");
    assert!(!run.stdout.contains("canary"), "literals of statements are other people's data");

    host.fix("pg.terminate-idle", "127.0.0.1:5432", &["--dry-run"]).exits(10);
    assert_eq!(host.backend("holder"), holder);
    host.fix("pg.terminate-idle", "127.0.0.1:5432", &[]).exits(0);
    assert_eq!(host.backend("holder"), "", "only the root was ended");
    assert_ne!(host.backend("migration"), "");
    host.ask(&["postgres"]).roots(&[]);
}

#[test]
fn a_session_that_ends_by_itself_meanwhile_changes_nothing() {
    // before the check is repeated, and after: then the statement itself sees it
    for (place, code) in [("before-recheck", 11), ("after-confirm", 12)] {
        let Some(host) = queue() else { return };
        let holder = host.backend("holder");
        let ends = || {
            host.psql(&format!("SELECT pg_terminate_backend({holder})"));
            eventually(30, "the holder is gone", || host.backend("holder").is_empty().then_some(()));
        };
        host.fix_paused(place, &["pg.terminate-idle", "127.0.0.1:5432"], ends).exits(code);
        assert_ne!(host.backend("migration"), "", "nobody else was ended");
    }
}

#[test]
fn a_timeout_for_the_role_is_set_and_taken_back() {
    let Some(host) = queue() else { return };
    let fix = host.fix("pg.set-guard", "127.0.0.1:5432", &[]);
    fix.exits(0);
    let setting = "SELECT rolconfig FROM pg_roles WHERE rolname = 'app'";
    assert!(host.psql(setting).contains("idle_in_transaction_session_timeout=10min"), "{}", host.psql(setting));
    let entry = fix.stdout.split("opsctl undo ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    host.opsctl(&["undo", entry, "--yes"]).exits(0);
    assert_eq!(host.psql(setting), "");
}
