//! The loaded configuration of a Prometheus, as far as needed here: jobs and their target files.

use opsctl_core::model::Object;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

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
    use super::*;

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
