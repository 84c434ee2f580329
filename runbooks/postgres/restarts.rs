//! Crash recoveries. The postmaster's start time does not show them: it stays up and restarts its child processes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity, quantity::ago,
};
use opsctl_core::probe::kernel::kmsg::OomKill;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::session::{row, session};
use crate::shared::dependencies::{NO_ROOM, running};
use crate::shared::servers::Server;

const CRASH_RESTART: Code = Code {
    id: "postgres.crash-restart",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a server process crashed or was killed and all sessions were terminated, within the last hour (crit) or day (warn)",
    hint: "the server log contains the process and the signal: 9 is usually the OOM killer, 6 and 11 a bug or a full disk",
    depends_on: &[&running("its"), NO_ROOM],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.restarts",
    title: "PostgreSQL processes do not crash",
    codes: &[CRASH_RESTART],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// The checkpointer has the lifetime of the shared memory.
const STARTS: &str = "SELECT extract(epoch FROM pg_postmaster_start_time())::float8 AS server, \
    (SELECT extract(epoch FROM min(backend_start))::float8 FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS checkpointer, \
    pg_is_in_recovery() AS standby";

/// A checkpointer that started this much later than the server was restarted, in seconds; recovery
/// at startup may delay the first one.
const SLACK: f64 = 5.0;

/// PostgreSQL's error text for a full disk.
const NO_SPACE: &str = "No space left on device";

pub(super) struct Restarts;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Starts {
    server: f64,
    checkpointer: Option<f64>,
    standby: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    starts: Option<Starts>,
    /// Matching lines of the server log.
    log: Vec<String>,
    oom: Vec<OomKill>,
    /// The filesystem of the WAL, if the log reports that it was full.
    full: Option<String>,
    gaps: Vec<String>,
}

impl Check for Restarts {
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
        e.starts = row(&session, "the start times of its processes", STARTS, &mut e.gaps).await;
        if e.crashed_at().is_some() {
            let words = ["terminated by signal", "PANIC", "all server processes terminated", NO_SPACE];
            e.log = super::log_of(cx, &e.server, &words).await;
            if e.log.iter().any(|l| l.contains(NO_SPACE)) {
                e.full = super::disk::of_wal(cx, &e.server).await.map(|f| f.dev);
            }
            if let Ok(kills) = cx.kernel_log.oom_kills().await {
                e.oom = kills.iter().filter(|k| k.task == "postgres").cloned().collect();
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let gaps = e.gaps.clone();
        let Some(at) = e.crashed_at() else { return Judgement { gaps, ..Judgement::default() } };
        let age = judged.taken_at.duration_since(at);
        let severity = match age {
            a if a < SignedDuration::from_hours(1) => Severity::Crit,
            a if a < SignedDuration::from_hours(24) => Severity::Warn,
            _ => return Judgement { gaps, ..Judgement::default() },
        };
        let killed = e.oom.iter().find(|k| k.at.duration_since(at).abs() < SignedDuration::from_mins(2));
        let why = match killed {
            Some(_) => ": the OOM killer killed one of its processes",
            None if e.log.iter().any(|l| l.contains("signal 9")) => ": one of its processes was killed (signal 9)",
            None if e.log.iter().any(|l| l.contains("PANIC")) => ": it panicked",
            None => "",
        };
        let message =
            format!("{} terminated all sessions {} (crash recovery){why}", judged.target.name, ago(judged.taken_at, at));
        let finding = e
            .server
            .finding(&CRASH_RESTART, severity, judged.target, message)
            .since(Some(at))
            .cite("its log", e.log.join("\n"))
            .cite_opt("kernel log", killed.map(|k| k.line.clone()));
        let finding = if killed.is_some_and(|k| k.limited_by.is_none()) { finding.key(KeyKind::Host, "host") } else { finding };
        let finding = match &e.full {
            Some(dev) => finding.key(KeyKind::Filesystem, dev),
            None => finding,
        };
        Judgement { findings: vec![finding], gaps, ..Judgement::default() }
    }
}

impl Evidence {
    /// The time of a restart of the child processes without the postmaster.
    fn crashed_at(&self) -> Option<Timestamp> {
        let starts = self.starts.as_ref()?;
        // on old versions recovery at startup precedes the first checkpointer, and a promotion is not a crash
        let late = starts.checkpointer? - starts.server;
        if late < SLACK || starts.standby {
            return None;
        }
        Timestamp::from_second(seconds(starts.checkpointer?)).ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch; the cast saturates")]
fn seconds(epoch: f64) -> i64 {
    epoch as i64
}
