//! The validated configuration with all defaults.

use std::path::PathBuf;
use std::time::Duration;

use opsctl_core::model::address::split_port;
use opsctl_core::model::{CheckSpec, Inventory};
use opsctl_core::probe::docker::Endpoint as EngineEndpoint;
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_runbooks::Settings;
use opsctl_runbooks::monitoring::Enrolment;

use super::alert::{self, Alert};
use super::delivery::{self, Delivery};
use super::endpoint;
use super::listen::{self, Listen};
use super::names::{did_you_mean, glob};
use super::problem::ValidationError;
use super::raw::{self, Raw};
use super::server::{self, Server};
use super::site::{Site, SiteRunbook};
use super::waiver::{Waiver, Which, Window};
use crate::output::FileMode;

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Limits and expectations of the runbooks.
    pub runbooks: Settings,
    /// Fixes allowed without confirmation, and rate limits.
    pub policy: Policy,
    /// The endpoint of the container engine, if configured.
    pub endpoint: Option<EngineEndpoint>,
    /// The signing key of the journal.
    pub signing_key: Option<PathBuf>,
    /// `[paths] state_dir`, if configured; see [`super::ConfigEnvironment::state_dir`] for the default.
    pub state_dir: Option<PathBuf>,
    /// Subject name pattern and owner, first match wins.
    pub owners: Vec<(String, String)>,
    /// Configured databases, caches and brokers.
    pub servers: Vec<Server>,
    /// Addresses to check.
    pub endpoints: Vec<Endpoint>,
    /// Runbooks for alerts that no runbook lists.
    pub alerts: Vec<Alert>,
    /// Destinations of reports and responses.
    pub deliveries: Vec<Delivery>,
    /// URL requested after every report, with unsubstituted variables.
    pub heartbeat: Option<String>,
    /// Interval of reminders of open findings.
    pub remind_after: jiff::SignedDuration,
    /// File for the textfile collector.
    pub textfile: Option<PathBuf>,
    /// Mode of reports in files.
    pub file_mode: FileMode,
    /// Settings of `opsctl listen`.
    pub listen: Listen,
    /// Waivers.
    pub waivers: Vec<Waiver>,
    /// Deadline of a run.
    pub deadline: Duration,
    /// Retention of samples, in days.
    pub history_days: u16,
    /// Runbooks and checks that are never run.
    pub skip: Vec<String>,
    /// Site runbooks.
    pub site: Site,
    /// The source file; `None` if all values are defaults.
    pub file: Option<PathBuf>,
    /// Notes about the configuration itself, for the report.
    pub notes: Vec<String>,
}

/// Fixes allowed without confirmation, and rate limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Fixes that `opsctl listen` may apply; those of risk R3 also `--yes --risk R3`.
    pub allow: Vec<String>,
    /// Limit per hour of one fix for one subject.
    pub max_fixes_per_hour: u32,
    /// Limit per hour of one fix on this host, for all subjects.
    pub max_per_fix: u32,
    /// Limit per hour of all fixes on this host.
    pub max_per_host: u32,
}

impl Config {
    /// The owner of the subject with this name.
    #[must_use]
    pub fn owner_of(&self, subject: &str) -> Option<&str> {
        self.owners.iter().find(|(pattern, _)| glob(pattern, subject)).map(|(_, owner)| owner.as_str())
    }
}

/// The names that a configuration may refer to.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    /// Fix ids.
    pub fixes: Vec<String>,
    /// Runbook ids and check ids.
    pub checks: Vec<String>,
    /// Codes of findings.
    pub codes: Vec<String>,
    /// Codes of findings about the host as a whole.
    pub host_codes: Vec<String>,
}

impl KnownNames {
    /// All names in the registry of runbooks.
    #[must_use]
    pub fn registry() -> Self {
        let runbooks = opsctl_runbooks::all(&Settings::default());
        let ids = runbooks.iter().map(|r| r.id);
        let mut known = Self::of(ids, runbooks.iter().flat_map(|r| r.checks.iter().map(|c| c.spec())));
        // with an empty inventory, only checks of the host have a target
        let nothing = Inventory::default();
        let host = runbooks.iter().flat_map(|r| &r.checks).filter(|c| !c.targets(&nothing).is_empty());
        known.host_codes = host.flat_map(|c| c.spec().codes).map(|c| c.id.to_owned()).collect();
        known
    }

    /// Adds the names of site runbooks.
    #[must_use]
    pub fn with(&self, site: &[&'static SiteRunbook]) -> Self {
        let own = Self::of(site.iter().map(|o| o.id), site.iter().flat_map(|o| o.checks.iter().map(|c| c.spec)));
        Self {
            fixes: [self.fixes.clone(), own.fixes].concat(),
            checks: [self.checks.clone(), own.checks].concat(),
            codes: [self.codes.clone(), own.codes].concat(),
            host_codes: self.host_codes.clone(),
        }
    }

    fn of(runbooks: impl Iterator<Item = &'static str>, specs: impl Iterator<Item = &'static CheckSpec> + Clone) -> Self {
        let mut fixes: Vec<String> = specs.clone().flat_map(|s| s.fixes).map(|f| f.id.to_owned()).collect();
        fixes.sort();
        fixes.dedup();
        let mut codes: Vec<String> = specs.clone().flat_map(|s| s.codes).map(|c| c.id.to_owned()).collect();
        codes.sort();
        codes.dedup();
        let checks = runbooks.map(str::to_owned).chain(specs.map(|s| s.id.to_owned())).collect();
        Self { fixes, checks, codes, host_codes: Vec::new() }
    }
}

/// Maximum deadline of a run.
const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// Validates all values.
pub fn validate(raw: &Raw, known: &KnownNames) -> Result<Config, Vec<ValidationError>> {
    let mut problems = Vec::new();
    unknown_names(raw, known, &mut problems);
    let deadline = match duration(raw.run.deadline.get_ref()) {
        Ok(deadline) => deadline,
        Err(why) => {
            problems.push(ValidationError::new(raw.run.deadline.span(), format!("`deadline` in [run]: {why}")));
            Duration::ZERO
        }
    };
    let engine = raw.engine.endpoint.as_ref().and_then(|e| match EngineEndpoint::parse(e.get_ref()) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            problems.push(ValidationError::new(e.span(), format!("`endpoint` in [engine]: {why}")));
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
                problems.push(ValidationError::new(
                    entry.url.span(),
                    "`url` in [[endpoint]]: duplicate of another entry with the same source",
                ));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => problems.push(problem),
        }
    }
    let alerts = collect(raw.alert.iter().map(|a| alert::validate(a, known)), &mut problems);
    let deliveries = collect(raw.delivery.iter().map(delivery::validate), &mut problems);
    let waivers = collect(raw.waiver.iter().map(|w| waiver(w, known)), &mut problems);
    let listen = listen::validate(&raw.listen).map_err(|p| problems.push(p)).ok();
    let remind_after = report(&raw.report, &mut problems);
    if let Some(dir) = raw.paths.state_dir.as_ref().filter(|d| !d.get_ref().starts_with('/')) {
        problems.push(ValidationError::new(dir.span(), "`state_dir` in [paths]: not an absolute path"));
    }
    if let Some(key) = raw.audit.signing_key.as_ref().filter(|k| !k.get_ref().starts_with('/')) {
        problems.push(ValidationError::new(key.span(), "`signing_key` in [audit]: not an absolute path"));
    }
    let host = host(&raw.host, &mut problems);
    let file_mode = FileMode::parse(raw.report.file_mode.get_ref()).unwrap_or_else(|why| {
        problems.push(ValidationError::new(raw.report.file_mode.span(), format!("`file_mode` in [report]: {why}")));
        FileMode::default()
    });
    if !problems.is_empty() {
        problems.sort_by_key(|p| p.span.start);
        return Err(problems);
    }
    let Some(listen) = listen else { return Err(problems) };
    Ok(Config {
        alerts,
        deliveries,
        heartbeat: raw.report.heartbeat.as_ref().map(|url| url.get_ref().clone()),
        remind_after,
        textfile: raw.report.textfile.as_ref().map(|f| f.get_ref().into()),
        file_mode,
        listen,
        waivers,
        runbooks: {
            let mut settings = raw.runbooks.clone();
            settings.monitoring.host = host;
            settings
        },
        policy: policy(&raw.policy),
        endpoint: engine,
        history_days: raw.run.history_days,
        signing_key: raw.audit.signing_key.as_ref().map(|k| k.get_ref().into()),
        state_dir: raw.paths.state_dir.as_ref().map(|d| d.get_ref().into()),
        owners: raw.owner.iter().map(|o| (o.pattern.clone(), o.owner.clone())).collect(),
        servers,
        endpoints,
        deadline,
        skip: raw.run.skip.iter().map(|s| s.get_ref().clone()).collect(),
        site: Site::new(),
        file: None,
        notes: Vec::new(),
    })
}

/// Names of fixes in `[policy] allow` and of checks in `[run] skip` that do not exist.
fn unknown_names(raw: &Raw, known: &KnownNames, problems: &mut Vec<ValidationError>) {
    for fix in &raw.policy.allow {
        if !known.fixes.contains(fix.get_ref()) {
            let hint = did_you_mean(fix.get_ref(), known.fixes.iter().map(String::as_str));
            let hint = if hint.is_empty() { "; `opsctl list` shows all fixes".to_owned() } else { hint };
            problems.push(ValidationError::new(
                fix.span(),
                format!("`allow` in [policy]: no fix is called `{}`{hint}", fix.get_ref()),
            ));
        }
    }
    for name in &raw.run.skip {
        if !known.checks.contains(name.get_ref()) {
            let hint = did_you_mean(name.get_ref(), known.checks.iter().map(String::as_str));
            problems.push(ValidationError::new(
                name.span(),
                format!("`skip` in [run]: no runbook or check is called `{}`{hint}", name.get_ref()),
            ));
        }
    }
}

/// `[policy]`.
fn policy(raw: &raw::Policy) -> Policy {
    Policy {
        allow: raw.allow.iter().map(|f| f.get_ref().clone()).collect(),
        max_fixes_per_hour: raw.max_fixes_per_hour,
        max_per_fix: raw.max_fixes_per_hour_per_fix,
        max_per_host: raw.max_fixes_per_hour_per_host,
    }
}

/// `[report]`: the interval of reminders.
fn report(raw: &raw::Report, problems: &mut Vec<ValidationError>) -> jiff::SignedDuration {
    if let Some(url) = &raw.heartbeat
        && let Err(why) = delivery::web_address(url.get_ref())
    {
        problems.push(ValidationError::new(url.span(), format!("`heartbeat` in [report]: {why}")));
    }
    let collected = |path: &str| std::path::Path::new(path).extension().is_some_and(|e| e == "prom") && path.starts_with('/');
    if let Some(file) = raw.textfile.as_ref().filter(|f| !collected(f.get_ref())) {
        problems.push(ValidationError::new(file.span(), "`textfile` in [report]: not an absolute path that ends in .prom"));
    }
    length(raw.remind_after.get_ref()).unwrap_or_else(|why| {
        problems.push(ValidationError::new(raw.remind_after.span(), format!("`remind_after` in [report]: {why}")));
        jiff::SignedDuration::ZERO
    })
}

/// Returns the valid entries and adds the problems of the others.
fn collect<T>(checked: impl Iterator<Item = Result<T, ValidationError>>, problems: &mut Vec<ValidationError>) -> Vec<T> {
    checked.filter_map(|one| one.map_err(|p| problems.push(p)).ok()).collect()
}

/// `[[waiver]]`.
fn waiver(raw: &super::raw::Waiver, known: &KnownNames) -> Result<Waiver, ValidationError> {
    let which = Which::from(raw.which.get_ref().clone());
    known_code(&which.code, known)
        .map_err(|why| ValidationError::new(raw.which.span(), format!("`match` in [[waiver]]: {why}")))?;
    let window = Window::parse(raw.from.as_deref(), raw.until.get_ref(), &raw.days)
        .map_err(|why| ValidationError::new(raw.until.span(), format!("`until` in [[waiver]]: {why}")))?;
    Ok(Waiver { which, window, tag: raw.tag, reason: raw.reason.clone(), by: "configuration".to_owned() })
}

/// Rejects a pattern that matches no code.
pub fn known_code(pattern: &str, known: &KnownNames) -> Result<(), String> {
    if known.codes.iter().any(|code| glob(pattern, code)) {
        return Ok(());
    }
    let begins = known.codes.iter().find(|code| code.starts_with(pattern)).map(|c| format!("; did you mean `{c}`?"));
    let hint = begins.unwrap_or_else(|| did_you_mean(pattern, known.codes.iter().map(String::as_str)));
    let hint = if hint.is_empty() { "; `opsctl list codes` shows all".to_owned() } else { hint };
    Err(format!("no finding has the code `{pattern}`{hint}"))
}

/// `[host]`; `None` if it is empty.
fn host(raw: &raw::Host, problems: &mut Vec<ValidationError>) -> Option<Enrolment> {
    if let Some(address) = &raw.address
        && matches!(split_port(address.get_ref()), ("", _) | (_, None | Some(0)))
    {
        problems.push(ValidationError::new(address.span(), "`address` in [host]: not `host:port`"));
    }
    if let Some(file) = raw.targets_file.as_ref().filter(|f| {
        let extension = std::path::Path::new(f.get_ref().as_str()).extension().and_then(|e| e.to_str());
        !f.get_ref().starts_with('/') || !matches!(extension, Some("json" | "yml" | "yaml"))
    }) {
        let why = "`targets_file` in [host]: not an absolute path that ends in .json, .yml or .yaml";
        problems.push(ValidationError::new(file.span(), why));
    }
    let is_set = raw.monitored.is_some() || !raw.labels.is_empty() || raw.address.is_some() || raw.targets_file.is_some();
    is_set.then(|| Enrolment {
        monitored: raw.monitored.unwrap_or(true),
        labels: raw.labels.clone(),
        address: raw.address.as_ref().map(|a| a.get_ref().clone()),
        metrics_path: raw.metrics_path.clone(),
        targets_file: raw.targets_file.as_ref().map(|f| f.get_ref().clone()),
    })
}

/// Parses `2h`, `3d`, `1w 2d`: periods longer than a run.
pub fn length(text: &str) -> Result<jiff::SignedDuration, String> {
    let wrong = || format!("`{text}` is not a length of time such as `2h`, `3d` or `1w`");
    let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let year = jiff::SignedDuration::from_hours(366 * 24);
    if length > jiff::SignedDuration::ZERO && length <= year {
        Ok(length)
    } else {
        Err(format!("`{text}` is not between 1s and a year"))
    }
}

/// Parses `10s`, `500ms`, `1m 30s`: time limits of a run, on the command line and in the file.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.trim().parse().map_err(|_| format!("`{text}` is not a length of time such as `10s`, `500ms` or `1m 30s`"))?;
    match Duration::try_from(parsed) {
        Ok(d) if d > Duration::ZERO && d <= MAX_DEADLINE => Ok(d),
        _ => Err(format!("`{text}` is not between 1ms and 1h")),
    }
}
