//! The configuration as opsctl uses it: every value checked, every default filled in.

use std::path::PathBuf;
use std::time::Duration;

use opsctl_core::probe::docker::Endpoint as EngineEndpoint;
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_runbooks::Settings;
use opsctl_runbooks::monitoring::Enrolment;

use super::endpoint;
use super::names::{did_you_mean, glob};
use super::problem::Problem;
use super::raw::{self, Raw};
use super::server::{self, Server};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Limits and expectations of the runbooks.
    pub runbooks: Settings,
    /// What `opsctl fix` may do without a person.
    pub policy: Policy,
    /// Where the container engine listens, if the file says so.
    pub endpoint: Option<EngineEndpoint>,
    /// `[paths] state_dir`, if the file says so; see [`super::Surroundings::state_dir`] for where it is otherwise.
    pub state_dir: Option<PathBuf>,
    /// Subject name pattern and owner, first match wins.
    pub owners: Vec<(String, String)>,
    /// Databases, caches and brokers that need help to be found or logged in to.
    pub servers: Vec<Server>,
    /// Addresses that are asked.
    pub endpoints: Vec<Endpoint>,
    /// How long a whole run may take.
    pub deadline: Duration,
    /// How many days numbers of earlier runs are kept.
    pub history_days: u16,
    /// Runbooks and checks that are never run.
    pub skip: Vec<String>,
    /// The file this comes from; none when everything is the default.
    pub file: Option<PathBuf>,
}

/// What `opsctl fix` may do without a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Fixes of risk R3 that `--yes --risk R3` may run.
    pub allow: Vec<String>,
    /// How often one fix may be applied to one subject within an hour.
    pub max_fixes_per_hour: u32,
}

impl Config {
    /// Who owns the subject of this name.
    #[must_use]
    pub fn owner_of(&self, subject: &str) -> Option<&str> {
        self.owners.iter().find(|(pattern, _)| glob(pattern, subject)).map(|(_, owner)| owner.as_str())
    }
}

/// The names a configuration may mention.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Fix ids.
    pub fixes: Vec<String>,
    /// Runbook ids and check ids.
    pub checks: Vec<String>,
}

impl Known {
    /// Everything the registry of runbooks knows.
    #[must_use]
    pub fn registry() -> Self {
        let runbooks = opsctl_runbooks::all(&Settings::default());
        let specs = || runbooks.iter().flat_map(|r| r.checks.iter().map(|c| c.spec()));
        let mut fixes: Vec<String> = specs().flat_map(|s| s.fixes).map(|f| f.id.to_owned()).collect();
        fixes.sort();
        fixes.dedup();
        let checks = runbooks.iter().map(|r| r.id.to_owned()).chain(specs().map(|s| s.id.to_owned())).collect();
        Self { fixes, checks }
    }
}

/// The longest deadline that makes sense for a run a person or cron waits for.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// Checks every value.
pub fn validate(raw: &Raw, known: &Known) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    for fix in &raw.policy.allow {
        if !known.fixes.contains(fix.get_ref()) {
            let hint = did_you_mean(fix.get_ref(), known.fixes.iter().map(String::as_str));
            let hint = if hint.is_empty() { "; `opsctl list` shows all fixes".to_owned() } else { hint };
            problems.push(Problem::new(fix.span(), format!("`allow` in [policy]: no fix is called `{}`{hint}", fix.get_ref())));
        }
    }
    for name in &raw.run.skip {
        if !known.checks.contains(name.get_ref()) {
            let hint = did_you_mean(name.get_ref(), known.checks.iter().map(String::as_str));
            problems.push(Problem::new(
                name.span(),
                format!("`skip` in [run]: no runbook or check is called `{}`{hint}", name.get_ref()),
            ));
        }
    }
    let deadline = match duration(raw.run.deadline.get_ref()) {
        Ok(deadline) => deadline,
        Err(why) => {
            problems.push(Problem::new(raw.run.deadline.span(), format!("`deadline` in [run]: {why}")));
            Duration::ZERO
        }
    };
    let engine = raw.engine.endpoint.as_ref().and_then(|e| match EngineEndpoint::parse(e.get_ref()) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            problems.push(Problem::new(e.span(), format!("`endpoint` in [engine]: {why}")));
            None
        }
    });
    let mut servers = Vec::new();
    for entry in &raw.server {
        match server::validate(entry) {
            Ok(server) => servers.push(server),
            Err(problem) => problems.push(problem),
        }
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for entry in &raw.endpoint {
        match endpoint::validate(entry) {
            Ok(endpoint) if endpoints.iter().any(|e| e.id == endpoint.id) => {
                problems.push(Problem::new(entry.url.span(), "`url` in [[endpoint]]: it is asked from there already"));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(dir) = raw.paths.state_dir.as_ref().filter(|d| !d.get_ref().starts_with('/')) {
        problems.push(Problem::new(dir.span(), "`state_dir` in [paths]: not an absolute path"));
    }
    let host = host(&raw.host, &mut problems);
    if !problems.is_empty() {
        problems.sort_by_key(|p| p.span.start);
        return Err(problems);
    }
    Ok(Config {
        runbooks: {
            let mut settings = raw.runbooks.clone();
            settings.monitoring.host = host;
            settings
        },
        policy: Policy {
            allow: raw.policy.allow.iter().map(|f| f.get_ref().clone()).collect(),
            max_fixes_per_hour: raw.policy.max_fixes_per_hour,
        },
        endpoint: engine,
        history_days: raw.run.history_days,
        state_dir: raw.paths.state_dir.as_ref().map(|d| d.get_ref().into()),
        owners: raw.owner.iter().map(|o| (o.pattern.clone(), o.owner.clone())).collect(),
        servers,
        endpoints,
        deadline,
        skip: raw.run.skip.iter().map(|s| s.get_ref().clone()).collect(),
        file: None,
    })
}

/// `[host]`; none when it says nothing.
fn host(raw: &raw::Host, problems: &mut Vec<Problem>) -> Option<Enrolment> {
    if let Some(address) = &raw.address
        && address.get_ref().rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
    {
        problems.push(Problem::new(address.span(), "`address` in [host]: not `host:port`"));
    }
    if let Some(file) = raw.targets_file.as_ref().filter(|f| {
        let extension = std::path::Path::new(f.get_ref().as_str()).extension().and_then(|e| e.to_str());
        !f.get_ref().starts_with('/') || !matches!(extension, Some("json" | "yml" | "yaml"))
    }) {
        let why = "`targets_file` in [host]: not an absolute path that ends in .json, .yml or .yaml";
        problems.push(Problem::new(file.span(), why));
    }
    let said = raw.monitored.is_some() || !raw.labels.is_empty() || raw.address.is_some() || raw.targets_file.is_some();
    said.then(|| Enrolment {
        monitored: raw.monitored.unwrap_or(true),
        labels: raw.labels.clone(),
        address: raw.address.as_ref().map(|a| a.get_ref().clone()),
        metrics_path: raw.metrics_path.clone(),
        targets_file: raw.targets_file.as_ref().map(|f| f.get_ref().clone()),
    })
}

/// Reads `10s`, `500ms`, `1m 30s`: how long a run may take, on the command line and in the file.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.trim().parse().map_err(|_| format!("`{text}` is not a length of time such as `10s`, `500ms` or `1m 30s`"))?;
    match Duration::try_from(parsed) {
        Ok(d) if d > Duration::ZERO && d <= LONGEST_DEADLINE => Ok(d),
        _ => Err(format!("`{text}` is not between 1ms and 1h")),
    }
}
