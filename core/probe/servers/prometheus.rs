//! Client for the Prometheus HTTP API (<https://prometheus.io/docs/prometheus/latest/querying/api/>).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::address::Address;
use crate::model::{Object, ServerProcess};
use crate::probe::docker::Docker;
use crate::probe::docker::run::run_for;
use crate::probe::{ProbeCx, ProbeError};

/// Health of a scrape target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
    /// Not scraped yet.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A scrape target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrapeTarget {
    /// Its scrape pool: the job name in the configuration.
    pub pool: String,
    /// URL without credentials and query, which may contain a token.
    pub url: String,
    /// Request path with the query: it is sent but neither displayed nor stored.
    #[serde(skip)]
    pub path: String,
    /// Host of the URL.
    pub host: String,
    /// Port of the URL.
    pub port: u16,
    /// Result of the last scrape.
    pub health: Health,
    /// Error of the last scrape, without the URL.
    pub error: String,
    /// Its address before relabelling.
    pub address: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Result of the configuration check of Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigCheck {
    /// Whether the configuration passes.
    pub passes: bool,
    /// Errors as printed by `promtool`.
    pub says: Vec<String>,
    /// Why the check could not be run.
    pub not_run: Option<String>,
    /// The command.
    pub command: String,
}

/// Time limit of the configuration check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `promtool check config FILE` for a Prometheus: in its container, or on this host with its privileges.
pub async fn check_config(
    docker: Option<&Docker>,
    container: Option<&str>,
    process: ServerProcess,
    argv: &[String],
) -> ConfigCheck {
    let mut checked = ConfigCheck { command: argv.join(" "), ..ConfigCheck::default() };
    let ended = match run_for(docker, container, process, argv, &[], CHECK_TIMEOUT).await {
        // the engine could not start it
        Ok(e) if matches!(e.code, Some(126 | 127)) => {
            let missing = if container.is_some() { "is not in its image" } else { "is not installed" };
            Err(format!("{} {missing}", argv.first().map_or("", String::as_str)))
        }
        Ok(e) => Ok((e.code == Some(0), e.stderr + &e.stdout)),
        Err(e) => Err(e),
    };
    match ended {
        Ok((passes, output)) => {
            checked.passes = passes;
            let lines = output.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("Checking ") && *l != "FAILED:");
            // a warning does not fail the check
            let wrong =
                lines.filter(|l| !l.starts_with("SUCCESS") && !l.starts_with("WARNING")).map(|l| l.chars().take(300).collect());
            checked.says = if passes { Vec::new() } else { wrong.take(5).collect() };
        }
        Err(why) => checked.not_run = Some(why),
    }
    checked
}

/// One series in the response to a query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Its labels, name included.
    pub labels: BTreeMap<String, String>,
    /// Its current value.
    pub value: f64,
}

impl Series {
    /// The value of a label, or an empty string.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl ProbeCx {
    /// The active scrape targets of a Prometheus.
    pub async fn scraped(&self, target: &Object) -> Result<Vec<ScrapeTarget>, ProbeError> {
        let json = self.json(target, "/api/v1/targets?state=active").await?;
        let unexpected = || ProbeError::failed("targets", target.to_string(), "the response is not a list of targets");
        parse_targets(&json).ok_or_else(unexpected)
    }

    /// The result of an instant query.
    pub async fn query(&self, target: &Object, promql: &str) -> Result<Vec<Series>, ProbeError> {
        let json = self.json(target, &format!("/api/v1/query?query={}", encoded(promql))).await?;
        let unexpected = || ProbeError::failed("a query", target.to_string(), "the response is not a list of series");
        parse_series(&json).ok_or_else(unexpected)
    }
}

/// The series of a vector, or the one value of a scalar. A histogram has no value and is left out.
fn parse_series(json: &Value) -> Option<Vec<Series>> {
    let result = json.pointer("/data/result")?.as_array()?;
    let number = |v: &Value| v.as_f64().or_else(|| v.as_str()?.parse().ok());
    if json.pointer("/data/resultType").and_then(Value::as_str) == Some("scalar") {
        let value = result.get(1).and_then(number)?;
        return Some(vec![Series { labels: BTreeMap::new(), value }]);
    }
    let series = |v: &Value| {
        Some(Series { labels: v.get("metric").map(texts).unwrap_or_default(), value: number(v.pointer("/value/1")?)? })
    };
    Some(result.iter().filter_map(series).collect())
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let all = object.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
    all.map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), without_secrets))).collect()
}

pub(in crate::probe) fn parse_targets(json: &Value) -> Option<Vec<ScrapeTarget>> {
    let active = json.pointer("/data/activeTargets")?.as_array()?;
    let text = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let scraped = |v: &Value| {
        let scrape_url = text(v, "scrapeUrl");
        let address = Address::parse(&scrape_url);
        let host_port = address.host_port().filter(|_| address.scheme.is_some());
        // a target with an odd URL is still one of its pool
        let pool = Some(text(v, "scrapePool")).filter(|pool| host_port.is_some() || !pool.is_empty())?;
        let (host, port) = host_port.map_or_else(|| (String::new(), 0), |h| (h.host, h.port));
        Some(ScrapeTarget {
            pool,
            path: address.request_target(),
            host,
            port,
            health: v.get("health").and_then(|h| Health::deserialize(h).ok()).unwrap_or_default(),
            error: without_url(&text(v, "lastError")),
            address: v.pointer("/discoveredLabels/__address__").and_then(Value::as_str).unwrap_or_default().to_owned(),
            labels: v.get("labels").map(texts).unwrap_or_default(),
            url: without_secrets(&scrape_url),
        })
    };
    Some(active.iter().filter_map(scraped).collect())
}

/// A URL without credentials and query; other text is unchanged.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let address = Address::parse(text);
    let Some(scheme) = address.scheme else { return text.to_owned() };
    format!("{scheme}://{}{}", address.authority, address.path())
}

/// An error such as `Get "http://b1:8080/metrics?token=x": dial tcp 172.18.0.2:8080: connect: connection refused` without its
/// URL, truncated.
#[must_use]
pub fn without_url(error: &str) -> String {
    let verb = ["Get \"", "Post \""].into_iter().find_map(|v| error.strip_prefix(v));
    let output = verb.and_then(|rest| rest.split_once("\": ")).map_or(error, |(_, output)| output);
    let words: Vec<&str> = output.split_whitespace().filter(|w| !w.contains("://")).collect();
    words.join(" ").chars().take(200).collect()
}

/// Percent-encodes a query for a URL.
pub(in crate::probe) fn encoded(text: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::corpus;

    #[test]
    fn corpus_of_responses() {
        let target = |t: &ScrapeTarget| {
            let health = format!("{:?}", t.health).to_lowercase();
            let address = format!("{}:{}", t.host, t.port);
            let words = [t.pool.as_str(), &address, &health, &t.error];
            words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ")
        };
        let series = |s: &Series| {
            let labels = s.labels.values().map(String::as_str).collect::<Vec<_>>().join(",");
            format!("{labels} {}", s.value).trim().to_owned()
        };
        corpus::check("prometheus-api", 12, |text| {
            let json = serde_json::from_str(text).unwrap();
            let targets: Vec<String> = parse_targets(&json).unwrap_or_default().iter().map(target).collect();
            let found: Vec<String> = parse_series(&json).unwrap_or_default().iter().map(series).collect();
            vec![("targets", targets.join("; ")), ("series", found.join("; "))]
        });
    }

    #[test]
    fn target_list_without_secrets() {
        let body = r#"{"status":"success","data":{"activeTargets":[
            {"scrapeUrl":"http://u:canary@b1:8080/metrics?token=canary","health":"down","scrapePool":"lab",
             "discoveredLabels":{"__address__":"b1:8080"},"labels":{"job":"lab","instance":"b1:8080"},
             "lastError":"Get \"http://b1:8080/metrics?token=canary\": dial tcp 172.18.0.2:8080: connect: connection refused"},
            {"scrapeUrl":"https://x.test/metrics","health":"odd"},{"no":"url"}]}}"#;
        let found = parse_targets(&serde_json::from_str(body).unwrap()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].url.as_str(), found[0].health), ("http://b1:8080/metrics", Health::Down));
        assert_eq!(found[0].error, "dial tcp 172.18.0.2:8080: connect: connection refused");
        assert_eq!((found[0].path.as_str(), found[0].port), ("/metrics?token=canary", 8080));
        assert_eq!((found[0].address.as_str(), found[0].labels["job"].as_str()), ("b1:8080", "lab"));
        assert_eq!((found[1].health, found[1].port), (Health::Unknown, 443));
        assert!(!serde_json::to_string(&found).unwrap().contains("canary"));
        assert_eq!(parse_targets(&Value::Null), None);
    }

    #[test]
    fn target_with_an_odd_url_is_one_of_its_pool() {
        let json = serde_json::json!({"data": {"activeTargets": [{"scrapePool": "node", "scrapeUrl": "", "health": null, "labels": {"shard": 3}}]}});
        let found = parse_targets(&json).unwrap();
        assert_eq!((found[0].pool.as_str(), found[0].host.as_str(), found[0].labels["shard"].as_str()), ("node", "", "3"));
    }

    #[test]
    fn series_of_vectors_and_scalars() {
        let value = |json: &str| {
            let found = parse_series(&serde_json::from_str(json).unwrap())?;
            Some(found.iter().map(|s| s.value).collect::<Vec<_>>())
        };
        let vector = r#"{"data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]},{"value":[1,3]},{"metric":{},"histogram":[1,{}]}]}}"#;
        assert_eq!(value(vector), Some(vec![2.5, 3.0]));
        assert_eq!(value(r#"{"data":{"resultType":"scalar","result":[1,"7"]}}"#), Some(vec![7.0]));
        assert_eq!((value(r#"{"data":{"result":[]}}"#), value("{}")), (Some(vec![]), None));
    }

    #[test]
    fn url_without_secrets() {
        for (url, shown) in [
            ("http://u:canary@[::1]:80/a@b?token=canary#c", "http://[::1]:80/a@b"),
            ("http://u:can#ary@web?token=canary", "http://web"),
            ("b1:8080/x?y", "b1:8080/x?y"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn query_is_percent_encoded() {
        assert_eq!(encoded("up{a=\"b\"} == 0"), "up%7Ba%3D%22b%22%7D%20%3D%3D%200");
    }
}
