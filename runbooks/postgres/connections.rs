//! Connection slots that are left for applications.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Measure, Object, Product, Role, Severity,
    Unit, quantity::percent,
};
use opsctl_core::probe::proc::process::children_titles;
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::session::{row, rows};
use super::{IDLE_IN_TX, Settings};
use crate::shared::servers::{READ_TIMEOUT, Server};

const CONNECTIONS: Code = Code {
    id: "postgres.connections",
    severities: &[Severity::Warn, Severity::Crit],
    when: "{connections_warn_percent} (warn) or {connections_crit_percent} (crit, also if {connections_crit_free} or fewer are left) of the connections available to applications are in use: max_connections without the reserved ones; or a role or database has reached its CONNECTION LIMIT (warn)",
    hint: "find out why they are held: idle in a transaction, a pool per process, no pool at all; raising max_connections only postpones the problem",
    impacts: &[
        Impact::likely(Role::Exhausted, KeyKind::Server, "database accepts no more connections"),
        Impact::likely(Role::Exhausted, KeyKind::Container, "database accepts no more connections"),
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.connections",
    title: "PostgreSQL has free connections for applications",
    codes: &[CONNECTIONS, IDLE_IN_TX],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const USED: &str = "SELECT current_setting('max_connections')::int AS max, \
    current_setting('superuser_reserved_connections')::int + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) AS reserved, \
    count(*) FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS used, \
    count(*) FILTER (WHERE backend_type IS NULL) AS unseen FROM pg_stat_activity";

const GROUPS: &str = "SELECT usename AS role, application_name AS app, coalesce(client_addr::text, 'local') AS client, state, count(*) AS n, \
    count(*) FILTER (WHERE state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '2 seconds') AS idle_in_tx \
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2, 3, 4 ORDER BY n DESC LIMIT 20";

/// Roles (except superusers, which are exempt) and databases with a CONNECTION LIMIT, and the connections that count towards it.
const OWN_LIMITS: &str = "SELECT * FROM (SELECT 'role' AS kind, r.rolname AS name, r.rolconnlimit AS max, (SELECT count(*) FROM pg_stat_activity a \
    WHERE a.usesysid = r.oid AND coalesce(a.backend_type, 'client backend') = 'client backend') AS used \
    FROM pg_roles r WHERE r.rolconnlimit > 0 AND NOT r.rolsuper \
    UNION ALL SELECT 'database', d.datname, d.datconnlimit, (SELECT count(*) FROM pg_stat_activity a \
    WHERE a.datid = d.oid AND coalesce(a.backend_type, 'client backend') = 'client backend') \
    FROM pg_database d WHERE d.datconnlimit > 0) limits WHERE used >= max ORDER BY used DESC LIMIT 20";

pub(super) struct Connections {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Slots {
    max: u64,
    reserved: u64,
    used: u64,
    /// Rows of other roles that this role may not read.
    unseen: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Group {
    role: Option<String>,
    app: Option<String>,
    client: String,
    state: Option<String>,
    n: u64,
    idle_in_tx: u64,
}

/// A role or database that has reached its CONNECTION LIMIT.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OwnLimit {
    /// `role` or `database`.
    kind: String,
    name: String,
    max: u64,
    used: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    used: Option<Slots>,
    own_limits: Vec<OwnLimit>,
    groups: Vec<Group>,
    /// The error message if not even a reserved connection was left.
    rejected: Option<String>,
    /// Titles of its processes with their counts: `app appdb idle in transaction`.
    titles: Vec<(String, u64)>,
    gaps: Vec<String>,
}

impl Check for Connections {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { server: Server::of(cx, target)?, ..Evidence::default() };
        let session = match cx.postgres(target).await? {
            Ok(session) => session,
            Err(SessionError::Rejected { code, message, .. }) if code == "53300" => {
                e.rejected = Some(message);
                let pid = e.server.get().and_then(|s| s.process).map(|p| p.pid);
                let read = move |io: &Io| pid.map(|pid| children_titles(io, pid)).unwrap_or_default();
                let titles = blocking::run("titles of processes", "/proc", READ_TIMEOUT, read).await;
                match titles {
                    Ok(titles) => e.titles = counted(&titles),
                    Err(why) => e.gaps.push(why.to_string()),
                }
                return Ok(e);
            }
            Err(why) => return Err(why.skip("postgres.up")),
        };
        e.used = row(&session, "connections", USED, &mut e.gaps).await;
        if e.used.as_ref().is_some_and(|u| u.unseen > 0 && u.used == 0) {
            e.gaps.push(format!("role {0} may not read the connections of other roles: `GRANT pg_monitor TO {0}`", session.user));
        }
        e.own_limits = rows(&session, "connection limits", OWN_LIMITS, &mut e.gaps).await;
        if self.severity(&e).is_some() || !e.own_limits.is_empty() {
            e.groups = rows(&session, "connections", GROUPS, &mut e.gaps).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        if let Some(error) = &e.rejected {
            let titles: Vec<String> = e.titles.iter().map(|(t, n)| format!("{t}: {n}")).collect();
            let message = format!("{name} has no connection left, not even a reserved one");
            let full = e
                .server
                .finding(&CONNECTIONS, Severity::Crit, judged.target, message)
                .cite("error", error)
                .cite("held by", titles.join("\n"));
            let (all, idle) = e.titles.iter().fold((0, 0), |(all, idle), (t, n)| {
                let idles = if t.contains("idle in transaction") { *n } else { 0 };
                (u64::saturating_add(all, *n), u64::saturating_add(idle, idles))
            });
            let idle = (idle.saturating_mul(2) >= all && idle > 0).then(|| leak(judged, e, idle, all, ""));
            return idle.into_iter().chain([full]).collect::<Vec<_>>().into();
        }
        let mut findings = Vec::new();
        if let (Some(used), Some((severity, limit))) = (&e.used, self.severity(e)) {
            let usable = used.max.saturating_sub(used.reserved).max(1);
            let share = used.used as f64 * 100.0 / usable as f64;
            let left = usable.saturating_sub(used.used);
            let message = format!(
                "{name} has {} of {usable} connections available to applications in use, {}, {left} left, limit {}",
                used.used,
                percent(share),
                percent(limit)
            );
            let groups: Vec<String> = e.groups.iter().take(5).map(Group::line).collect();
            findings.push(
                e.server
                    .finding(&CONNECTIONS, severity, judged.target, message)
                    .cite("held by", groups.join("\n"))
                    .cite("max_connections", format!("{} ({} reserved)", used.max, used.reserved)),
            );
            // open transactions that hold most of the connections are the cause
            let idle: u64 = e.groups.iter().fold(0, |sum, g| u64::saturating_add(sum, g.idle_in_tx));
            if idle.saturating_mul(2) >= used.used {
                let app = e
                    .groups
                    .iter()
                    .filter(|g| g.idle_in_tx > 0)
                    .max_by_key(|g| g.idle_in_tx)
                    .map(Group::label)
                    .unwrap_or_default();
                findings.push(leak(judged, e, idle, used.used, &app));
            }
        }
        findings.extend(e.own_limits.iter().map(|own| {
            let message = format!(
                "{name}: the {} {} has reached its connection limit of {}: the next connection is rejected",
                own.kind, own.name, own.max
            );
            let groups: Vec<String> = e
                .groups
                .iter()
                .filter(|g| own.kind != "role" || g.role.as_ref() == Some(&own.name))
                .take(5)
                .map(Group::line)
                .collect();
            e.server
                .finding(&CONNECTIONS, Severity::Warn, judged.target, message)
                .cite("held by", groups.join("\n"))
                .hint("find the clients that hold them before you raise the CONNECTION LIMIT: a pool per process, sessions that are never closed")
        }));
        let measures = e.used.iter().map(|used| {
            let usable = used.max.saturating_sub(used.reserved).max(1) as f64;
            let limit = |percent: f64| usable * percent / 100.0;
            let measure = Measure::new(judged.target, "connections", Unit::Count, used.used as f64);
            let limits = (limit(self.settings.connections_warn_percent), limit(self.settings.connections_crit_percent));
            Measure { max: Some(usable), ..measure.limits(limits.0, limits.1) }
        });
        Judgement { findings, gaps: e.gaps.clone(), measures: measures.collect(), ..Judgement::default() }
    }
}

/// Open transactions that use up the connections.
fn leak(judged: &Judged<'_>, e: &Evidence, idle: u64, all: u64, app: &str) -> Finding {
    let most = if app.is_empty() { String::new() } else { format!(", most of {app}") };
    let message = format!(
        "{idle} of the {all} connections of {} are idle in a transaction{most}: they are occupied without doing work",
        judged.target.name
    );
    e.server
        .finding(&IDLE_IN_TX, Severity::Crit, judged.target, message)
        .hint("find the code that leaves a transaction open (an exception without rollback, a network call inside it)")
}

impl Group {
    fn label(&self) -> String {
        let app = self.app.as_deref().filter(|a| !a.is_empty()).map_or(String::new(), |a| format!(" ({a})"));
        format!("{}{app}", self.role.as_deref().unwrap_or("?"))
    }

    fn line(&self) -> String {
        format!("{} from {}: {} {}", self.label(), self.client, self.n, self.state.as_deref().unwrap_or("state unknown"))
    }
}

impl Connections {
    fn severity(&self, e: &Evidence) -> Option<(Severity, f64)> {
        let used = e.used.as_ref()?;
        let usable = used.max.saturating_sub(used.reserved).max(1);
        let share = used.used as f64 * 100.0 / usable as f64;
        let exceeded = self.settings.connections().exceeded(share)?;
        // with few connections the share is misleading: the next worker that starts takes the last ones
        let last = usable.saturating_sub(used.used) <= self.settings.connections_crit_free;
        Some(if last { (Severity::Crit, self.settings.connections_crit_percent) } else { exceeded })
    }
}

/// Counts titles such as `postgres: app appdb 10.0.0.3(40112) idle in transaction` without their
/// address; background workers are excluded.
pub(super) fn counted(titles: &[String]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for title in titles {
        // `cluster_name` is between the program's name and the rest, with a colon of its own
        let Some((_, rest)) = title.rsplit_once(": ") else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let client = words.iter().position(|w| w.ends_with(')') && w.contains('(') || *w == "[local]");
        if let Some(at) = client.filter(|at| *at >= 2) {
            let state = words[at + 1..].join(" ");
            *counts.entry(format!("{} {} {state}", words[at - 2], words[at - 1])).or_default() += 1;
        }
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_titles_are_counted_by_role_and_state() {
        let titles = [
            "postgres: 15/main: app shop 10.0.0.3(40112) idle in transaction",
            "postgres: app shop 10.0.0.3(40113) idle in transaction",
            "postgres: app shop [local] SELECT",
            "postgres: checkpointer ",
            "postgres: walwriter",
        ];
        let titles: Vec<String> = titles.iter().map(|t| (*t).to_owned()).collect();
        assert_eq!(counted(&titles), [("app shop idle in transaction".to_owned(), 2), ("app shop SELECT".to_owned(), 1)]);
    }
}
