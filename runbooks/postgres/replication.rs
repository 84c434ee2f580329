//! Replication lag, and the role of the server.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
    quantity::{count, seconds},
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::session::{row, rows, session};
use crate::shared::servers::Server;

const REPLICATION: Code = Code {
    id: "postgres.replication",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a standby receives nothing from its primary (crit) or has a replay lag of {replay_warn_s} (warn) or {replay_crit_s} (crit) beyond its recovery_min_apply_delay, at most warn while its replay is paused; a replica of this primary is not streaming (warn)",
    hint: "check the network between them, the replica's log, and long queries on the standby that delay replay",
    ..Code::BASE
};
const SYNC_MISSING: Code = Code {
    id: "postgres.sync-standby-missing",
    severities: &[Severity::Warn, Severity::Crit],
    when: "synchronous_standby_names requires more standbys than are connected: commits wait for them (crit), or the next one will (warn); or the connected ones do not confirm a commit for {blocked_warn_s} (warn) or {blocked_crit_s} (crit)",
    hint: "start the standby or restore its connection; to accept writes without it, remove it from synchronous_standby_names and reload. Do not cancel waiting commits: they are committed here and may be missing there",
    impacts: &[Impact::likely(Role::Exhausted, KeyKind::Server, "database is blocked")],
    ..Code::BASE
};
const READ_ONLY: Code = Code {
    id: "postgres.read-only",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the server rejects writes although it should accept them: a server that is configured as a primary is a standby (crit), or default_transaction_read_only is on (warn)",
    hint: "promote a standby with pg_promote(), but only once the old primary is certainly down",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.replication",
    title: "PostgreSQL replication is up to date",
    codes: &[REPLICATION, SYNC_MISSING, READ_ONLY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const STATE: &str = "SELECT pg_is_in_recovery() AS standby, \
    (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') = 'on' AS read_only, \
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS source, \
    CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn() \
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS replay_s, \
    (SELECT status FROM pg_stat_wal_receiver) AS receiver, current_setting('primary_conninfo') <> '' AS has_primary, \
    (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay') AS delay_s, \
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS paused, \
    (SELECT min(wait_event) FROM pg_stat_activity WHERE backend_type = 'startup') AS replay_wait";

const REPLICAS: &str = "SELECT coalesce(application_name, '?') AS name, coalesce(client_addr::text, 'local') AS client, coalesce(state, 'unknown') AS state, \
    coalesce(sync_state, 'unknown') AS sync_state, extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age_s FROM pg_stat_replication";

const PAUSED_HINT: &str = "SELECT pg_wal_replay_resume(), unless a backup or an administrator paused it; its log names settings that are lower than those of the primary";

/// The required standbys, and whether commits wait for them by default.
const SYNCHRONOUS: &str =
    "SELECT current_setting('synchronous_standby_names') AS names, current_setting('synchronous_commit') AS level";

/// Sessions that wait for a standby to confirm their commit.
const WAITING: &str = "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS started_us, \
    coalesce(extract(epoch FROM clock_timestamp() - query_start)::float8, 0) AS wait_s \
    FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY query_start LIMIT 500";

pub(super) struct Replication {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    standby: bool,
    read_only: Option<bool>,
    replay_s: Option<f64>,
    receiver: Option<String>,
    has_primary: Option<bool>,
    /// `recovery_min_apply_delay`; a line of recovery.conf before version 12.
    delay_s: Option<f64>,
    /// `pg_wal_replay_pause()`, a reached recovery target, or settings that are too low for replay.
    paused: Option<bool>,
    /// The wait of the startup process, `RecoveryApplyDelay` until the delay of a transaction has passed.
    replay_wait: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Replica {
    name: String,
    client: String,
    state: String,
    /// `sync` and `quorum` confirm commits, `potential` is a spare, `async` does not.
    sync_state: String,
    age_s: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Synchronous {
    names: String,
    /// `synchronous_commit`.
    level: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pid: i32,
    started_us: i64,
    wait_s: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    state: Option<State>,
    replicas: Vec<Replica>,
    /// `None` if no standby is required.
    synchronous: Option<Synchronous>,
    waiting: Vec<Waiting>,
    gaps: Vec<String>,
}

impl Check for Replication {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let mut e = Evidence { server: Server::of(cx, target)?, ..Evidence::default() };
        e.state = row(&session, "the state of replication", STATE, &mut e.gaps).await;
        e.replicas = rows(&session, "replicas", REPLICAS, &mut e.gaps).await;
        let synchronous: Option<Synchronous> = row(&session, "synchronous standbys", SYNCHRONOUS, &mut e.gaps).await;
        e.synchronous = synchronous.filter(|s| !s.names.trim().is_empty());
        if e.synchronous.is_some() {
            e.waiting = rows(&session, "waiting commits", WAITING, &mut e.gaps).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let finding = |code, severity, message: String| e.server.finding(code, severity, judged.target, message);
        let mut findings: Vec<Finding> = Vec::new();
        if let Some(s) = &e.state {
            let should_be_primary = self.settings.primaries.iter().any(|p| p == name);
            if s.standby && should_be_primary {
                findings.push(finding(
                    &READ_ONLY,
                    Severity::Crit,
                    format!("{name} is a standby and should be a primary: it rejects writes"),
                ));
            }
            if s.read_only == Some(true) && !s.standby {
                findings.push(finding(
                    &READ_ONLY,
                    Severity::Warn,
                    format!("default_transaction_read_only is on in {name}: transactions are read-only by default"),
                ));
            }
            if s.standby && s.receiver.is_none() && s.has_primary == Some(true) {
                findings.push(finding(
                    &REPLICATION,
                    Severity::Crit,
                    format!("{name} is a standby and receives nothing from its primary"),
                ));
            }
            findings.extend(self.lag(judged, e, s));
        }
        findings.extend(self.synchronous(judged, e));
        // a new replica catches up first, and a base backup is not a replica
        let behind =
            e.replicas.iter().filter(|r| !matches!(r.state.as_str(), "streaming" | "backup" | "unknown") && r.age_s > 60.0);
        for r in behind {
            let message =
                format!("the replica {} ({}) of {name} is not streaming: {} for {}", r.name, r.client, r.state, seconds(r.age_s));
            findings.push(finding(&REPLICATION, Severity::Warn, message));
        }
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

impl Replication {
    /// A standby that replays later than it should. The time of its last transaction is older than its delay if the primary was
    /// idle before: while replay waits for the delay, it is as late as intended.
    fn lag(&self, judged: &Judged<'_>, e: &Evidence, s: &State) -> Option<Finding> {
        let delay = s.delay_s.filter(|d| *d > 0.0).unwrap_or(0.0);
        if s.replay_wait.as_deref() == Some("RecoveryApplyDelay") {
            return None;
        }
        let lag = s.replay_s?;
        let (severity, limit) = self.settings.replay().exceeded(lag - delay)?;
        let name = &judged.target.name;
        let beyond =
            if delay > 0.0 { format!(" beyond its recovery_min_apply_delay of {}", seconds(delay)) } else { String::new() };
        let message = format!("{name} has a replay lag of {}{beyond}, limit {}", seconds(lag - delay), seconds(limit));
        if s.paused != Some(true) {
            return Some(e.server.finding(&REPLICATION, severity, judged.target, message));
        }
        let message = format!("replay is paused: {message}");
        Some(e.server.finding(&REPLICATION, severity.min(Severity::Warn), judged.target, message).hint(PAUSED_HINT))
    }

    /// Commits that wait for synchronous standbys.
    fn synchronous(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let synchronous = e.synchronous.as_ref().filter(|_| e.state.as_ref().is_none_or(|s| !s.standby))?;
        let required = Required::parse(&synchronous.names)?;
        // this role may not read the states of replicas
        if e.replicas.iter().any(|r| r.sync_state == "unknown") {
            return None;
        }
        let name = &judged.target.name;
        let confirming: Vec<&str> = e.replicas.iter().filter(|r| r.confirms()).map(|r| r.name.as_str()).collect();
        let longest = e.waiting.iter().map(|w| w.wait_s).fold(0.0, f64::max);
        let waits = match e.waiting.len() {
            1 => "1 commit waits".to_owned(),
            n => format!("{} wait", count(n, "commit")),
        };
        let missing = required.missing(&e.replicas);
        let (severity, message) = if confirming.len() < required.count {
            let connected = format!("{} of {} required are connected", confirming.len(), required.count);
            let lacks = format!("{name} lacks {missing}, {connected}");
            if !e.waiting.is_empty() {
                (Severity::Crit, format!("{waits} for a synchronous standby, the longest for {}: {lacks}", seconds(longest)))
            } else if matches!(synchronous.level.as_str(), "off" | "local") {
                return None;
            } else {
                (Severity::Warn, format!("the next commit waits for a synchronous standby: {lacks}"))
            }
        } else {
            let (severity, limit) = self.settings.blocked().exceeded(longest).filter(|_| !e.waiting.is_empty())?;
            let standbys = confirming.join(", ");
            let message = format!(
                "{waits} for the synchronous standby {standbys} of {name} to confirm, the longest for {}, limit {}",
                seconds(longest),
                seconds(limit)
            );
            (severity, message)
        };
        let shown = |r: &Replica| format!("{} ({}) {}, {}", r.name, r.client, r.state, r.sync_state);
        let standbys: Vec<String> = e.replicas.iter().map(shown).collect();
        let finding = e
            .server
            .finding(&SYNC_MISSING, severity, judged.target, message)
            .cite("synchronous_standby_names", &synchronous.names)
            .cite("connected standbys", if standbys.is_empty() { "none".to_owned() } else { standbys.join("\n") });
        let backend = |w: &Waiting| format!("{}@{}", w.pid, w.started_us);
        Some(e.waiting.iter().fold(finding, |f, w| f.key(KeyKind::Backend, backend(w))))
    }
}

impl Replica {
    /// It confirms commits now.
    fn confirms(&self) -> bool {
        matches!(self.sync_state.as_str(), "sync" | "quorum")
    }
}

/// The standbys that `synchronous_standby_names` requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Required {
    pub(super) count: usize,
    pub(super) names: Vec<String>,
}

impl Required {
    /// Parses `FIRST 1 (a, b)`, `ANY 2 (a, "b-c", d)`, `2 (a, b)`, `a, b` and `*`; `None` if no standby is required.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let counted = text.strip_suffix(')').and_then(|rest| rest.split_once('(')).and_then(|(head, list)| {
            let count = head.split_whitespace().last()?.parse::<usize>().ok()?;
            Some((count, list))
        });
        let (count, list) = counted.unwrap_or((1, text));
        let name = |word: &str| word.trim().trim_matches('"').to_owned();
        let names: Vec<String> = list.split(',').map(name).filter(|n| !n.is_empty()).collect();
        (count > 0 && !names.is_empty()).then_some(Self { count, names })
    }

    /// The standbys of the list that are not connected.
    fn missing(&self, replicas: &[Replica]) -> String {
        if self.names.iter().any(|n| n == "*") {
            return if replicas.is_empty() { "any standby".to_owned() } else { "a standby that streams".to_owned() };
        }
        let streams = |name: &&String| replicas.iter().any(|r| r.name.eq_ignore_ascii_case(name) && r.state == "streaming");
        let missing: Vec<&str> = self.names.iter().filter(|n| !streams(n)).map(String::as_str).collect();
        if missing.is_empty() { self.names.join(", ") } else { missing.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    #[test]
    fn synchronous_standby_names_in_all_forms() {
        let parse = |text: &str| Required::parse(text).map(|r| (r.count, r.names.join(" ")));
        assert_eq!(parse("s1"), Some((1, "s1".to_owned())));
        assert_eq!(parse("s1, \"s-2\""), Some((1, "s1 s-2".to_owned())));
        assert_eq!(parse("FIRST 2 (s1, s2, s3)"), Some((2, "s1 s2 s3".to_owned())));
        assert_eq!(parse("ANY 1 (*)"), Some((1, "*".to_owned())));
        assert_eq!(parse("2(s1,s2)"), Some((2, "s1 s2".to_owned())));
        assert_eq!((parse(" "), parse("()")), (None, Some((1, "()".to_owned()))));
    }

    /// Severity and message of the lag of a standby.
    fn lag(state: State) -> Option<(Severity, String)> {
        let e =
            Evidence { state: Some(State { standby: true, receiver: Some("streaming".into()), ..state }), ..Evidence::default() };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Replication { settings: Settings::default() }.judge(&judged, &e).findings;
        findings.first().map(|f| (f.severity, f.message.clone()))
    }

    #[test]
    fn replay_lag_within_the_intended_delay() {
        let delayed = |replay_s, wait: Option<&str>| State {
            replay_s: Some(replay_s),
            delay_s: Some(14_400.0),
            replay_wait: wait.map(str::to_owned),
            ..State::default()
        };
        assert_eq!(lag(delayed(14_390.0, None)), None);
        // the primary was idle before the transaction that replay now waits for
        assert_eq!(lag(delayed(90_000.0, Some("RecoveryApplyDelay"))), None);
        let (severity, message) = lag(delayed(20_000.0, Some("RecoveryConflictLock"))).unwrap();
        assert!(severity == Severity::Crit && message.contains("beyond its recovery_min_apply_delay of"), "{message}");
        assert_eq!(lag(State { replay_s: Some(4000.0), ..State::default() }).unwrap().0, Severity::Crit);
    }

    #[test]
    fn paused_replay_is_a_warning() {
        let (severity, message) = lag(State { replay_s: Some(9000.0), paused: Some(true), ..State::default() }).unwrap();
        assert!(severity == Severity::Warn && message.starts_with("replay is paused: db has a replay lag"), "{message}");
        assert_eq!(lag(State { replay_s: Some(20.0), paused: Some(true), ..State::default() }), None);
    }

    fn replica(name: &str, sync_state: &str) -> Replica {
        let (name, sync_state) = (name.to_owned(), sync_state.to_owned());
        Replica { name, client: "10.0.0.2".into(), state: "streaming".into(), sync_state, age_s: 900.0 }
    }

    /// Severity and message for these standbys and for commits that wait this long.
    fn found(names: &str, level: &str, replicas: Vec<Replica>, waits: &[f64]) -> Option<(Severity, String)> {
        let waiting = |wait_s: &f64| Waiting { pid: 812, started_us: 1, wait_s: *wait_s };
        let e = Evidence {
            state: Some(State::default()),
            replicas,
            synchronous: Some(Synchronous { names: names.into(), level: level.into() }),
            waiting: waits.iter().map(waiting).collect(),
            ..Evidence::default()
        };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Replication { settings: Settings::default() }.judge(&judged, &e).findings;
        findings.first().map(|f| (f.severity, f.message.clone()))
    }

    #[test]
    fn commits_without_their_synchronous_standby_are_critical_at_once() {
        let (severity, message) = found("s1", "on", vec![replica("s2", "async")], &[0.4]).unwrap();
        assert_eq!(severity, Severity::Crit);
        assert!(message.contains("db lacks s1, 0 of 1 required are connected"), "{message}");
        assert_eq!(found("ANY 2 (s1, s2)", "on", vec![replica("s1", "quorum")], &[3.0]).unwrap().0, Severity::Crit);
        // before the first write
        assert_eq!(found("*", "on", vec![], &[]).unwrap().0, Severity::Warn);
        assert_eq!(found("s1", "local", vec![], &[]), None);
    }

    #[test]
    fn connected_synchronous_standby_is_no_finding() {
        // a commit always waits for some milliseconds
        assert_eq!(found("s1", "on", vec![replica("s1", "sync"), replica("s2", "async")], &[0.01]), None);
        assert_eq!(found("ANY 1 (s1, s2)", "on", vec![replica("s1", "quorum"), replica("s2", "quorum")], &[]), None);
        assert_eq!(found("s1", "on", vec![replica("s1", "unknown")], &[9.0]), None, "not readable for this role");
        let (severity, message) = found("s1", "on", vec![replica("s1", "sync")], &[500.0]).unwrap();
        assert!(severity == Severity::Crit && message.contains("the synchronous standby s1 of db to confirm"), "{message}");
    }
}
