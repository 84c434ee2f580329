//! Storage of Prometheus: ingestion, write-ahead log, compaction and retention.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Measure, Object, Product, Severity, Unit, quantity,
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::servers::metrics::sum;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::counters::Counters;
use crate::shared::dependencies::{NO_ROOM, running};
use crate::shared::servers::{Server, filesystem_at, working_directory};

const TSDB: Code = Code {
    id: "monitoring.tsdb",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "no sample was stored for {stale_s} although targets are scraped (crit); since the last run its write-ahead log was corrupted or compactions failed (warn; earlier since its start: info); its retention size exceeds its filesystem (warn)",
    hint: "check its log and the filesystem of its data; do not remove files there by hand",
    depends_on: &[&running("its"), NO_ROOM],
    ..Code::BASE
};

static SPEC: CheckSpec =
    CheckSpec { id: "monitoring.tsdb", title: "Samples are stored", codes: &[TSDB], fixes: &[], timeout: Duration::from_secs(9) };

const FAILURES: &[&str] = &[
    "prometheus_tsdb_compactions_failed_total",
    "prometheus_tsdb_wal_corruptions_total",
    "prometheus_tsdb_head_truncations_failed_total",
    "prometheus_tsdb_checkpoint_creations_failed_total",
    "prometheus_tsdb_wal_writes_failed_total",
];
const SIZES: &[&str] = &[
    "prometheus_tsdb_head_max_time",
    "prometheus_tsdb_head_max_time_seconds",
    "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_lowest_timestamp_seconds",
    "prometheus_target_scrape_pool_targets",
];

pub(super) struct Tsdb {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    counters: Counters,
    /// The newest sample, in seconds since the epoch.
    newest: Option<f64>,
    /// Number of targets.
    scraped: usize,
    /// `--storage.tsdb.retention.size`, in bytes.
    keeps_at_most: Option<u64>,
    blocks: Option<f64>,
    path: String,
    space: Option<FsUsage>,
}

impl Check for Tsdb {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let flags = cx.flags(target).await;
        if flags.is_agent() {
            return Err(ProbeError::Skip("it is an agent, which stores no samples".to_owned()));
        }
        let scraped = cx.scraped(target).await?.len();
        let (counters, _) = Counters::read(cx, target, &server.object(target), FAILURES, "").await?;
        let sizes = cx.metrics(target, SIZES).await?;
        let newest = sum(&sizes, "prometheus_tsdb_head_max_time_seconds");
        let path = flags.value("storage.tsdb.path").unwrap_or("data/").to_owned();
        let directory = match server.get().and_then(|s| s.process) {
            Some(process) => working_directory(process.pid).await.unwrap_or_default(),
            None => String::new(),
        };
        let path = if path.starts_with('/') { path } else { format!("{}/{path}", directory.trim_end_matches('/')) };
        Ok(Evidence {
            counters,
            newest: newest.or_else(|| sum(&sizes, "prometheus_tsdb_head_max_time").map(|ms| ms / 1000.0)),
            scraped,
            keeps_at_most: flags.value("storage.tsdb.retention.size").and_then(bytes),
            blocks: sum(&sizes, "prometheus_tsdb_storage_blocks_bytes"),
            space: filesystem_at(cx, &server, &path).await,
            path,
            server,
        })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        let finding = |severity, text: String| {
            let f = e.server.finding(&TSDB, severity, judged.target, text).cite("its data", &e.path);
            match &e.space {
                Some(space) => f.key(KeyKind::Filesystem, &space.dev),
                None => f,
            }
        };
        let mut findings = Vec::new();
        // without a sample the newest timestamp is far in the past or in the future
        let age = e.newest.filter(|n| *n > 1e9 && *n < 1e11).map(|n| now.as_millisecond() as f64 / 1000.0 - n);
        if let Some(age) = age.filter(|a| *a > self.settings.stale_s as f64 && e.scraped > 0) {
            let text = format!(
                "{name} has stored no sample for {}, limit {}, although it scrapes {}",
                seconds(age),
                seconds(self.settings.stale_s as f64),
                quantity::count(e.scraped, "target")
            );
            findings.push(finding(Severity::Crit, text));
        }
        for (counter, failures) in [
            ("prometheus_tsdb_wal_writes_failed_total", "failed writes to its write-ahead log"),
            ("prometheus_tsdb_wal_corruptions_total", "corruptions of its write-ahead log"),
            ("prometheus_tsdb_compactions_failed_total", "failed compactions"),
            ("prometheus_tsdb_head_truncations_failed_total", "failed truncations"),
            ("prometheus_tsdb_checkpoint_creations_failed_total", "failed checkpoints"),
        ] {
            for (_, all, grown) in e.counters.of(counter).filter(|(_, all, _)| *all > 0.0) {
                let (severity, text) = if grown > 0.0 {
                    (Severity::Warn, format!("{name} has {failures}: {grown:.0} since the last run"))
                } else {
                    (Severity::Info, format!("{name} has had {failures}: {all:.0} since its start, none since the last run"))
                };
                findings.push(finding(severity, text));
            }
        }
        if let (Some(limit), Some(space)) = (e.keeps_at_most, &e.space)
            && limit > space.size
        {
            let text = format!(
                "{name} may store {}, more than the {} of {}",
                quantity::bytes(limit),
                quantity::bytes(space.size),
                space.mountpoint
            );
            findings.push(finding(Severity::Warn, text).hint("set --storage.tsdb.retention.size to 80 % of the filesystem"));
        }
        let measures = e.blocks.map(|b| Measure::new(judged.target, "blocks", Unit::Bytes, b)).into_iter().collect();
        let samples = e.counters.samples(&e.server.object(judged.target), now);
        Judgement { findings, measures, samples, ..Judgement::default() }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates; it is shown rounded")]
pub(super) fn seconds(s: f64) -> String {
    quantity::duration(SignedDuration::from_millis((s * 1000.0) as i64))
}

/// `512MB`, `10GB`: powers of 1024, as Prometheus parses them.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "B" | "" => 0,
        "KB" | "KIB" => 10,
        "MB" | "MIB" => 20,
        "GB" | "GIB" => 30,
        "TB" | "TIB" => 40,
        "PB" | "PIB" => 50,
        _ => return None,
    };
    // 0 means no limit
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn retention_sizes() {
        assert_eq!(
            (super::bytes("10GB"), super::bytes("1"), super::bytes("x"), super::bytes("0")),
            (Some(10 << 30), Some(1), None, None)
        );
    }
}
