//! Log replay: a collector that lost its positions sends old logs again after a start (the Alloy incident).

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::counters::Counters;
use super::loki::DISCARDED;
use super::status::started;
use crate::shared::servers::Server;

const STORM: Code = Code {
    id: "monitoring.replay-storm",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a log collector that started less than {replay_storm_minutes} ago, without persisted positions (crit) or with them (warn), sends lines that Loki rejects as too old or too many",
    hint: "mount a volume at the directory of its positions, then recreate it once; do not raise Loki's limits and do not restart it again: each start sends everything once more",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.replay-storm",
    title: "Logs are not sent again",
    codes: &[STORM],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Default directories of the positions in the images.
const ALLOY: &str = "/var/lib/alloy/data";
const PROMTAIL: &str = "/tmp";

/// Number of inspected log lines.
const MAX_LOG_LINES: u32 = 500;

/// Log lines of a collector after a rejection by Loki.
const REJECTION_PATTERNS: &[&str] =
    &["entry too far behind", "429 Too Many Requests", "ingestion rate limit exceeded", "timestamp too old"];

pub(super) struct Replay {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    started_at: Option<Timestamp>,
    /// Path of its positions.
    positions: String,
    /// The positions outlive the container.
    kept: bool,
    /// Log lines about rejections, and the last of them.
    refused: usize,
    last: Option<String>,
    /// The Lokis of this host: name, id, and recently rejected lines (too old or too many).
    lokis: Vec<(String, String, f64)>,
}

impl Check for Replay {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        [Product::Alloy, Product::Promtail].into_iter().flat_map(|p| inventory.server_targets(p)).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let Some(process) = server.get().and_then(|s| s.process) else {
            return Err(ProbeError::Skip("it is not running".to_owned()));
        };
        let mut e = Evidence { started_at: started(process), kept: true, ..Evidence::default() };
        let limit = SignedDuration::from_mins(self.settings.replay_storm_minutes);
        let now = opsctl_core::probe::io::clock::now();
        if e.started_at.is_none_or(|t| now.duration_since(t) > limit) {
            return Ok(Evidence { server, ..e });
        }
        let flags = cx.flags(target).await;
        let alloy = target.kind == Product::Alloy.kind();
        e.positions = match (alloy, flags.value("storage.path"), flags.value("positions.file")) {
            (true, Some(path), _) if path.starts_with('/') => path.to_owned(),
            (true, ..) => ALLOY.to_owned(),
            (false, _, Some(path)) => path.to_owned(),
            (false, ..) => PROMTAIL.to_owned(),
        };
        if let (Some(id), Some(docker)) = (server.get().and_then(|s| s.container.clone()), &cx.docker) {
            let container = docker.inspect(&id).await?;
            let covers = |m: &str| Path::new(&e.positions).starts_with(m) && m != "/";
            e.kept = container.mounts.iter().any(|m| m.kind != "tmpfs" && covers(&m.destination));
            // the log also contains earlier runs of the same container
            if let Some(since) = e.started_at {
                let log = docker.log_since(&id, since, MAX_LOG_LINES).await?;
                let both = [String::from_utf8_lossy(&log.stdout), String::from_utf8_lossy(&log.stderr)];
                let mut signs = both.iter().flat_map(|t| t.lines()).filter(|l| REJECTION_PATTERNS.iter().any(|s| l.contains(s)));
                e.refused = signs.clone().count();
                e.last = signs.next_back().map(|l| l.chars().take(200).collect());
            }
        }
        for loki in cx.inventory.servers.iter().filter(|s| s.product == Product::Loki) {
            let at = loki.object();
            let Ok((counters, _)) = Counters::read(cx, &at, &loki.identity(), &[DISCARDED], "reason").await else { continue };
            let replayed = |reason: &str| {
                matches!(reason, "too_far_behind" | "rate_limited" | "greater_than_max_sample_age" | "per_stream_rate_limit")
            };
            let grown = counters.of(DISCARDED).filter(|(reason, ..)| replayed(reason)).map(|(.., grown)| grown).sum();
            e.lokis.push((loki.name.clone(), loki.id.clone(), grown));
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        let limit = SignedDuration::from_mins(self.settings.replay_storm_minutes);
        let Some(age) = e.started_at.map(|t| now.duration_since(t)).filter(|a| *a <= limit) else { return Judgement::default() };
        let refusing: Vec<&(String, String, f64)> = e.lokis.iter().filter(|(.., grown)| *grown > 0.0).collect();
        // with persisted positions, a local Loki that rejects nothing now means that the replay is over
        let here = !e.lokis.is_empty();
        if e.refused == 0 || (here && refusing.is_empty() && e.kept) {
            return Judgement::default();
        }
        let age = quantity::duration(age);
        let (severity, text) = if e.kept {
            let text = format!(
                "lines that {name} has sent since its start {age} ago are rejected as too old or too many, although its positions in {} are persisted",
                e.positions
            );
            (Severity::Warn, text)
        } else {
            let text = format!(
                "{name} sends old logs again since its start {age} ago, and they are rejected: {} with its positions is not on a volume",
                e.positions
            );
            (Severity::Crit, text)
        };
        let mut f = e
            .server
            .finding(&STORM, severity, judged.target, text)
            .since(e.started_at)
            .cite("matching log lines", e.refused.to_string())
            .cite_opt("the last", e.last.as_ref());
        for (loki, id, grown) in refusing {
            f = f.cite(format!("recently rejected by {loki}"), format!("{grown:.0}")).key(KeyKind::Server, id);
        }
        if e.kept {
            f = f.likely().hint(
                "it was behind, or another client sends the same streams: wait until it has caught up, and do not restart it",
            );
        }
        vec![f].into()
    }
}
