//! The entry of this host in the target files of a Prometheus (`file_sd_configs`): expected labels and present labels.

use std::collections::BTreeMap;
use std::path::Path;

use opsctl_core::probe::docker::Mount;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Enrolment;

/// A label that Prometheus drops (its name begins with `__`) and that marks the author of the entry: JSON has no comments.
const MARK: &str = "__written_by__";

/// Value of [`MARK`]. The guard recognizes opsctl's own files by `written by opsctl` in their first two lines.
const MARK_VALUE: &str = "written by opsctl (monitoring.enrol)";

/// The label with the path of the metrics.
const PATH: &str = "__metrics_path__";

/// Alloy's built-in node exporter, if its configuration names it localhost.
pub(super) const ALLOY_PATH: &str = "/api/v0/component/prometheus.exporter.unix.localhost/metrics";

/// An entry for this host's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// Path on this host; empty if the file is not on this host.
    pub(super) path: String,
    /// Written by opsctl.
    pub(super) ours: bool,
    /// The only entry of its file.
    pub(super) alone: bool,
    pub(super) labels: BTreeMap<String, String>,
    /// The complete file, if the entry is the only one.
    pub(super) text: String,
}

/// The entry of an address in the text of a file. The error is the reason why the file cannot be parsed.
pub(super) fn entry(path: &str, text: &str, address: &str) -> Result<Option<Entry>, String> {
    let Ok(Value::Array(groups)) = serde_json::from_str::<Value>(text) else {
        let why = format!("{path} contains {address} and is not a JSON list: its labels cannot be compared");
        return if text.contains(address) { Err(why) } else { Ok(None) };
    };
    let targets = |g: &Value| -> Vec<String> {
        let all = g.get("targets").and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|t| t.as_str().map(str::to_owned)).collect()
    };
    let Some(group) = groups.iter().find(|g| targets(g).iter().any(|t| t == address)) else { return Ok(None) };
    let labels = group.get("labels").and_then(Value::as_object).into_iter().flatten();
    let mut labels: BTreeMap<String, String> = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
    let is_own = labels.remove(MARK).is_some_and(|m| m == MARK_VALUE);
    let alone = groups.len() == 1 && targets(group).len() == 1;
    let text = if alone { text.to_owned() } else { String::new() };
    Ok(Some(Entry { path: path.to_owned(), ours: is_own, alone, labels, text }))
}

/// The labels this host should have.
pub(super) fn expected_labels(host: &Enrolment, metrics_path: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = host.labels.clone();
    if let Some(path) = metrics_path.filter(|p| *p != "/metrics") {
        labels.insert(PATH.to_owned(), path.to_owned());
    }
    labels
}

/// Differences between the found and the expected labels; empty if they are equal.
pub(super) fn drift(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> Vec<String> {
    let usual =
        |labels: &BTreeMap<String, String>, name: &str| labels.get(name).filter(|v| name != PATH || *v != "/metrics").cloned();
    let mut names: Vec<&String> = found.keys().chain(expected.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| match (usual(found, name), usual(expected, name)) {
        (Some(is), Some(should)) if is != should => Some(format!("{name} is {is}, not {should}")),
        (Some(is), None) => Some(format!("{name} is {is} and is not wanted")),
        (None, Some(should)) => Some(format!("{name} ({should}) is missing")),
        _ => None,
    };
    names.iter().filter_map(differs).collect()
}

/// The target file for this host. JSON is valid YAML, so the file extension does not matter.
pub(super) fn text(address: &str, labels: &BTreeMap<String, String>) -> String {
    let mut labels: BTreeMap<&str, &str> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.insert(MARK, MARK_VALUE);
    // the mark is in the first line, independent of the label names
    let mark = json!({ MARK: MARK_VALUE }).to_string();
    labels.remove(MARK);
    let rest: Vec<String> = labels.iter().map(|(k, v)| format!("    {}: {}", Value::from(*k), Value::from(*v))).collect();
    let mark = mark.trim_end_matches('}');
    let rest = if rest.is_empty() { String::new() } else { format!(",\n{}", rest.join(",\n")) };
    format!("[{{\"labels\": {mark}{rest}}},\n  \"targets\": [{}]}}]\n", Value::from(address))
}

/// The host path of a path in a container; `None` if it is in the container's writable layer.
pub(super) fn on_host(path: &str, mounts: &[Mount]) -> Option<String> {
    let over = mounts.iter().filter(|m| !m.source.is_empty() && Path::new(path).starts_with(&m.destination));
    let mount = over.max_by_key(|m| m.destination.len())?;
    let rest = Path::new(path).strip_prefix(&mount.destination).ok()?;
    let joined = if rest.as_os_str().is_empty() {
        mount.source.clone()
    } else {
        Path::new(&mount.source).join(rest).display().to_string()
    };
    Some(joined)
}

/// A separate file that matches a pattern with an asterisk: `/etc/prometheus/targets/*.json`.
pub(super) fn own_file(pattern: &str, hostname: &str) -> Option<String> {
    let (directory, name) = pattern.rsplit_once('/')?;
    let usable = name.matches('*').count() == 1 && !directory.contains(['*', '?', '[']) && !name.contains(['?', '[']);
    let clean: String =
        hostname.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' }).collect();
    (usable && !clean.is_empty()).then(|| format!("{directory}/{}", name.replace('*', &clean)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn written_entry_is_parsed_and_recognized_as_own() {
        let expected = labels(&[("environment", "production"), ("a\"b", "x\ny")]);
        for expected in [expected, BTreeMap::new()] {
            let text = text("10.0.0.5:9100", &expected);
            assert!(text.lines().next().unwrap().contains("written by opsctl"), "{text}");
            let found = entry("/t/web.json", &text, "10.0.0.5:9100").unwrap().unwrap();
            assert!(found.ours && found.alone && drift(&found.labels, &expected).is_empty(), "{found:?}");
        }
    }

    #[test]
    fn entry_shared_with_other_hosts() {
        let text = r#"[{"targets":["a:1","b:1"],"labels":{"maintainer":"x"}}]"#;
        let found = entry("/t", text, "a:1").unwrap().unwrap();
        assert!(!found.ours && !found.alone && found.text.is_empty());
        assert_eq!(entry("/t", text, "c:1"), Ok(None));
        assert!(entry("/t", "- targets: [a:1]", "a:1").is_err() && entry("/t", "x", "a:1").unwrap().is_none());
    }

    #[test]
    fn label_drift() {
        let found = labels(&[("maintainer", "x"), ("environment", "staging"), (PATH, "/metrics")]);
        let expected = labels(&[("maintainers", "x"), ("environment", "production")]);
        assert_eq!(
            drift(&found, &expected),
            ["environment is staging, not production", "maintainer is x and is not wanted", "maintainers (x) is missing"]
        );
    }

    #[test]
    fn container_paths_map_to_host_paths() {
        let mount = |destination: &str, source: &str| Mount {
            destination: destination.into(),
            source: source.into(),
            ..Mount::default()
        };
        let mounts = [mount("/etc", "/a"), mount("/etc/prometheus", "/srv/prom")];
        assert_eq!(on_host("/etc/prometheus/targets/x.json", &mounts).as_deref(), Some("/srv/prom/targets/x.json"));
        assert_eq!(on_host("/data/x", &mounts), None);
        assert_eq!(own_file("/t/*.json", "web 1").as_deref(), Some("/t/web-1.json"));
        assert_eq!((own_file("/t/x.json", "w"), own_file("/*/x*.json", "w")), (None, None));
    }
}
