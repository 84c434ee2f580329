//! Latency of PING, fork and disk writes.

use std::time::{Duration, Instant};

use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Sample, Severity, grown,
    quantity::count_of,
};
use opsctl_core::probe::servers::redis::{Any, Session, SlowEntry};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, session};
use crate::shared::processes::of_host;
use crate::shared::servers::Server;

const LATENCY: Code = Code {
    id: "redis.latency",
    severities: &[Severity::Warn],
    when: "the slowest of 20 PINGs takes over {latency_warn_ms}, the last fork took over 1 s, or writes waited for the disk since the last run",
    hint: "check the slow log, large keys (`redis-cli --bigkeys`) and the other load on the disk and the processors",
    depends_on: &[&[
        DependsOn::likely(Role::Starved, KeyKind::Host, ""),
        DependsOn::likely(Role::Starved, KeyKind::Container, "its"),
    ]],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.latency",
    title: "Redis latency is within limits",
    codes: &[LATENCY],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Number of PINGs per run (judgement).
const PINGS: usize = 20;

pub(super) struct Latency {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    /// The slowest reply, in milliseconds.
    slowest_ms: f64,
    /// Slowest commands: name and milliseconds, without arguments, which may contain private data.
    slow: Vec<(String, f64)>,
    /// The counter of the oldest run within an hour.
    before: Option<Sample>,
}

impl Check for Latency {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, &["latest_fork_usec", "aof_delayed_fsync"]).await?;
        let before = cx.history.oldest(&server.object(target), "aof_delayed_fsync", 3600);
        let mut slowest_ms: f64 = 0.0;
        // any reply counts; a single slow one may be a moment in which opsctl itself was not scheduled
        let mut slow_replies = 0;
        for _ in 0..PINGS {
            let started = Instant::now();
            if session.query::<Any>(&["PING"]).await.is_err() && session.refuses.is_none() {
                break;
            }
            let took = started.elapsed().as_secs_f64() * 1000.0;
            if took > self.settings.latency_warn_ms {
                slow_replies += 1;
            }
            slowest_ms = slowest_ms.max(took);
        }
        if slow_replies == 1 {
            slowest_ms = slowest_ms.min(self.settings.latency_warn_ms);
        }
        let mut e = Evidence { server, info, slowest_ms, slow: Vec::new(), before };
        if self.reasons(&e).is_empty() {
            return Ok(e);
        }
        e.slow = slow_log(&session).await;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let object = e.server.object(judged.target);
        let sample = e.info.number("aof_delayed_fsync").map(|n| Sample::count(object, "aof_delayed_fsync", judged.taken_at, n));
        let reasons = self.reasons(e);
        let finding = (!reasons.is_empty()).then(|| {
            let slow: Vec<String> = e.slow.iter().map(|(command, ms)| format!("{command} {ms:.0} ms")).collect();
            let message = format!("{} is slow: {}", judged.target.name, reasons.join("; "));
            of_host(e.server.finding(&LATENCY, Severity::Warn, judged.target, message)).cite("slow log", slow.join(", "))
        });
        Judgement { findings: finding.into_iter().collect(), samples: sample.into_iter().collect(), ..Judgement::default() }
    }
}

impl Latency {
    fn reasons(&self, e: &Evidence) -> Vec<String> {
        let limit = self.settings.latency_warn_ms;
        let mut reasons = Vec::new();
        if e.slowest_ms > limit {
            reasons.push(format!("PING took {:.0} ms, limit {limit:.0} ms", e.slowest_ms));
        }
        let fork = e.info.number("latest_fork_usec").unwrap_or(0);
        if fork > 1_000_000 {
            reasons.push(format!("its last fork took {:.1} s, limit 1 s", fork as f64 / 1e6));
        }
        let delayed = grown(e.info.number("aof_delayed_fsync"), e.before.as_ref());
        if delayed > 0 {
            reasons.push(format!("{} writes waited for the disk since the last run", count_of(delayed)));
        }
        reasons
    }
}

async fn slow_log(session: &Session) -> Vec<(String, f64)> {
    let entries: Vec<SlowEntry> = session.query(&["SLOWLOG", "GET", "10"]).await.unwrap_or_default();
    let mut slow: Vec<(String, f64)> = entries.into_iter().map(|e| (e.command, e.micros as f64 / 1000.0)).collect();
    slow.sort_by(|a, b| b.1.total_cmp(&a.1));
    slow.truncate(3);
    slow
}
