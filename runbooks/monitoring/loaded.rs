//! The loaded configuration of a Prometheus, as far as needed here: jobs and their target files, rule files, Alertmanagers.

use opsctl_core::model::Object;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::yaml::{self, list, texts};

/// One job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    pub(super) name: String,
    /// Patterns of the files with its targets (`file_sd_configs`).
    pub(super) files: Vec<String>,
}

/// The jobs of a Prometheus.
pub(super) async fn jobs(cx: &ProbeCx, target: &Object) -> Result<Vec<Job>, ProbeError> {
    let json = cx.json(target, "/api/v1/status/config").await?;
    Ok(json.pointer("/data/yaml").and_then(|y| y.as_str()).map(parse).unwrap_or_default())
}

/// Whether its configuration contains an Alertmanager.
pub(super) async fn names_alertmanagers(cx: &ProbeCx, target: &Object) -> Result<bool, ProbeError> {
    let json = cx.json(target, "/api/v1/status/config").await?;
    let yaml = json.pointer("/data/yaml").and_then(|y| y.as_str()).unwrap_or_default();
    Ok(yaml.lines().any(|l| l.trim() == "alertmanagers:"))
}

/// Parts of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Patterns of rule files.
    pub(super) rule_files: Vec<String>,
    /// Number of entries below `alerting.alertmanagers`.
    pub(super) alertmanagers: usize,
    /// It sends samples to a remote store, which may evaluate rules.
    pub(super) remote_write: bool,
    /// Expressions of the labels that `alert_relabel_configs` remove; `None` if they change alerts in another way.
    pub(super) dropped_labels: Option<Vec<String>>,
    /// Service discovery by files, of scrape jobs and of Alertmanagers.
    pub(super) target_files: Vec<TargetFiles>,
}

/// One entry of `file_sd_configs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TargetFiles {
    /// The job; `None` for Alertmanagers.
    pub(super) job: Option<String>,
    pub(super) patterns: Vec<String>,
    /// Refresh interval, in seconds.
    pub(super) refresh_s: i64,
}

/// The configuration that a Prometheus runs with.
pub(super) async fn config(cx: &ProbeCx, target: &Object) -> Result<Config, ProbeError> {
    let json = cx.json(target, "/api/v1/status/config").await?;
    let parsed = json.pointer("/data/yaml").and_then(|y| y.as_str()).and_then(config_of);
    parsed.ok_or_else(|| ProbeError::failed("its configuration", target.to_string(), "unknown format"))
}

/// Parses the configuration as printed by the API.
pub(super) fn config_of(text: &str) -> Option<Config> {
    let all = yaml::parse(text)?;
    let alerting = all.get("alerting").cloned().unwrap_or_default();
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let dropped = list(&alerting, "alert_relabel_configs").map(|r| (text(r, "action") == "labeldrop").then(|| text(r, "regex")));
    let of_files = |job: Option<String>, part: &Value| -> Vec<TargetFiles> {
        let entry = |sd: &Value| TargetFiles {
            job: job.clone(),
            patterns: texts(sd, "files").map(str::to_owned).collect(),
            // the default of Prometheus
            refresh_s: seconds(&text(sd, "refresh_interval")).unwrap_or(300),
        };
        list(part, "file_sd_configs").map(entry).collect()
    };
    let scraped = list(&all, "scrape_configs").flat_map(|job| of_files(Some(text(job, "job_name")), job));
    let notified = list(&alerting, "alertmanagers").flat_map(|entry| of_files(None, entry));
    Some(Config {
        rule_files: texts(&all, "rule_files").map(str::to_owned).collect(),
        alertmanagers: list(&alerting, "alertmanagers").count(),
        remote_write: list(&all, "remote_write").next().is_some(),
        dropped_labels: dropped.collect(),
        target_files: scraped.chain(notified).collect(),
    })
}

/// A duration of Prometheus (`1h30m`, `500ms`), rounded up to seconds.
fn seconds(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let n: i64 = rest[..digits].parse().ok()?;
        let milliseconds = match &rest[digits..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        total = total.checked_add(n.checked_mul(milliseconds)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total.saturating_add(999) / 1000)
}

/// Prometheus prints its configuration in a fixed layout: two spaces per level, lists at the level of their key.
pub(super) fn parse(yaml: &str) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let (mut scraping, mut sd, mut listing) = (false, false, false);
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if indent == 0 && !text.starts_with("- ") {
            scraping = text == "scrape_configs:";
        }
        if !scraping {
            continue;
        }
        if let Some(name) = text.strip_prefix("- job_name:") {
            jobs.push(Job { name: unquoted(name), files: Vec::new() });
            (sd, listing) = (false, false);
            continue;
        }
        // keys of a job
        if indent == 2 && !text.starts_with('-') {
            sd = text == "file_sd_configs:";
            listing = false;
            continue;
        }
        if !sd {
            continue;
        }
        match text.strip_prefix("- ") {
            Some("files:") => listing = true,
            Some(file) if listing => {
                if let Some(job) = jobs.last_mut() {
                    job.files.push(unquoted(file));
                }
            }
            _ => listing = text == "files:",
        }
    }
    jobs
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn rule_files_alertmanagers_and_target_files() {
        let yaml = "alerting:\n  alert_relabel_configs:\n  - regex: replica\n    action: labeldrop\n  alertmanagers:\n  - scheme: http\n    static_configs:\n\
                    \x20   - targets:\n      - am:9093\n  - file_sd_configs:\n    - files:\n      - am.json\n      refresh_interval: 1m30s\nrule_files:\n- /r/*.yml\n\
                    scrape_configs:\n- job_name: node\n  file_sd_configs:\n  - files:\n    - /t/*.json\n    refresh_interval: 500ms\nremote_write:\n- url: http://x\n";
        let config = config_of(yaml).unwrap();
        assert_eq!((config.alertmanagers, config.remote_write), (2, true));
        assert_eq!((config.rule_files, config.dropped_labels), (vec!["/r/*.yml".to_owned()], Some(vec!["replica".to_owned()])));
        let files: Vec<_> = config.target_files.into_iter().map(|f| (f.job, f.refresh_s)).collect();
        assert_eq!(files, [(Some("node".to_owned()), 1), (None, 90)]);
        let replaced =
            config_of("alerting:\n  alert_relabel_configs:\n  - target_label: severity\n    action: replace\n").unwrap();
        assert_eq!((replaced.dropped_labels, replaced.alertmanagers), (None, 0));
    }

    #[test]
    fn jobs_with_file_sd_patterns() {
        let yaml = "global:\n  scrape_interval: 1s\nrule_files:\n- /etc/rules.yml\nscrape_configs:\n- job_name: lab\n  honor_timestamps: true\n\
                    \x20 static_configs:\n  - targets:\n    - b1:8080\n- job_name: \"node\"\n  scheme: http\n  file_sd_configs:\n  - files:\n\
                    \x20   - /etc/prometheus/targets/*.json\n    - /x/*.yml\n    refresh_interval: 30s\nremote_write:\n- url: http://x\n";
        let jobs = parse(yaml);
        assert_eq!(jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>(), ["lab", "node"]);
        assert_eq!(jobs[1].files, ["/etc/prometheus/targets/*.json", "/x/*.yml"]);
        assert!(jobs[0].files.is_empty());
    }
}
