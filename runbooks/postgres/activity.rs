//! Blocked queries, long queries, and transactions left open.

use std::collections::BTreeSet;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product,
    Refusal, Risk, Role, Severity,
    quantity::{count, seconds},
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::advisory::{all_advisory, is_election};
use super::backend::{Backend, Count, GUARDS, Guard, PREPARED_XACTS, PreparedXact, SESSIONS, UNSEEN, is_ddl, is_dump, processes};
use super::lock_tree::{Tree, session_of, tree_text};
use super::session::{rows, session, without_literals};
use super::{IDLE_IN_TX, Settings};
use crate::shared::servers::Server;

const BLOCKED: Code = Code {
    id: "postgres.blocked",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a query waits for a lock for {blocked_warn_s} (warn) or {blocked_crit_s} (crit); or {pile_up_warn} (warn) or {pile_up_crit} (crit) sessions wait for one transaction for {pile_up_s}; standbys of one application that wait for the advisory lock of its leader are info, {pile_up_crit} of them warn",
    hint: "check the root of the tree: sessions queued behind a blocked ALTER TABLE wait for the transaction that blocks the ALTER TABLE",
    impacts: &[Impact::likely(Role::Exhausted, KeyKind::Server, "database is blocked")],
    ..Code::BASE
};
const LONG_QUERY: Code = Code {
    id: "postgres.long-query",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a query has been running for {query_warn_s} (warn) or {query_crit_s} (crit); VACUUM, pg_dump and replication are excluded",
    hint: "check its plan with EXPLAIN; cancel it if its result is not needed",
    ..Code::BASE
};
const PREPARED: Code = Code {
    id: "postgres.prepared-xacts",
    severities: &[Severity::Warn],
    when: "a prepared transaction is older than 5 min: it holds its locks and retains dead rows until it is committed or rolled back",
    hint: "check its state in the transaction manager; then COMMIT PREPARED or ROLLBACK PREPARED",
    ..Code::BASE
};
const IDLE_GUARD: Code = Code {
    id: "postgres.idle-guard",
    severities: &[Severity::Info],
    when: "a role leaves transactions open and has no idle_in_transaction_session_timeout to terminate them",
    hint: "set a timeout for the role: new sessions that leave a transaction open are then terminated before they block others",
    ..Code::BASE
};

const TERMINATE_IDLE: FixSpec = FixSpec {
    id: "pg.terminate-idle",
    risk: Risk::R2,
    title: "terminate the one session that is idle in a transaction and blocks others",
};
const CANCEL: FixSpec =
    FixSpec { id: "pg.cancel", risk: Risk::R2, title: "cancel the one query that blocks others or runs too long" };
const SET_GUARD: FixSpec =
    FixSpec { id: "pg.set-guard", risk: Risk::R1, title: "set idle_in_transaction_session_timeout to 10 min for the role" };

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.activity",
    title: "PostgreSQL queries are not blocked",
    codes: &[IDLE_IN_TX, BLOCKED, LONG_QUERY, PREPARED, IDLE_GUARD],
    fixes: &[TERMINATE_IDLE, CANCEL, SET_GUARD],
    timeout: Duration::from_secs(9),
};

pub(super) struct Activity {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    sessions: Vec<Backend>,
    prepared: Vec<PreparedXact>,
    guards: Vec<Guard>,
    /// The login role may change settings of other roles.
    we_may_alter: bool,
    gaps: Vec<String>,
}

impl Check for Activity {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let mut gaps = Vec::new();
        let mut sessions: Vec<Backend> = rows(&session, "sessions", SESSIONS, &mut gaps).await;
        // a holder outside of a transaction
        let tree = Tree::of(&sessions);
        let unnamed: Vec<i32> =
            tree.roots().into_iter().filter(|pid| *pid > 0 && session_of(&sessions, *pid).is_none()).collect();
        if !unnamed.is_empty() {
            sessions.extend(rows::<Backend>(&session, "sessions", &processes(&unnamed), &mut gaps).await);
        }
        for s in &mut sessions {
            s.query = without_literals(&s.query);
        }
        let prepared = rows(&session, "prepared transactions", PREPARED_XACTS, &mut gaps).await;
        let unseen: Vec<Count> = rows(&session, "sessions", UNSEEN, &mut gaps).await;
        if unseen.first().is_some_and(|c| c.n > 0) {
            gaps.push(format!("role {0} may not read the sessions of other roles: `GRANT pg_monitor TO {0}`", session.user));
        }
        let mut e = Evidence { server: Server::of(cx, target)?, sessions, prepared, gaps, ..Evidence::default() };
        if self.idle(&e, &e.tree()).next().is_some() {
            e.guards = rows(&session, "roles", GUARDS, &mut e.gaps).await;
            e.we_may_alter = e.guards.iter().any(|g| g.role == session.user && g.superuser);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let tree = e.tree();
        let mut findings: Vec<Finding> = self.idle(e, &tree).map(|i| i.finding(judged, e)).collect();
        findings.extend(self.blocked(judged, e, &tree));
        findings.extend(e.sessions.iter().filter_map(|s| self.long(judged, e, s)));
        findings.extend(prepared(judged, e));
        findings.extend(self.unguarded(judged, e, &tree));
        Judgement { findings, gaps: e.gaps.clone(), facts: e.facts(), ..Judgement::default() }
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let server = judged.target.id.clone();
        if fix == SET_GUARD.id {
            let role = finding.evidence.iter().find(|c| c.label == "role").map(|c| c.value.clone()).unwrap_or_default();
            if role.is_empty() {
                return Err(Refusal::Precondition("the finding names no role".to_owned()));
            }
            if !e.we_may_alter {
                return Err(Refusal::Precondition("only a superuser may set it for another role".to_owned()));
            }
            let set = |value: Option<&str>| Action::PgSetRole {
                server: server.clone(),
                role: role.clone(),
                setting: "idle_in_transaction_session_timeout".to_owned(),
                value: value.map(str::to_owned),
            };
            return Ok(Plan::new(&SET_GUARD, &SPEC, finding, judged.target, vec![set(Some("10min"))])
                .undo(vec![set(None)])
                .affects([format!("sessions that {role} opens from now on lose a transaction that is left open for 10 min")]));
        }
        let identity = finding.keys.iter().find(|k| k.kind == KeyKind::Backend).map(|k| k.value.clone()).unwrap_or_default();
        let Some(backend) = e.sessions.iter().find(|s| s.identity() == identity) else {
            return Err(Refusal::Precondition("the session no longer exists".to_owned()));
        };
        if let Some(why) = self.protected(backend) {
            return Err(Refusal::Policy(why));
        }
        let label = backend.label();
        let plan = |spec: &FixSpec, action: Action| {
            Plan::new(spec, &SPEC, finding, judged.target, vec![action]).downtime("one session of one client")
        };
        if fix == TERMINATE_IDLE.id {
            if !backend.is_idle_in_tx() {
                return Err(Refusal::Precondition(format!("{label} is no longer idle in a transaction")));
            }
            if e.tree().waiters(backend.pid).is_empty() {
                return Err(Refusal::Precondition(format!(
                    "no session waits for {label}: only the root of a lock queue is terminated"
                )));
            }
            let action = Action::PgTerminateIdle { server, pid: backend.pid, started_us: backend.started_us, idle_ms: 2000 };
            return Ok(plan(&TERMINATE_IDLE, action)
                .affects([format!("{label}: its connection is closed and its open transaction rolled back")]));
        }
        if backend.state.as_deref() != Some("active") {
            return Err(Refusal::Precondition(format!("{label} no longer runs a query")));
        }
        if backend.waits_for_standby() {
            return Err(Refusal::Policy(format!(
                "{label} waits for a synchronous standby to confirm its commit: a cancel leaves it committed here and not there"
            )));
        }
        if backend.waits_for.as_deref() == Some("Client") {
            return Err(Refusal::Precondition(format!(
                "{label} waits for its client to read or send data: a cancel has no effect before that, end the client"
            )));
        }
        let action = Action::PgCancel { server, pid: backend.pid, started_us: backend.started_us };
        let invalid = backend.query.to_ascii_uppercase().contains(" CONCURRENTLY ");
        Ok(plan(&CANCEL, action)
            .affects([format!(
                "{label}: its query fails with an error and its transaction is rolled back, the connection stays open"
            )])
            .affects(invalid.then(|| "the index that it builds stays behind, invalid, and must be dropped".to_owned())))
    }
}

const STANDBYS_HINT: &str = "normal for the standbys of a leader election; if the holder no longer works, end its client: a migration that ended without its unlock, or a pool in transaction mode that kept the connection";
const ADVISORY_HINT: &str =
    "check the client of the holder: an advisory lock is released by pg_advisory_unlock, or when its session or transaction ends";

/// Facts that findings of this check follow from.
const SESSIONS_READ: &str = "sessions";
const ROLES_READ: &str = "roles";

impl Evidence {
    /// The facts that were read: a gap names those that were not.
    fn facts(&self) -> Vec<String> {
        let is_read = |fact: &&str| !self.gaps.iter().any(|gap| gap.contains(*fact));
        [SESSIONS_READ, ROLES_READ].into_iter().filter(is_read).map(str::to_owned).collect()
    }

    fn tree(&self) -> Tree {
        Tree::of(&self.sessions)
    }

    fn session(&self, pid: i32) -> Option<&Backend> {
        session_of(&self.sessions, pid)
    }

    /// The longest wait for `pid`, in seconds.
    fn longest_wait(&self, tree: &Tree, pid: i32) -> f64 {
        let waits = tree.waiters(pid).into_iter().filter_map(|w| self.session(w)?.query_s);
        waits.fold(0.0, f64::max)
    }
}

/// A session that is idle in a transaction, with its impact.
struct Idle<'a> {
    backend: &'a Backend,
    severity: Severity,
    /// The exceeded limit; `None` if other sessions wait for it.
    limit_s: Option<f64>,
    waiters: usize,
    longest_wait_s: f64,
}

impl Idle<'_> {
    fn finding(&self, judged: &Judged<'_>, e: &Evidence) -> Finding {
        let b = self.backend;
        let aborted = if b.state.as_deref() == Some("idle in transaction (aborted)") { " that failed" } else { "" };
        let idle = format!("{} has been idle in a transaction{aborted} for {}", b.label(), seconds(b.state_s));
        let message = match self.limit_s {
            Some(limit) => format!("{idle}, limit {}", seconds(limit)),
            None => format!("{idle} while {} for it, the longest for {}", waits(self.waiters), seconds(self.longest_wait_s)),
        };
        let finding = e
            .server
            .finding(&IDLE_IN_TX, self.severity, judged.target, message)
            .key(KeyKind::Backend, b.identity())
            .part("pid", b.pid)
            .fact(SESSIONS_READ)
            .cite("its last statement", &b.query)
            .cite_opt("database", b.db.clone());
        if self.waiters > 0 { finding.fix(TERMINATE_IDLE.id) } else { finding }
    }
}

impl Activity {
    /// The severity of a queue behind one transaction; `None` below the limits.
    fn queue_severity(&self, waiters: usize, longest_s: f64) -> Option<Severity> {
        let s = &self.settings;
        let piled = s.pile_up().exceeded(waiters as f64).filter(|_| longest_s >= s.pile_up_s);
        let waited = s.blocked().exceeded(longest_s);
        piled.into_iter().chain(waited).map(|(severity, _)| severity).max()
    }

    fn idle<'a>(&'a self, e: &'a Evidence, tree: &'a Tree) -> impl Iterator<Item = Idle<'a>> {
        e.sessions.iter().filter(|s| s.is_idle_in_tx()).filter_map(move |backend| {
            let waiters = tree.waiters(backend.pid).len();
            let longest_wait_s = e.longest_wait(tree, backend.pid);
            let idle = |severity, limit_s| Some(Idle { backend, severity, limit_s, waiters, longest_wait_s });
            // reported at any age if it blocks others (judgement)
            let is_leader = is_election(&e.sessions, tree, backend.pid);
            if waiters > 0 && !is_leader && self.queue_severity(waiters, longest_wait_s).is_some() {
                return idle(Severity::Crit, None);
            }
            let (severity, limit) = self.settings.idle().exceeded(backend.state_s)?;
            idle(severity, Some(limit))
        })
    }

    fn blocked(&self, judged: &Judged<'_>, e: &Evidence, tree: &Tree) -> Vec<Finding> {
        let finding = |root: i32| {
            let waiters = tree.waiters(root);
            let longest = e.longest_wait(tree, root);
            let limited = self.queue_severity(waiters.len(), longest)?;
            let (is_advisory, standbys) = (all_advisory(&e.sessions, &waiters), is_election(&e.sessions, tree, root));
            let of_standbys = if waiters.len() < self.settings.pile_up_crit { Severity::Info } else { Severity::Warn };
            let severity = if standbys { of_standbys } else { limited };
            let backend = e.session(root);
            let behind = match (backend, root) {
                (Some(b), _) => b.label(),
                // `pg_blocking_pids` returns 0 for each of them
                (None, 0) if e.prepared.len() == 1 => format!("the prepared transaction {}", e.prepared[0].gid),
                (None, 0) => "a prepared transaction".to_owned(),
                (None, pid) => format!("pid {pid}"),
            };
            let lock = if is_advisory { "the advisory lock of " } else { "" };
            let message = format!("{} for {lock}{behind}, the longest for {}", waits(waiters.len()), seconds(longest));
            let ddl = waiters.iter().filter_map(|w| e.session(*w)).find(|w| is_ddl(&w.query));
            let mut finding = e
                .server
                .finding(&BLOCKED, severity, judged.target, message)
                .cite("tree", tree_text(&e.sessions, tree, root))
                .cite_opt("blocked DDL that the others queue behind", ddl.map(|d| d.query.clone()))
                .fact(SESSIONS_READ);
            if standbys {
                finding = finding.hint(STANDBYS_HINT);
            } else if is_advisory {
                finding = finding.hint(ADVISORY_HINT);
            }
            if root == 0 {
                finding = finding.key(KeyKind::Backend, prepared_at(judged));
            }
            if let Some(b) = backend {
                finding = finding.key(KeyKind::Backend, b.identity()).part("pid", b.pid);
                if b.waits_for_standby() {
                    finding = finding.cite("its wait", "a synchronous standby has not confirmed its commit");
                } else if b.state.as_deref() == Some("active") {
                    finding = finding.fix(CANCEL.id);
                }
            }
            Some(finding)
        };
        tree.roots().into_iter().filter_map(finding).collect()
    }

    fn long(&self, judged: &Judged<'_>, e: &Evidence, b: &Backend) -> Option<Finding> {
        let running =
            b.query_s.filter(|_| b.state.as_deref() == Some("active") && b.blocked_by.as_ref().is_none_or(Vec::is_empty))?;
        // a commit that waits runs no query: see postgres.sync-standby-missing
        if b.waits_for_standby() {
            return None;
        }
        let (severity, limit) = self.settings.query().exceeded(running)?;
        let start = b.query.trim_start().to_ascii_uppercase();
        let maintenance = ["VACUUM", "ANALYZE", "CREATE INDEX", "REINDEX", "CLUSTER"].iter().any(|w| start.starts_with(w));
        if maintenance || is_dump(b) {
            return None;
        }
        let message = format!("{} has been running a query for {}, limit {}", b.label(), seconds(running), seconds(limit));
        Some(
            e.server
                .finding(&LONG_QUERY, severity, judged.target, message)
                .key(KeyKind::Backend, b.identity())
                .part("pid", b.pid)
                .fact(SESSIONS_READ)
                .cite("statement", &b.query)
                .fix(CANCEL.id),
        )
    }

    /// Why a session is never terminated or cancelled by opsctl.
    fn protected(&self, b: &Backend) -> Option<String> {
        if b.superuser != Some(false) {
            return Some(format!("{} is a superuser: an administrator or an administrative tool", b.label()));
        }
        if is_dump(b) {
            return Some(format!("{} is a backup", b.label()));
        }
        let app = b.app.as_deref().unwrap_or_default();
        let allowed = &self.settings.terminate_apps;
        (!allowed.is_empty() && !allowed.iter().any(|a| a == app))
            .then(|| format!("{} is not among terminate_apps in [runbooks.postgres]", b.label()))
    }

    /// Roles that leave transactions open and have no timeout.
    fn unguarded(&self, judged: &Judged<'_>, e: &Evidence, tree: &Tree) -> Vec<Finding> {
        let roles: BTreeSet<&String> = self.idle(e, tree).filter_map(|i| i.backend.role.as_ref()).collect();
        let has_none = |g: &Guard| g.set.is_empty() && g.server_ms.is_none_or(|ms| ms <= 0);
        let open = |role: &&&String| e.guards.iter().any(|g| g.role == ***role && !g.superuser && has_none(g));
        let finding = |role: &String| {
            let message = format!("role {role} has no idle_in_transaction_session_timeout");
            let finding = e.server.finding(&IDLE_GUARD, Severity::Info, judged.target, message).cite("role", role);
            finding.part("role", role).fact(SESSIONS_READ).fact(ROLES_READ).fix(SET_GUARD.id)
        };
        roles.iter().filter(open).map(|r| finding(r)).collect()
    }
}

fn prepared(judged: &Judged<'_>, e: &Evidence) -> Vec<Finding> {
    let old: Vec<&PreparedXact> = e.prepared.iter().filter(|p| p.age_s > 300.0).collect();
    let finding = |p: &&PreparedXact| {
        let message =
            format!("the prepared transaction {} of {} has been open for {}, limit 5 min", p.gid, p.owner, seconds(p.age_s));
        let finding = e.server.finding(&PREPARED, Severity::Warn, judged.target, message).cite("database", &p.db);
        finding.key(KeyKind::Backend, prepared_at(judged))
    };
    old.iter().map(finding).collect()
}

/// The key of the prepared transactions of a server, which have no process.
fn prepared_at(judged: &Judged<'_>) -> String {
    format!("prepared@{}", judged.target.id)
}

fn waits(n: usize) -> String {
    format!("{} {}", count(n, "session"), if n == 1 { "waits" } else { "wait" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    fn backend(pid: i32, state: &str, blocked_by: Option<Vec<i32>>) -> Backend {
        Backend {
            pid,
            started_us: 1_795_000_000_000_000,
            role: Some("app".into()),
            app: Some("web".into()),
            client: "local".into(),
            state: Some(state.into()),
            xact_s: 200.0,
            state_s: 200.0,
            query_s: Some(150.0),
            query: "SELECT 1".into(),
            blocked_by,
            superuser: Some(false),
            ..Backend::default()
        }
    }

    /// The plan for the session with pid 1, which blocks another one.
    fn planned(root: Backend, fix: &'static str, apps: &[&str]) -> Result<Plan, Refusal> {
        let e = Evidence { sessions: vec![root, backend(2, "active", Some(vec![1]))], ..Evidence::default() };
        let apps = apps.iter().map(|a| (*a).to_owned()).collect();
        let check = Activity { settings: Settings { terminate_apps: apps, ..Settings::default() } };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let judgement = check.judge(&judged, &e);
        let about = |f: &&Finding| f.keys.iter().any(|k| k.kind == KeyKind::Backend && k.value.starts_with("1@"));
        check.plan(fix, judgement.findings.iter().find(about).unwrap(), &judged, &e)
    }

    #[test]
    fn only_ordinary_idle_blocking_sessions_are_terminated() {
        let idle = || backend(1, "idle in transaction", None);
        let plan = planned(idle(), TERMINATE_IDLE.id, &[]).unwrap();
        assert!(matches!(&plan.actions[..], [Action::PgTerminateIdle { pid: 1, started_us: 1_795_000_000_000_000, .. }]));
        let policy = |b: Backend, apps: &[&str]| matches!(planned(b, TERMINATE_IDLE.id, apps), Err(Refusal::Policy(_)));
        assert!(policy(Backend { superuser: Some(true), ..idle() }, &[]));
        // a role that may be a superuser is treated as one
        assert!(policy(Backend { superuser: None, ..idle() }, &[]));
        assert!(policy(Backend { app: Some("pg_dump".into()), ..idle() }, &[]));
        assert!(policy(idle(), &["worker"]));
        assert!(planned(idle(), TERMINATE_IDLE.id, &["worker", "web"]).is_ok());
        // the session is active again
        assert!(matches!(planned(backend(1, "active", None), TERMINATE_IDLE.id, &[]), Err(Refusal::Precondition(_))));
    }

    #[test]
    fn only_running_queries_are_cancelled() {
        let plan = planned(backend(1, "active", None), CANCEL.id, &[]).unwrap();
        assert!(matches!(&plan.actions[..], [Action::PgCancel { pid: 1, .. }]));
        assert!(matches!(planned(backend(1, "idle in transaction", None), CANCEL.id, &[]), Err(Refusal::Precondition(_))));
        assert!(matches!(
            planned(Backend { superuser: Some(true), ..backend(1, "active", None) }, CANCEL.id, &[]),
            Err(Refusal::Policy(_))
        ));
    }

    /// The refusal or the plan of a cancel of this session, which blocks another one.
    fn cancel(root: Backend) -> Result<Plan, Refusal> {
        planned(root, CANCEL.id, &[])
    }

    #[test]
    fn commit_that_waits_for_a_standby_is_not_cancelled() {
        let waiting = || Backend {
            waits_for: Some("IPC".into()),
            wait_event: Some("SyncRep".into()),
            query: "COMMIT".into(),
            query_s: Some(9000.0),
            ..backend(1, "active", None)
        };
        assert!(matches!(cancel(waiting()), Err(Refusal::Policy(why)) if why.contains("committed here and not there")));
        let e = Evidence { sessions: vec![waiting(), backend(2, "active", Some(vec![1]))], ..Evidence::default() };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Activity { settings: Settings::default() }.judge(&judged, &e).findings;
        assert_eq!(findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), [BLOCKED.id], "{findings:?}");
        assert!(findings[0].fixes.is_empty(), "{findings:?}");
    }

    #[test]
    fn query_that_waits_for_its_client_is_not_cancelled() {
        let waiting = Backend { waits_for: Some("Client".into()), ..backend(1, "active", None) };
        assert!(matches!(cancel(waiting), Err(Refusal::Precondition(why)) if why.contains("end the client")));
        let reading = Backend { waits_for: Some("IO".into()), ..backend(1, "active", None) };
        assert!(cancel(reading).is_ok());
    }

    #[test]
    fn cancel_of_an_index_build_leaves_an_invalid_index() {
        let build = Backend { query: "CREATE INDEX CONCURRENTLY i ON t (a)".into(), ..backend(1, "active", None) };
        assert!(cancel(build).unwrap().blast.iter().any(|effect| effect.contains("must be dropped")));
        let plain = cancel(backend(1, "active", None)).unwrap();
        assert!(plain.blast.len() == 1 && plain.blast[0].contains("its transaction is rolled back"), "{:?}", plain.blast);
    }

    #[test]
    fn long_queries_are_parts_of_their_server() {
        let long = |pid| Backend { query_s: Some(4000.0), ..backend(pid, "active", None) };
        let e = Evidence {
            sessions: vec![long(812), long(900)],
            gaps: vec!["roles could not be read: x".into()],
            ..Evidence::default()
        };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Activity { settings: Settings::default() };
        let judgement = check.judge(&judged, &e);
        let plans: Vec<Plan> = judgement.findings.iter().map(|f| check.plan(CANCEL.id, f, &judged, &e).unwrap()).collect();
        assert_eq!(plans.iter().map(|p| p.part.as_str()).collect::<Vec<_>>(), ["pid 812", "pid 900"]);
        // the sessions were read, although the roles were not
        assert!(judgement.findings.iter().all(|f| f.facts.iter().all(|fact| judgement.facts.contains(fact))));
    }

    /// The plan of `pg.set-guard` for the role of a session that left its transaction open, if it is offered.
    fn guard(guard: Guard, we_may_alter: bool) -> Option<Result<Plan, Refusal>> {
        let idle = Backend { state_s: 4000.0, ..backend(1, "idle in transaction", None) };
        let e = Evidence { sessions: vec![idle], guards: vec![guard], we_may_alter, ..Evidence::default() };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Activity { settings: Settings::default() };
        let findings = check.judge(&judged, &e).findings;
        findings.iter().find(|f| f.code == IDLE_GUARD.id).map(|f| check.plan(SET_GUARD.id, f, &judged, &e))
    }

    #[test]
    fn timeout_is_set_for_a_role_without_any() {
        let role = || Guard { role: "app".into(), server_ms: Some(0), ..Guard::default() };
        let plan = guard(role(), true).unwrap().unwrap();
        assert!(plan.part == "role app" && plan.blast[0].contains("opens from now on"), "{plan:?}");
        assert!(matches!(guard(role(), false), Some(Err(Refusal::Precondition(why))) if why.contains("only a superuser")));
    }

    #[test]
    fn timeout_of_the_server_or_the_role_is_not_raised() {
        let role = || Guard { role: "app".into(), ..Guard::default() };
        assert!(guard(Guard { server_ms: Some(60_000), ..role() }, true).is_none());
        assert!(guard(Guard { set: "idle_in_transaction_session_timeout=1min".into(), ..role() }, true).is_none());
    }
}
