//! The engine's own process on this host.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::probe::process;
use crate::probe::root::Root;

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
    let (pid, arguments) = started()?;
    let network = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let elsewhere = matches!((network("self"), network(&pid.to_string())), (Some(ours), Some(its)) if ours != its);
    let config = configuration_of(Some(pid), &arguments);
    Some(Daemon { hands_off: leaves_rules_alone(&arguments, &config), elsewhere })
}

/// Its configuration file, as text; empty without one, or when it is not ours to read.
pub(in crate::probe) fn configuration() -> String {
    let (pid, arguments) = started().unzip();
    configuration_of(pid, &arguments.unwrap_or_default())
}

/// The process, and what it was started with.
fn started() -> Option<(i32, Vec<String>)> {
    let pid = process::all().ok()?.find(|pid| process::comm(*pid).is_some_and(|comm| comm == "dockerd"))?;
    let arguments = process::command_line(pid).unwrap_or_default();
    Some((pid, arguments.split('\0').map(str::to_owned).collect()))
}

/// As the process sees it, or as this one does.
fn configuration_of(pid: Option<i32>, arguments: &[String]) -> String {
    let path = config_file(arguments);
    let theirs = pid.and_then(|pid| Root::of(pid).ok()?.bytes(&path, 1 << 20).ok());
    let bytes = theirs.or_else(|| fs::read(&path).ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
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
