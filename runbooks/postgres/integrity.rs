//! Data integrity: checksums, sequences, indexes, collations and deadlocks.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Sample, Severity, grown,
    quantity::{count, count_of, percent},
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::sequences::{self, SEQUENCES, Sequence};
use super::session::{row, rows, session};
use crate::shared::servers::Server;

const CHECKSUM: Code = Code {
    id: "postgres.checksum",
    severities: &[Severity::Crit],
    when: "pages with a wrong checksum were read: the disk or the memory is faulty",
    hint: "stop writes, take a file-level copy, restore from an earlier backup",
    ..Code::BASE
};
const SEQUENCE: Code = Code {
    id: "postgres.sequence",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a sequence is at {sequence_warn_percent} (warn) or {sequence_crit_percent} (crit) of its maximum or of the maximum of the type of a column that it fills, in any database: inserts fail once it is reached",
    hint: "change the column to bigint before that; this rewrites the table",
    ..Code::BASE
};
const INVALID_INDEX: Code = Code {
    id: "postgres.invalid-index",
    severities: &[Severity::Info],
    when: "a failed CREATE INDEX CONCURRENTLY left an invalid index: it costs writes and is not used by queries",
    hint: "DROP INDEX CONCURRENTLY it, or REINDEX INDEX CONCURRENTLY",
    ..Code::BASE
};
const COLLATION: Code = Code {
    id: "postgres.collation",
    severities: &[Severity::Warn],
    when: "a database was created with another version of the collation library: indexes on text may be corrupt (typical after an image update)",
    hint: "REINDEX the indexes on text, then ALTER DATABASE … REFRESH COLLATION VERSION",
    ..Code::BASE
};
const DEADLOCKS: Code = Code {
    id: "postgres.deadlocks",
    severities: &[Severity::Warn],
    when: "over {deadlocks_per_minute} deadlocks a minute since the last run",
    hint: "acquire locks in the same order everywhere; the server log contains the statements",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.integrity",
    title: "PostgreSQL data integrity is intact",
    codes: &[CHECKSUM, SEQUENCE, INVALID_INDEX, COLLATION, DEADLOCKS],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const COUNTERS: &str = "SELECT coalesce(sum(checksum_failures), 0)::bigint AS checksum_failures, sum(deadlocks)::bigint AS deadlocks, \
    string_agg(datname, ', ') FILTER (WHERE checksum_failures > 0) AS broken FROM pg_stat_database";

const INVALID: &str = "SELECT i.indexrelid::regclass::text AS name FROM pg_index i WHERE NOT i.indisvalid \
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) LIMIT 5";

/// Since PostgreSQL 15 a database stores the collation version it was created with.
const COLLATIONS: &str = "SELECT datname AS name FROM pg_database WHERE datallowconn AND datcollversion IS NOT NULL \
    AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)";

pub(super) struct Integrity {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    checksum_failures: u64,
    deadlocks: u64,
    broken: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    counters: Option<Counters>,
    sequences: Vec<Sequence>,
    invalid: Vec<String>,
    collations: Vec<String>,
    database: String,
    /// The deadlock counter of the oldest run within an hour.
    before: Option<Sample>,
    gaps: Vec<String>,
}

impl Check for Integrity {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let before = cx.history.oldest(&server.object(target), "deadlocks", 3600);
        let mut e = Evidence { server, before, database: session.database.clone(), ..Evidence::default() };
        e.counters = row(&session, "statistics of databases", COUNTERS, &mut e.gaps).await;
        e.sequences = rows(&session, "sequences", SEQUENCES, &mut e.gaps).await;
        let others = sequences::of_other_databases(cx, target, &session, &mut e.gaps).await?;
        // of other databases only sequences with a finding are stored
        e.sequences.extend(others.into_iter().filter(|s| self.settings.sequence().exceeded(s.percent()).is_some()));
        let names = |found: Vec<Named>| found.into_iter().map(|n| n.name).collect();
        e.invalid = names(rows(&session, "indexes", INVALID, &mut e.gaps).await);
        if session.major() >= 15 {
            e.collations = names(rows(&session, "collations", COLLATIONS, &mut e.gaps).await);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let finding = |code, severity, message: String| e.server.finding(code, severity, judged.target, message);
        let mut findings: Vec<Finding> = Vec::new();
        let mut samples = Vec::new();
        if let Some(c) = &e.counters {
            if c.checksum_failures > 0 {
                let message = format!("{name} has read {} with a wrong checksum", pages(c.checksum_failures));
                findings.push(finding(&CHECKSUM, Severity::Crit, message).cite_opt("databases", c.broken.clone()));
            }
            samples.push(Sample::count(e.server.object(judged.target), "deadlocks", judged.taken_at, c.deadlocks));
            findings.extend(self.deadlocks(judged, e, c));
        }
        findings.extend(e.sequences.iter().filter_map(|s| self.sequence(judged, e, s)));
        if !e.invalid.is_empty() {
            let message = format!(
                "{} of {} in {name} cannot be used: {}",
                count(e.invalid.len(), "index").replace("indexs", "indexes"),
                e.database,
                e.invalid.join(", ")
            );
            findings.push(finding(&INVALID_INDEX, Severity::Info, message));
        }
        if !e.collations.is_empty() {
            let message =
                format!("the collation library of {name} has another version than its databases {}", e.collations.join(", "));
            findings.push(finding(&COLLATION, Severity::Warn, message));
        }
        Judgement { findings, gaps: e.gaps.clone(), samples, ..Judgement::default() }
    }
}

fn pages(n: u64) -> String {
    if n == 1 { "1 page".to_owned() } else { format!("{} pages", count_of(n)) }
}

impl Integrity {
    fn deadlocks(&self, judged: &Judged<'_>, e: &Evidence, c: &Counters) -> Option<Finding> {
        let before = e.before.as_ref()?;
        let minutes = judged.taken_at.duration_since(before.at).as_secs_f64() / 60.0;
        let per_minute = grown(Some(c.deadlocks), Some(before)) as f64 / minutes.max(1.0);
        let limit = self.settings.deadlocks_per_minute;
        (per_minute > limit).then(|| {
            let message =
                format!("{} had {per_minute:.0} deadlocks a minute since the last run, limit {limit:.0}", judged.target.name);
            e.server.finding(&DEADLOCKS, Severity::Warn, judged.target, message)
        })
    }

    fn sequence(&self, judged: &Judged<'_>, e: &Evidence, s: &Sequence) -> Option<Finding> {
        let share = s.percent();
        let (severity, limit) = self.settings.sequence().exceeded(share)?;
        let message = format!(
            "the sequence {} of {} in {} is at {} of its maximum, limit {}",
            s.name,
            s.database.as_ref().unwrap_or(&e.database),
            judged.target.name,
            percent(share),
            percent(limit)
        );
        let finding = e.server.finding(&SEQUENCE, severity, judged.target, message);
        Some(finding.cite_opt("fills", s.filled.clone()).cite("last value", format!("{} of {}", s.last, s.max)))
    }
}
