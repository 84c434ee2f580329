//! Validation of a file of `runbooks.d`.

use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{CheckSpec, Code, Confidence, FixSpec, KeyKind, Limits, Link, Risk, Severity, Unit};
use toml::Spanned;

use super::causes::{Names, code};
use super::probe::{self, Exit, SiteProbe};
use super::{Bounds, SiteCheck, SiteFix, SiteRunbook, argv, documentation, raw};
use crate::config::names::did_you_mean;
use crate::config::problem::ValidationError;

/// Maximum timeout of a check.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time limit of a fix, and of its verification.
const MAX_FIX_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Grace period of the engine after the timeout of a check, so that the check itself reports the timeout.
const GRACE: Duration = Duration::from_secs(2);

/// Default limits of the days until expiry of a certificate (warn, crit), as in the tls runbook.
const DEFAULT_DAYS: (f64, f64) = (14.0, 3.0);

/// Leaks a text: see [`super::Site`].
fn leak(text: impl Into<Box<str>>) -> &'static str {
    Box::leak(text.into())
}

/// Validates all values.
pub(super) fn validate(file: &raw::File, path: &Path, names: &Names<'_>) -> Result<SiteRunbook, Vec<ValidationError>> {
    let mut problems = Vec::new();
    let name = &file.runbook.name;
    if let Err(why) = valid_name(name.get_ref()) {
        problems.push(ValidationError::new(name.span(), format!("`name` in [runbook]: {why}")));
    } else if names.is_reserved(name.get_ref()) {
        let why = format!("`name` in [runbook]: opsctl has a runbook or a command called `{}`", name.get_ref());
        problems.push(ValidationError::new(name.span(), why));
    }
    if file.check.is_empty() {
        problems.push(ValidationError::new(name.span(), "it has no [[check]]"));
    }
    let runbook = leak(name.get_ref().as_str());
    let mut seen: Vec<&str> = Vec::new();
    let mut fixes: Vec<&str> = Vec::new();
    let mut checks = Vec::new();
    for raw in &file.check {
        let here = &raw.name;
        if let Err(why) = valid_name(here.get_ref()) {
            problems.push(ValidationError::new(here.span(), format!("`name` in [[check]]: {why}")));
        } else if seen.contains(&here.get_ref().as_str()) {
            let why = format!("`name` in [[check]]: there is another check called `{}`", here.get_ref());
            problems.push(ValidationError::new(here.span(), why));
        }
        seen.push(here.get_ref());
        if let Some(fix) = &raw.fix {
            if fixes.contains(&fix.name.get_ref().as_str()) {
                let why = format!("`name` in [check.fix]: there is another fix called `{}`", fix.name.get_ref());
                problems.push(ValidationError::new(fix.name.span(), why));
            }
            fixes.push(fix.name.get_ref());
        }
        match check(runbook, raw, names) {
            Ok(check) => checks.push(check),
            Err(wrong) => problems.extend(wrong),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let links: &'static [Link] = links(&checks, path).leak();
    Ok(SiteRunbook {
        id: runbook,
        about: leak(file.runbook.title.trim()),
        doc: leak(documentation::text(file, &checks, path)),
        file: path.to_owned(),
        owner: file.runbook.owner.clone(),
        checks,
        links: vec![links].leak(),
    })
}

/// Validates a name as part of a code.
fn valid_name(name: &str) -> Result<(), String> {
    let letters = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if letters && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-') && name.len() <= 40 {
        Ok(())
    } else {
        Err(format!("`{name}` is no word of small letters, digits and dashes"))
    }
}

fn check(runbook: &'static str, raw: &raw::Check, names: &Names<'_>) -> Result<SiteCheck, Vec<ValidationError>> {
    let mut problems = Vec::new();
    let mut note = |result: Result<(), ValidationError>| problems.extend(result.err());
    let mut limits = Bounds {
        upper: Limits::more_than(Unit::Count, raw.warn_above, raw.crit_above),
        lower: Limits::less_than(Unit::Count, raw.warn_below, raw.crit_below),
    };
    note(ordered(&limits, &raw.name));
    let probe = probe::validate(raw, limits.any()).map_err(|mut problem| {
        // a missing key has no position of its own
        if problem.span == (0..0) {
            problem.span = raw.name.span();
        }
        problem
    });
    let severity = severity(&raw.severity);
    let timeout = argv::time_limit(&raw.timeout, "timeout", "[check]", MAX_TIMEOUT);
    let unit = unit(raw.unit.as_ref());
    let causes: Result<Vec<_>, _> = raw.explained_by.iter().map(|e| names.cause(e)).collect();
    let fix = raw.fix.as_ref().map(|f| fix(runbook, f)).transpose();
    match (probe, severity, timeout, unit, causes, fix) {
        (Ok(probe), Ok(severity), Ok(timeout), Ok(unit), Ok(causes), Ok(fix)) if problems.is_empty() => {
            if matches!(probe, SiteProbe::Tls { .. }) && !limits.any() {
                limits.lower = Limits::less_than(Unit::Count, DEFAULT_DAYS.0, DEFAULT_DAYS.1);
            }
            let (fixes, fix): (Vec<FixSpec>, Option<SiteFix>) = fix.map_or_else(|| (vec![], None), |(s, f)| (vec![s], Some(f)));
            let id = leak(code(runbook, raw.name.get_ref()));
            let hint = raw.hint.as_deref().map_or_else(|| format!("see `opsctl explain {runbook}`"), |h| h.trim().to_owned());
            let own_code = Code {
                id,
                severities: severities(severity, &limits, &probe).leak(),
                when: leak(format!("the check \"{}\" fails", raw.title.trim())),
                hint: leak(hint),
                ..Code::BASE
            };
            let spec = CheckSpec {
                id,
                title: leak(raw.title.trim()),
                codes: vec![own_code].leak(),
                fixes: fixes.leak(),
                timeout: timeout + GRACE,
            };
            let spec: &'static CheckSpec = Box::leak(Box::new(spec));
            let unit = unit.unwrap_or(match probe {
                SiteProbe::Endpoint { .. } => Unit::Seconds,
                _ => Unit::Count,
            });
            Ok(SiteCheck { runbook, spec, probe, severity, limits, unit, timeout, causes, fix })
        }
        (probe, severity, timeout, unit, causes, fix) => {
            let wrong = [probe.err(), severity.err(), timeout.err(), unit.err(), causes.err(), fix.err()];
            problems.extend(wrong.into_iter().flatten());
            Err(problems)
        }
    }
}

/// The warning limit must be reached before the critical one.
fn ordered(limits: &Bounds, name: &Spanned<String>) -> Result<(), ValidationError> {
    let problem = |why: &str| Err(ValidationError::new(name.span(), format!("`{}` in [[check]]: {why}", name.get_ref())));
    let all = [limits.upper.warn, limits.upper.crit, limits.lower.warn, limits.lower.crit];
    if all.iter().flatten().any(|n| !n.is_finite()) {
        return problem("a limit is no number");
    }
    if limits.upper.warn.zip(limits.upper.crit).is_some_and(|(warn, crit)| warn > crit) {
        return problem("`warn_above` is larger than `crit_above`");
    }
    if limits.lower.warn.zip(limits.lower.crit).is_some_and(|(warn, crit)| warn < crit) {
        return problem("`warn_below` is smaller than `crit_below`");
    }
    Ok(())
}

fn severity(text: &Spanned<String>) -> Result<Severity, ValidationError> {
    match text.get_ref().as_str() {
        "info" => Ok(Severity::Info),
        "warn" => Ok(Severity::Warn),
        "crit" => Ok(Severity::Crit),
        other => {
            let hint = did_you_mean(other, ["info", "warn", "crit"]);
            Err(ValidationError::new(
                text.span(),
                format!("`severity` in [[check]]: `{other}` is none of `info`, `warn` and `crit`{hint}"),
            ))
        }
    }
}

fn unit(text: Option<&Spanned<String>>) -> Result<Option<Unit>, ValidationError> {
    let Some(text) = text else { return Ok(None) };
    match text.get_ref().as_str() {
        "count" => Ok(Some(Unit::Count)),
        "percent" => Ok(Some(Unit::Percent)),
        "bytes" => Ok(Some(Unit::Bytes)),
        "seconds" => Ok(Some(Unit::Seconds)),
        other => {
            let hint = did_you_mean(other, ["count", "percent", "bytes", "seconds"]);
            let why = format!("`unit` in [[check]]: `{other}` is none of `count`, `percent`, `bytes` and `seconds`{hint}");
            Err(ValidationError::new(text.span(), why))
        }
    }
}

/// All severities of its findings.
fn severities(failed: Severity, limits: &Bounds, probe: &SiteProbe) -> Vec<Severity> {
    let mut all = vec![failed];
    if let SiteProbe::Command { exit: Exit::Nagios, .. } = probe {
        all.extend([Severity::Warn, Severity::Crit]);
    }
    all.extend(limits.upper.warn.or(limits.lower.warn).map(|_| Severity::Warn));
    all.extend(limits.upper.crit.or(limits.lower.crit).map(|_| Severity::Crit));
    all.sort();
    all.dedup();
    all
}

fn fix(runbook: &str, raw: &raw::Fix) -> Result<(FixSpec, SiteFix), ValidationError> {
    valid_name(raw.name.get_ref())
        .map_err(|why| ValidationError::new(raw.name.span(), format!("`name` in [check.fix]: {why}")))?;
    let risk = match raw.risk.get_ref().to_ascii_uppercase().as_str() {
        "R1" => Risk::R1,
        "R2" => Risk::R2,
        "R3" => Risk::R3,
        other => {
            let why = format!("`risk` in [check.fix]: `{other}` is none of `R1`, `R2` and `R3`");
            return Err(ValidationError::new(raw.risk.span(), why));
        }
    };
    let at_name = |mut problem: ValidationError| {
        if problem.span == (0..0) {
            problem.span = raw.name.span();
        }
        problem
    };
    let argv = argv::argv(&raw.argv, "argv", "check.fix").map_err(at_name)?;
    let undo = if raw.undo.is_empty() { Vec::new() } else { argv::argv(&raw.undo, "undo", "check.fix")? };
    let spec = FixSpec { id: leak(code(runbook, raw.name.get_ref())), risk, title: leak(raw.title.trim()) };
    let own = SiteFix {
        argv,
        undo,
        cwd: argv::directory(raw.cwd.as_ref(), "check.fix")?,
        downtime: raw.downtime.clone(),
        affects: raw.affects.clone(),
        timeout: argv::time_limit(&raw.timeout, "timeout", "check.fix", MAX_FIX_TIMEOUT)?,
        verify_within: argv::time_limit(&raw.verify_within, "verify_within", "check.fix", MAX_FIX_TIMEOUT)?,
    };
    Ok((spec, own))
}

/// Links to causes: those in the file, and the queried server.
fn links(checks: &[SiteCheck], path: &Path) -> Vec<Link> {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut links: Vec<Link> = Vec::new();
    for check in checks {
        let mut add = |cause: &str, confidence: Confidence, because: String| {
            if !links.iter().any(|l| l.cause == cause && l.effect == check.spec.id) {
                links.push(Link {
                    cause: leak(cause),
                    effect: check.spec.id,
                    tie: KeyKind::Named,
                    confidence,
                    because: because.into(),
                    treatable: false,
                });
            }
        };
        match check.probe {
            SiteProbe::Sql { .. } => add("postgres.up", Confidence::Confirmed, "the check queries this server".to_owned()),
            SiteProbe::Redis { .. } => add("redis.up", Confidence::Confirmed, "the check queries this server".to_owned()),
            _ => {}
        }
        for (code, _) in &check.causes {
            // a dependency declared in the file: no evidence that it is the present cause
            add(code, Confidence::Likely, format!("dependency declared in {file}"));
        }
    }
    links
}
