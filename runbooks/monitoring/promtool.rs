//! Errors of `promtool check config` that do not prevent Prometheus from loading a configuration. Loading (`reloadConfig`) reads the
//! file and its rules; `promtool` (`checkConfig` in cmd/promtool/main.go) also examines files that Prometheus reads later:
//! target files, credentials and client certificates, and rule files that are named without a wildcard.

use std::time::Duration;

use opsctl_core::model::ServerProcess;
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::docker::run::run_for;
use opsctl_core::probe::servers::prometheus::{ConfigCheck, check_config};

/// Time limit of `promtool --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of rule files in one command.
const MAX_RULE_FILES: usize = 200;

/// Beginnings of errors about files that are not read while loading.
const TOLERATED: &[&str] = &[
    "checking SD file",
    "does not point to an existing file",
    "error checking rule file",
    "error checking authorization credentials",
    "error checking bearer token file",
    "error checking client cert file",
    "error checking client key file",
];

/// Words of errors that depend on the version or the feature flags of `promtool`.
const OF_VERSION: &[&str] = &["not found in type", "unknown function", "experimental", "not enabled", "unknown feature"];

/// Whether a failed check is only about files that Prometheus does not read while loading.
pub(super) fn is_tolerated(checked: &ConfigCheck) -> bool {
    let tolerated = |line: &String| TOLERATED.iter().any(|t| line.contains(t));
    !checked.passes && checked.not_run.is_none() && !checked.says.is_empty() && checked.says.iter().all(tolerated)
}

/// Whether the reason of a failed check depends on the version of `promtool`.
pub(super) fn is_of_version(checked: &ConfigCheck) -> bool {
    !checked.passes && checked.not_run.is_none() && checked.says.iter().any(|l| OF_VERSION.iter().any(|w| l.contains(w)))
}

/// The commands that check the rest of a configuration: `promtool` ends with its first error.
fn rest(config: &str, rules: &[String]) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut commands = vec![words(&["promtool", "check", "config", "--syntax-only", config])];
    let files: Vec<&str> = rules.iter().map(String::as_str).filter(|f| f.starts_with('/')).take(MAX_RULE_FILES).collect();
    if !files.is_empty() {
        commands.push(words(&[&["promtool", "check", "rules"], files.as_slice()].concat()));
    }
    commands
}

/// Checks the syntax of a configuration and its rules; the failed check, if one fails.
pub(super) async fn check_rest(
    docker: Option<&Docker>,
    container: Option<&str>,
    process: ServerProcess,
    config: &str,
    rules: &[String],
) -> Option<ConfigCheck> {
    for command in rest(config, rules) {
        let checked = check_config(docker, container, process, &command).await;
        if !checked.passes {
            return Some(checked);
        }
    }
    None
}

/// The release of `promtool` where the server runs.
pub(super) async fn release_of_promtool(
    docker: Option<&Docker>,
    container: Option<&str>,
    process: ServerProcess,
) -> Option<String> {
    let argv = ["promtool", "--version"].map(str::to_owned);
    let ended = run_for(docker, container, process, &argv, &[], VERSION_TIMEOUT).await.ok()?;
    version(&(ended.stdout + &ended.stderr))
}

/// The release in the output of `promtool --version`: `promtool, version 2.42.0+ds (branch: …)`.
fn version(output: &str) -> Option<String> {
    let (_, rest) = output.split_once(", version ")?;
    rest.split_whitespace().next().map(|v| release(v).to_owned())
}

/// `2.42.0` of `2.42.0+ds`.
pub(super) fn release(version: &str) -> &str {
    version.split(['+', '~', '-']).next().unwrap_or_default().trim_start_matches('v')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(says: &[&str]) -> ConfigCheck {
        ConfigCheck { says: says.iter().map(|s| (*s).to_owned()).collect(), ..ConfigCheck::default() }
    }

    #[test]
    fn files_that_are_not_read_while_loading() {
        for line in [
            "FAILED: checking SD file \"targets/*.json\": invalid character 'b' looking for beginning of value",
            "FAILED: \"rules/none.yml\" does not point to an existing file",
            "FAILED: error checking authorization credentials or bearer token file \"/t\": stat /t: no such file or directory",
            "FAILED: error checking client cert file \"/c\": stat /c: no such file or directory",
        ] {
            assert!(is_tolerated(&failed(&[line])), "{line}");
        }
        for line in [
            "FAILED: parsing YAML file prometheus.yml: yaml: line 3: mapping values are not allowed in this context",
            "rules/a.yml: 1:5: group \"g\", rule 1, \"X\": could not parse expression: 1:3: parse error: unclosed left parenthesis",
            "FAILED: found multiple scrape configs with job name \"a\"",
            "FAILED: client cert file \"/c\" specified without client key file",
        ] {
            assert!(!is_tolerated(&failed(&[line])), "{line}");
        }
        assert!(!is_tolerated(&failed(&[])));
        assert!(!is_tolerated(&failed(&["FAILED: checking SD file \"a\": x", "b.yml: could not parse expression"])));
    }

    #[test]
    fn errors_that_depend_on_the_version() {
        assert!(is_of_version(&failed(&[
            "FAILED: parsing YAML file p.yml: yaml: unmarshal errors:",
            "line 3: field x not found in type config.plain"
        ])));
        assert!(!is_of_version(&failed(&["FAILED: parsing YAML file p.yml: yaml: line 3: did not find expected key"])));
        let output = "promtool, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0)\n";
        assert_eq!(version(output).as_deref(), Some("2.42.0"));
        assert_eq!((release("v3.1.0-rc.0"), version("")), ("3.1.0", None));
    }

    #[test]
    fn commands_for_the_rest() {
        let commands = rest("/p.yml", &["/r/a.yml".to_owned(), "-x".to_owned()]);
        assert_eq!(commands[0].join(" "), "promtool check config --syntax-only /p.yml");
        assert_eq!(commands[1].join(" "), "promtool check rules /r/a.yml");
        assert_eq!(rest("/p.yml", &[]).len(), 1);
    }
}
