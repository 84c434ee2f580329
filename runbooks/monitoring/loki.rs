//! Loki: readiness, rejected lines, and the disk of its write-ahead log.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal,
    Role, Severity, quantity,
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::proc::files::file_of;
use opsctl_core::probe::servers::metrics::{MetricSample, sum};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::components::ring_findings;
use super::counters::Counters;
use super::losses::Loss;
use super::rings;
use super::status::ServerState;
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::restart_container::RESTART;
use crate::shared::servers::{READ_TIMEOUT, filesystem_at};

const LOKI: Code = Code {
    id: "monitoring.loki",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer, or its disk was full since the last run (crit); it is not ready {loki_ready_minutes} after its start, rejected lines since the last run, a ring has unhealthy members, or the disk of its write-ahead log is {loki_wal_percent} full (warn); it rejected lines earlier since its start (info)",
    hint: "rejected lines are lost: find the sender; do not raise the limits to admit a replay",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")],
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM, &[DependsOn::likely(Role::ClockWrong, KeyKind::Host, "")]],
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.loki",
    title: "Loki accepts logs",
    codes: &[LOKI],
    fixes: &[RESTART],
    timeout: Duration::from_secs(9),
};

pub(super) const DISCARDED: &str = "loki_discarded_samples_total";
const REJECTED: Loss = Loss { metric: DISCARDED, verb: "rejected", data: "lines", meaning, intended: &[] };
const DISK_FULL: &str = "loki_ingester_wal_disk_full_failures_total";
const DISK_USED: &str = "loki_ingester_wal_disk_usage_percent";

pub(super) struct Loki {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    /// Rejected lines by reason, and write failures because of a full disk.
    counters: Counters,
    /// Usage of the disk of its write-ahead log in percent.
    wal_disk: Option<f64>,
    path: Option<String>,
    space: Option<FsUsage>,
    /// Members of its rings.
    members: Vec<MetricSample>,
    gap: Option<String>,
}

impl Check for Loki {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Loki)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { standing: ServerState::of(cx, target, "/ready").await?, ..Evidence::default() };
        if e.standing.silence.is_silent() {
            return Ok(e);
        }
        let pid = e.standing.server.get().and_then(|s| s.process).map(|p| p.pid);
        let flags = cx.flags(target).await;
        let text = match pid.zip(flags.value("config.file").map(str::to_owned)) {
            Some((pid, file)) => {
                let read = move |io: &Io| file_of(io, pid, &file).unwrap_or_default();
                blocking::run("its configuration", &format!("process {pid}"), READ_TIMEOUT, read).await?
            }
            None => String::new(),
        };
        let prefix = flags.value("common.path-prefix").map(str::to_owned);
        e.path = prefix.or_else(|| text.lines().find_map(|l| l.trim().strip_prefix("path_prefix:")).map(unquoted));
        if let Some(path) = &e.path {
            e.space = filesystem_at(cx, &e.standing.server, path).await;
        }
        let object = e.standing.server.object(target);
        match Counters::read(cx, target, &object, &[DISCARDED, DISK_FULL], "reason").await {
            Ok((counters, _)) => e.counters = counters,
            Err(why) => e.gap = Some(why.to_string()),
        }
        e.members = cx.metrics(target, &rings::MEMBERS).await.unwrap_or_default();
        if let Ok(numbers) = cx.metrics(target, &[DISK_USED]).await {
            // a share of 1, despite the name of the metric
            e.wal_disk = sum(&numbers, DISK_USED).map(|n| if n <= 1.0 { n * 100.0 } else { n });
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(&LOKI, judged, "Loki", true);
        }
        let (name, now) = (&judged.target.name, judged.taken_at);
        let finding = |severity, text: String| {
            let f = e.standing.server.finding(&LOKI, severity, judged.target, text);
            f.cite_opt("its data", e.path.as_ref())
        };
        let on_disk = |f: Finding| match &e.space {
            Some(space) => f.key(KeyKind::Filesystem, &space.dev),
            None => f,
        };
        let mut judgement = Judgement {
            gaps: e.gap.iter().cloned().collect(),
            samples: e.counters.samples(&e.standing.server.object(judged.target), now),
            ..Judgement::default()
        };
        if e.standing.status != 200 {
            judgement.pending.push(format!("{name} to become ready"));
            let limit = SignedDuration::from_mins(self.settings.loki_ready_minutes);
            // "waiting for 15s after being ready" is normal after a start
            if !e.standing.is_younger(now, limit) {
                let since =
                    e.standing.age(now).map_or_else(String::new, |a| format!(" {} after its start", quantity::duration(a)));
                let text =
                    format!("{name} is not ready{since}, limit {}: status {}", quantity::duration(limit), e.standing.status);
                let f = on_disk(finding(Severity::Warn, text)).cite("reply", &e.standing.says);
                judgement
                    .findings
                    .push(f.hint("check its log and the disk of its data: it may be replaying its write-ahead log"));
            }
        }
        let rejected = REJECTED.found(&e.counters, name, now);
        judgement.findings.extend(rejected.into_iter().map(|l| of_clock(l.reason, finding(l.severity, l.text))));
        // members of a ring join some seconds after their start
        if !e.standing.is_younger(now, SignedDuration::from_mins(self.settings.loki_ready_minutes)) {
            judgement.findings.extend(ring_findings(&e.members, name, &finding));
        }
        for (_, all, grown) in e.counters.of(DISK_FULL).filter(|(_, all, _)| *all > 0.0) {
            let (severity, text) = if grown > 0.0 {
                (Severity::Crit, format!("{name} could not write {grown:.0} entries to its write-ahead log: the disk is full"))
            } else {
                (
                    Severity::Info,
                    format!(
                        "{name} could not write {all:.0} entries to its write-ahead log since its start (disk full), none since the last run"
                    ),
                )
            };
            judgement.findings.push(on_disk(finding(severity, text)));
        }
        if let Some(percent) = e.wal_disk.filter(|p| *p >= self.settings.loki_wal_percent) {
            let text = format!(
                "the disk of the write-ahead log of {name} is {} full, limit {}",
                quantity::percent(percent),
                quantity::percent(self.settings.loki_wal_percent)
            );
            judgement.findings.push(
                on_disk(finding(Severity::Warn, text))
                    .hint("at 90 % it stops writing to the log: data in memory is then lost when it exits"),
            );
        }
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        e.standing.plan(&SPEC, finding, judged)
    }
}

/// Ties a rejection because of a timestamp to the clock of this host.
pub(super) fn of_clock(reason: &str, finding: Finding) -> Finding {
    let of_time = ["age", "behind", "future", "order", "old"].iter().any(|w| reason.contains(w));
    if of_time { crate::shared::processes::of_host(finding) } else { finding }
}

/// Meaning of a reason (Loki `docs/operations/request-validation-rate-limits.md`).
fn meaning(reason: &str) -> &'static str {
    match reason {
        "rate_limited" => "above the limit of a tenant: 4 MB/s",
        "per_stream_rate_limit" => "above the limit of a stream: 3 MB/s",
        "too_far_behind" => "over an hour older than the newest line of the stream",
        "greater_than_max_sample_age" => "over a week old",
        "too_far_in_future" => "in the future: check the clock of the sender",
        "line_too_long" => "longer than 256 kB",
        "stream_limit" => "above the stream limit of a tenant",
        _ => "see Loki's documentation of request validation",
    }
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}
