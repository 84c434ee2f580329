//! The engine's own process on this host.

use std::fs;

use serde::{Deserialize, Serialize};

/// How `dockerd` runs here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Daemon {
    /// It was told to leave the packet filter alone (`--iptables=false`, or in `daemon.json`).
    pub hands_off: bool,
    /// It has a network namespace of its own, and its rules are there.
    pub elsewhere: bool,
}

/// Looks for it; none when no such process is seen.
#[must_use]
pub fn daemon() -> Option<Daemon> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(Result::ok).filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let pid = pids
        .into_iter()
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "dockerd"))?;
    let network = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let elsewhere = matches!((network("self"), network(&pid.to_string())), (Some(ours), Some(its)) if ours != its);
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<String> = String::from_utf8_lossy(&arguments).split('\0').map(str::to_owned).collect();
    let config = config_file(&arguments);
    let text = fs::read_to_string(format!("/proc/{pid}/root{config}")).or_else(|_| fs::read_to_string(&config));
    Some(Daemon { hands_off: leaves_rules_alone(&arguments, &text.unwrap_or_default()), elsewhere })
}

fn config_file(arguments: &[String]) -> String {
    let mut at = arguments.iter();
    while let Some(argument) = at.next() {
        if let Some(file) = argument.strip_prefix("--config-file=") {
            return file.to_owned();
        }
        if argument == "--config-file" {
            return at.next().cloned().unwrap_or_default();
        }
    }
    "/etc/docker/daemon.json".to_owned()
}

fn leaves_rules_alone(arguments: &[String], config: &str) -> bool {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    arguments.iter().any(|a| a == "--iptables=false") || config.get("iptables") == Some(&serde_json::Value::Bool(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_leaves_rules_alone_is_known() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(leaves_rules_alone(&words("dockerd --iptables=false"), ""));
        assert!(leaves_rules_alone(&[], r#"{"iptables": false}"#));
        assert!(!leaves_rules_alone(&words("dockerd"), "{ not json"));
        assert_eq!(config_file(&words("dockerd --config-file /a/b.json")), "/a/b.json");
        assert_eq!(config_file(&words("dockerd --config-file=/c.json -H x")), "/c.json");
        assert_eq!(config_file(&[]), "/etc/docker/daemon.json");
    }
}
