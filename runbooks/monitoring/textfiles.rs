//! Files of the textfile collector of `node_exporter`: their metrics stay as they are when their writer no longer runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::status::prometheus_server;
use super::{Settings, some_of};
use crate::shared::servers::Server;

const STALE: Code = Code {
    id: "monitoring.textfile-stale",
    severities: &[Severity::Warn],
    when: "a file of the textfile collector, written regularly until then, is older than {textfile_intervals} of its usual intervals: its metrics no longer change; or the collector cannot read a file (`node_textfile_scrape_error` is 1)",
    hint: "check the cron job or timer that writes the file, and the log of node_exporter for files that it rejects",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.textfiles",
    title: "Textfile metrics are current",
    codes: &[STALE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Files that did not change for an hour; younger ones are never stale.
const OLD: &str = "time() - node_textfile_mtime_seconds > 3600";
const REJECTED: &str = "node_textfile_scrape_error == 1 and on (instance, job) up == 1";

/// Period in which the usual interval of a file is counted; the default retention of Prometheus is 15 days.
const PERIOD: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Changes within the period from which a file counts as written regularly.
const MIN_CHANGES: f64 = 3.0;
/// Limit of files with a query of their history.
const MAX_FILES: usize = 25;

pub(super) struct Textfiles {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    old: Vec<Textfile>,
    /// Instances with a collector that cannot read a file.
    rejected: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Textfile {
    instance: String,
    file: String,
    /// Age, in seconds.
    age_s: f64,
    /// Changes within 14 days.
    changes: f64,
}

impl Check for Textfiles {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which stores no samples").await?;
        // several jobs can scrape one exporter
        let rejected: BTreeSet<String> =
            cx.query(target, REJECTED).await?.iter().map(|s| s.label("instance").to_owned()).collect();
        let mut old: Vec<Textfile> = cx
            .query(target, OLD)
            .await?
            .iter()
            .map(|s| Textfile {
                instance: s.label("instance").to_owned(),
                file: s.label("file").to_owned(),
                age_s: s.value,
                changes: 0.0,
            })
            // one that is older than the period was not written within it
            .filter(|f| f.age_s < PERIOD.as_secs_f64())
            .collect();
        old.sort_by(|a, b| a.age_s.total_cmp(&b.age_s));
        old.truncate(MAX_FILES);
        if !old.is_empty() {
            let changes = cx.query(target, &history(&old)).await?;
            let changes: BTreeMap<(&str, &str), f64> =
                changes.iter().map(|s| ((s.label("instance"), s.label("file")), s.value)).collect();
            for f in &mut old {
                f.changes = changes.get(&(f.instance.as_str(), f.file.as_str())).copied().unwrap_or_default();
            }
        }
        Ok(Evidence { server, old, rejected: rejected.into_iter().collect() })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let mut findings = Vec::new();
        for f in &e.old {
            let Some(interval) = f.interval() else { continue };
            if f.age_s <= self.settings.textfile_intervals * interval || self.settings.textfiles_ok.contains(&base(&f.file)) {
                continue;
            }
            let text = format!(
                "{name}: the textfile {} of {} was last written {} ago, usually every {}: its metrics are stale",
                f.file,
                f.instance,
                quantity::seconds(f.age_s),
                quantity::seconds(interval)
            );
            findings.push(e.server.finding(&STALE, Severity::Warn, judged.target, text));
        }
        if !e.rejected.is_empty() {
            let text =
                format!("{name}: the textfile collector of {} cannot read a file: its metrics are missing", some_of(&e.rejected));
            let f = e.server.finding(&STALE, Severity::Warn, judged.target, text).cite("query", REJECTED);
            findings.push(f.hint("the log of node_exporter names the file: invalid lines, a duplicate metric, permissions"));
        }
        findings.into()
    }
}

impl Textfile {
    /// Its usual interval in seconds; `None` if it is not written regularly.
    fn interval(&self) -> Option<f64> {
        let written = PERIOD.as_secs_f64() - self.age_s;
        (self.changes >= MIN_CHANGES && written > 0.0).then(|| written / self.changes)
    }
}

/// The query for the changes of these files.
fn history(files: &[Textfile]) -> String {
    let any = |values: Vec<&str>| {
        let mut values: Vec<String> = values.into_iter().map(escaped).collect();
        values.sort();
        values.dedup();
        values.join("|")
    };
    let instances = any(files.iter().map(|f| f.instance.as_str()).collect());
    let paths = any(files.iter().map(|f| f.file.as_str()).collect());
    format!("changes(node_textfile_mtime_seconds{{instance=~\"{instances}\",file=~\"{paths}\"}}[14d:30m])")
}

/// A regular expression for this text, as a string of `PromQL`.
fn escaped(text: &str) -> String {
    regex::escape(text).replace('\\', "\\\\").replace('"', "\\\"")
}

fn base(file: &str) -> String {
    file.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_for_the_history_of_files() {
        let file = |instance: &str, file: &str| Textfile { instance: instance.into(), file: file.into(), ..Textfile::default() };
        assert_eq!(
            history(&[file("a:9100", "/t/x.prom"), file("b:9100", "/t/x.prom")]),
            "changes(node_textfile_mtime_seconds{instance=~\"a:9100|b:9100\",file=~\"/t/x\\\\.prom\"}[14d:30m])"
        );
    }

    #[test]
    fn usual_interval_of_a_file() {
        let of = |age_h: f64, changes: f64| {
            let f = Textfile { age_s: age_h * 3600.0, changes, ..Textfile::default() };
            f.interval().map(|s| (s / 3600.0).round())
        };
        assert_eq!((of(48.0, 12.0), of(2.0, 1.0), of(24.0 * 20.0, 9.0)), (Some(24.0), None, None));
    }
}
