//! Advisory locks: sessions that wait for their turn as the leader of an application.
//!
//! PostgreSQL, "Advisory Locks": a lock of the session is kept until the session ends, outside of transactions too. Instances of one
//! application elect a leader by it (electric-sql/electric, "Consolidate advisory lock"; skypilot-org/skypilot#10347; timescale,
//! prometheus-postgresql-adapter#91): the others wait until the leader ends, for hours and on purpose. A lock that is left behind
//! looks alike (nicolastakashi/prom-analytics-proxy#585), therefore it is information and not nothing.

use std::collections::BTreeSet;

use super::backend::Backend;
use super::lock_tree::{Tree, session_of};

/// Whether all of these sessions wait for an advisory lock.
pub(super) fn all_advisory(sessions: &[Backend], waiters: &BTreeSet<i32>) -> bool {
    let is_advisory = |pid: &i32| session_of(sessions, *pid).is_some_and(Backend::waits_for_advisory_lock);
    !waiters.is_empty() && waiters.iter().all(is_advisory)
}

/// Whether the sessions behind `root` are standbys of its own application: all wait for an advisory lock that it keeps outside of
/// its transaction, and no session waits for one of them in another way.
pub(super) fn is_election(sessions: &[Backend], tree: &Tree, root: i32) -> bool {
    let waiters = tree.waiters(root);
    let Some(leader) = session_of(sessions, root).filter(|_| all_advisory(sessions, &waiters)) else { return false };
    let waiting: Vec<&Backend> = waiters.iter().filter_map(|pid| session_of(sessions, *pid)).collect();
    let longest_s = waiting.iter().filter_map(|w| w.query_s).fold(0.0, f64::max);
    keeps_beyond_transaction(leader, longest_s) && waiting.iter().all(|w| is_same_application(leader, w))
}

/// The lock is one of the session: the session is idle, or its transaction began after the wait. `pg_locks` does not distinguish
/// the two.
fn keeps_beyond_transaction(leader: &Backend, longest_wait_s: f64) -> bool {
    match leader.state.as_deref() {
        Some("idle") => true,
        Some(_) => leader.xact_s < longest_wait_s,
        None => false,
    }
}

/// The same role and database, and the same `application_name` or the same statement: some applications put the name of their
/// instance into `application_name`.
fn is_same_application(a: &Backend, b: &Backend) -> bool {
    a.role.is_some() && a.role == b.role && a.db == b.db && (a.app == b.app || (a.query == b.query && !a.query.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(pid: i32, app: &str, state: &str, blocked_by: Option<Vec<i32>>) -> Backend {
        let waits = blocked_by.is_some();
        Backend {
            pid,
            role: Some("app".into()),
            db: Some("shop".into()),
            app: Some(app.into()),
            state: Some(state.into()),
            query_s: Some(900.0),
            xact_s: if waits { 900.0 } else { 0.0 },
            waits_for: waits.then(|| "Lock".into()),
            wait_event: waits.then(|| "advisory".into()),
            query: "SELECT pg_advisory_lock(1)".into(),
            blocked_by,
            ..Backend::default()
        }
    }

    fn election(sessions: &[Backend]) -> bool {
        is_election(sessions, &Tree::of(sessions), 1)
    }

    #[test]
    fn standbys_of_an_idle_leader() {
        // the second standby waits for the first as well
        let two = |leader| [leader, backend(2, "job", "active", Some(vec![1])), backend(3, "job", "active", Some(vec![1, 2]))];
        assert!(election(&two(backend(1, "job", "idle", None))));
        // a heartbeat of the leader, in a transaction of its own
        assert!(election(&two(Backend { xact_s: 0.2, query: "SELECT 1".into(), ..backend(1, "job", "active", None) })));
        // the transaction is as old as the wait: it may hold the lock
        assert!(!election(&two(Backend { xact_s: 901.0, ..backend(1, "job", "idle in transaction", None) })));
        assert!(!election(&two(Backend { state: None, ..backend(1, "job", "idle", None) })), "not readable");
    }

    #[test]
    fn instances_by_statement() {
        let named = |pid, app, blocked_by| backend(pid, app, "active", blocked_by);
        let leader = || Backend { state: Some("idle".into()), ..named(1, "job-web-1", None) };
        assert!(election(&[leader(), named(2, "job-web-2", Some(vec![1]))]));
        let beat = Backend { query: "SELECT 1".into(), ..leader() };
        assert!(!election(&[beat, named(2, "report", Some(vec![1]))]), "another application");
    }

    #[test]
    fn standby_that_blocks_another_session_is_a_fault() {
        let behind = Backend { wait_event: Some("relation".into()), ..backend(3, "job", "active", Some(vec![2])) };
        let sessions = [backend(1, "job", "idle", None), backend(2, "job", "active", Some(vec![1])), behind];
        assert!(!election(&sessions));
        assert!(!election(&[backend(1, "job", "idle", None)]), "no session waits");
    }
}
