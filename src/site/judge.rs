//! Evaluation of the evidence of site checks. Pure.

use opsctl_core::model::address::join;
use opsctl_core::model::{Finding, Judged, Judgement, Measure, Severity, Unit, named, quantity};
use opsctl_core::probe::endpoint::EndpointResult;
use opsctl_core::probe::io::file::FileInfo;
use opsctl_core::probe::servers::prometheus::Series;
use opsctl_core::probe::tls::{Certificate, HandshakeError};

use super::probe::{Evidence, Seen};
use crate::config::site::{Exit, SiteCheck, SiteProbe};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The result of one check before it becomes a judgement.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CheckOutcome {
    /// Failed, independent of its number.
    fails: Option<(Severity, String)>,
    /// The number, and a message template: `{}` is replaced by the number.
    number: Option<(f64, String)>,
    /// Further evidence.
    cites: Vec<(&'static str, String)>,
    /// Missing evidence.
    gap: Option<String>,
}

impl CheckOutcome {
    fn fails(severity: Severity, why: impl Into<String>) -> Self {
        Self { fails: Some((severity, why.into())), ..Self::default() }
    }

    fn number(value: f64, words: impl Into<String>) -> Self {
        Self { number: Some((value, words.into())), ..Self::default() }
    }

    fn gap(why: impl Into<String>) -> Self {
        Self { gap: Some(why.into()), ..Self::default() }
    }

    fn cite(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.cites.push((label, value.into()));
        self
    }
}

/// Evaluates a check.
pub(super) fn judge(check: &SiteCheck, judged: &Judged<'_>, e: &Evidence) -> Judgement {
    let outcome = evaluate(check, judged, &e.seen);
    let mut judgement = Judgement { gaps: outcome.gap.into_iter().collect(), ..Judgement::default() };
    let mut wrong = outcome.fails;
    if let Some((value, words)) = &outcome.number {
        judgement.measures.push(measure(check, judged, *value));
        // a failure has more information than a number
        if wrong.is_none()
            && let Some((severity, limit)) = check.limits.exceeded(*value)
        {
            let message = format!("{}, limit {}", words.replace("{}", &shown(check, *value)), shown(check, limit));
            wrong = Some((severity, message));
        }
    }
    if let Some((severity, message)) = wrong {
        let target = judged.target;
        let subject = target.clone();
        let mut finding = Finding::new(&check.spec.codes[0], severity, subject, message).cite("should be", check.spec.title);
        for (label, value) in outcome.cites {
            finding = finding.cite(label, value);
        }
        finding.keys.extend(e.causes.iter().map(|(code, name)| named(code, name)));
        if severity > Severity::Info
            && let Some(fix) = check.spec.fixes.first()
        {
            finding = finding.fix(fix.id);
        }
        judgement.findings.push(finding);
    }
    judgement
}

fn evaluate(check: &SiteCheck, judged: &Judged<'_>, seen: &Seen) -> CheckOutcome {
    let bad = check.severity;
    match (&check.probe, seen) {
        (SiteProbe::Endpoint { endpoint, .. }, Seen::Asked(result)) => answered(bad, &endpoint.url, result),
        (SiteProbe::Tls { host, port, name, trusted, .. }, Seen::Certificate { leaf, refused, failed }) => {
            let refused = refused.as_ref().filter(|_| *trusted);
            certificate(bad, &join(host, *port), name, leaf.as_deref(), refused, failed.as_ref(), judged)
        }
        (SiteProbe::Sql { query, equals, .. }, Seen::Answer { server, says: actual }) => {
            value(check, server, actual.as_deref(), equals.as_deref(), "NULL").cite("query", query)
        }
        (SiteProbe::Sql { query, .. }, Seen::Rows { server, several }) => {
            let rows = if *several { "more than one row" } else { "no row" };
            CheckOutcome::fails(bad, format!("{server} answers with {rows}, not one")).cite("query", query)
        }
        (SiteProbe::Redis { command, equals, .. }, Seen::Answer { server, says: actual }) => {
            let nothing = "nil: no such key";
            value(check, server, actual.as_deref(), equals.as_deref(), nothing).cite("command", command.join(" "))
        }
        (SiteProbe::Sql { .. } | SiteProbe::Redis { .. }, Seen::Silent { server, why }) => {
            CheckOutcome::fails(bad, format!("{server} does not answer: {why}"))
        }
        (SiteProbe::Metric { query, .. }, Seen::Series { server, series }) => metric(check, server, series).cite("query", query),
        (SiteProbe::Command { argv, exit, contains, .. }, seen) => command(check, argv, *exit, contains.as_deref(), seen),
        (SiteProbe::File { path, exists, .. }, Seen::File(None)) => {
            if *exists {
                CheckOutcome::fails(bad, format!("{path} does not exist"))
            } else {
                CheckOutcome::default()
            }
        }
        (SiteProbe::File { exists: false, .. }, Seen::File(Some(facts))) => {
            CheckOutcome::fails(bad, format!("{} exists and should not", facts.path)).cite("written", ago(facts, judged))
        }
        (probe @ SiteProbe::File { .. }, Seen::File(Some(facts))) => match file(probe, facts, judged) {
            Some(why) => CheckOutcome::fails(bad, why).cite("written", ago(facts, judged)),
            None => CheckOutcome::default(),
        },
        (SiteProbe::Log { pattern, within, .. }, Seen::Lines { count, last, read, cut }) => {
            let within = within.map_or_else(String::new, |w| format!(" in the last {}", quantity::duration(w)));
            let words = format!("{{}} of {read} log lines{within} have `{pattern}`");
            let outcome = if check.limits.any() || *count == 0 {
                CheckOutcome::number(*count as f64, words)
            } else {
                CheckOutcome {
                    number: Some((*count as f64, String::new())),
                    ..CheckOutcome::fails(bad, words.replace("{}", &count.to_string()))
                }
            };
            let outcome = outcome.cite("last", last.join("\n"));
            // nothing is known about unread lines, unless the read ones already fail
            if *cut && *count == 0 {
                CheckOutcome { gap: Some("the log is longer than the part that is read".to_owned()), ..outcome }
            } else {
                outcome
            }
        }
        _ => CheckOutcome::gap("the recording was made with another check of this name"),
    }
}

fn answered(bad: Severity, url: &str, result: &EndpointResult) -> CheckOutcome {
    let fails = |why: &str| CheckOutcome::fails(bad, format!("{url} {why}"));
    let seconds = |ms: u64| ms as f64 / 1000.0;
    match result {
        EndpointResult::Answered { wrong: Some(wrong), body, location, took_ms, .. } => {
            let outcome = fails(&format!("answers with {wrong}")).cite("response", body.trim());
            let outcome = outcome.cite("redirects to", location.clone().unwrap_or_default());
            CheckOutcome { number: Some((seconds(*took_ms), String::new())), ..outcome }
        }
        EndpointResult::Answered { took_ms, .. } => {
            CheckOutcome::number(seconds(*took_ms), format!("{url} takes {{}} to answer"))
        }
        EndpointResult::Connected { took_ms } => CheckOutcome::number(seconds(*took_ms), format!("{url} takes {{}} to connect")),
        EndpointResult::Refused => fails("refuses connections"),
        EndpointResult::Timeout => fails("does not answer in time"),
        EndpointResult::Closed => fails("closes the connection without an answer"),
        EndpointResult::NotHttp => fails("does not speak HTTP"),
        EndpointResult::Tls(why) => fails(&format!("fails at TLS: {why}")),
        EndpointResult::Unreachable(why) => fails(&format!("cannot be reached: {why}")),
    }
}

fn certificate(
    bad: Severity,
    address: &str,
    name: &str,
    leaf: Option<&Certificate>,
    refused: Option<&String>,
    failed: Option<&HandshakeError>,
    judged: &Judged<'_>,
) -> CheckOutcome {
    let Some(leaf) = leaf else {
        let why = match failed {
            Some(HandshakeError::Refused) => "it refuses connections".to_owned(),
            Some(HandshakeError::Timeout) => "no answer in time".to_owned(),
            Some(HandshakeError::Closed) | None => "it closes the connection".to_owned(),
            Some(HandshakeError::NotTls(_)) => "it does not speak TLS".to_owned(),
            Some(HandshakeError::Alert(why) | HandshakeError::NoStartTls(why) | HandshakeError::Unreachable(why)) => why.clone(),
        };
        return CheckOutcome::fails(bad, format!("{address} serves no certificate for {name}: {why}"));
    };
    let days = leaf.not_after.duration_since(judged.taken_at).as_secs_f64() / DAY;
    let until = format!("{} until {}", leaf.subject, leaf.not_after.strftime("%Y-%m-%d %H:%M UTC"));
    let outcome = if days <= 0.0 {
        CheckOutcome::fails(bad, format!("the certificate of {address} has expired"))
    } else if !covers(&leaf.names, name) {
        CheckOutcome::fails(bad, format!("the certificate of {address} is not for {name}")).cite("is for", leaf.names.join(", "))
    } else if let Some(why) = refused {
        CheckOutcome::fails(bad, format!("the certificate of {address} is not issued by an authority trusted here: {why}"))
    } else {
        CheckOutcome::number(days, format!("the certificate of {address} lasts {{}}"))
    };
    outcome.cite("certificate", until).cite("issuer", &leaf.issuer)
}

/// Whether one of the names of a certificate matches this name (RFC 9525: an asterisk is one whole label, the first).
fn covers(names: &[String], name: &str) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    names.iter().any(|n| {
        same(n, name)
            || n.strip_prefix("*.")
                .is_some_and(|rest| name.split_once('.').is_some_and(|(first, tail)| !first.is_empty() && same(rest, tail)))
    })
}

/// Compares the result of a server with the expected one.
fn value(check: &SiteCheck, server: &str, actual: Option<&str>, equals: Option<&str>, nothing: &str) -> CheckOutcome {
    let bad = check.severity;
    if let Some(expected) = equals
        && actual != Some(expected)
    {
        let found = actual.map_or_else(|| nothing.to_owned(), |s| format!("`{s}`"));
        return CheckOutcome::fails(bad, format!("{server} answers {found} instead of `{expected}`"));
    }
    if !check.limits.any() {
        return CheckOutcome::default();
    }
    match actual.map(|s| s.trim().parse::<f64>()) {
        Some(Ok(number)) if number.is_finite() => CheckOutcome::number(number, format!("{server} answers {{}}")),
        Some(_) => CheckOutcome::gap(format!("{server} answers `{}`, which is no number", actual.unwrap_or_default())),
        None => CheckOutcome::fails(bad, format!("{server} answers {nothing}")),
    }
}

/// The worst series counts.
fn metric(check: &SiteCheck, server: &str, series: &[Series]) -> CheckOutcome {
    let rank = |s: &Series| check.limits.exceeded(s.value).map(|(severity, _)| severity);
    // Prometheus returns NaN for 0/0
    let known: Vec<&Series> = series.iter().filter(|s| !s.value.is_nan()).collect();
    let worst = known.iter().enumerate().max_by_key(|(i, s)| (rank(s), std::cmp::Reverse(*i)));
    let Some((_, worst)) = worst else {
        return CheckOutcome::gap(format!("{server} returns no series; `… or vector(0)` defines a default"));
    };
    let labels: Vec<String> = worst.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let bad = known.iter().filter(|s| rank(s).is_some()).count();
    let of = if bad > 1 { format!(" (and {} more of {} series)", bad - 1, known.len()) } else { String::new() };
    CheckOutcome::number(worst.value, format!("{server} answers {{}}{of}")).cite("series", labels.join(" "))
}

fn command(check: &SiteCheck, argv: &[String], exit: Exit, contains: Option<&str>, seen: &Seen) -> CheckOutcome {
    let bad = check.severity;
    let name = argv.first().map_or("", |a| a.rsplit('/').next().unwrap_or(a));
    let (code, signal, stdout, last_line) = match seen {
        Seen::Ended { code, signal, stdout, last_line } => (*code, *signal, stdout, last_line),
        Seen::Killed(ms) => {
            let after = quantity::duration(jiff::SignedDuration::from_millis(i64::try_from(*ms).unwrap_or(i64::MAX)));
            return CheckOutcome::fails(bad, format!("{name} did not end within {after}"));
        }
        Seen::NotRun(why) => return CheckOutcome::gap(why.clone()),
        _ => return CheckOutcome::gap("the recording was made with another check of this name"),
    };
    let first = stdout.lines().next().unwrap_or_default().trim();
    let line = || argv.join(" ");
    let Some(code) = code else {
        return CheckOutcome::fails(bad, format!("{name} was terminated by signal {}", signal.unwrap_or_default()))
            .cite("command", line());
    };
    let failure = match (exit, code) {
        (_, 0) => None,
        (Exit::Nagios, 1) => Some(Severity::Warn),
        (Exit::Nagios, 3) => return CheckOutcome::gap(format!("{name} returned UNKNOWN: {first}")),
        (Exit::Nagios, 2) => Some(Severity::Crit),
        _ => Some(bad),
    };
    if let Some(severity) = failure {
        let words = if exit == Exit::Nagios && !first.is_empty() { first } else { last_line.as_str() };
        return CheckOutcome::fails(severity, format!("{name} exited with {code}: {words}")).cite("command", line());
    }
    if let Some(text) = contains.filter(|t| !stdout.contains(*t)) {
        return CheckOutcome::fails(bad, format!("{name} does not print `{text}`")).cite("output", first).cite("command", line());
    }
    if !check.limits.any() {
        return CheckOutcome::default();
    }
    match first_number(stdout) {
        Some(number) => CheckOutcome::number(number, format!("{name} prints {{}}")).cite("command", line()),
        None => CheckOutcome::gap(format!("{name} prints no number: {first}")),
    }
}

/// The first number in a text.
fn first_number(text: &str) -> Option<f64> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let negative = rest[..at].ends_with('-');
        let tail = &rest[at..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(tail.len());
        // a sentence may end after it; an address or a version is not a number
        let word = tail[..end].trim_end_matches('.');
        if let Ok(number) = word.parse::<f64>() {
            return Some(if negative { -number } else { number });
        }
        rest = &tail[end..];
    }
    None
}

/// Reason why a file does not match the expectation.
fn file(probe: &SiteProbe, facts: &FileInfo, judged: &Judged<'_>) -> Option<String> {
    let SiteProbe::File { max_age, min_size, max_size, owner, contains, lacks, .. } = probe else { return None };
    let path = &facts.path;
    if !facts.is_file {
        return Some(format!("{path} is not a file"));
    }
    let age = facts.modified.map(|at| judged.taken_at.duration_since(at));
    if let (Some(limit), Some(age)) = (max_age, age)
        && age > *limit
    {
        return Some(format!("{path} was written {} ago, limit {}", quantity::duration(age), quantity::duration(*limit)));
    }
    if let Some(limit) = min_size.filter(|l| facts.size < *l) {
        return Some(format!("{path} has {}, limit at least {}", quantity::bytes(facts.size), quantity::bytes(limit)));
    }
    if let Some(limit) = max_size.filter(|l| facts.size > *l) {
        return Some(format!("{path} has {}, limit {}", quantity::bytes(facts.size), quantity::bytes(limit)));
    }
    if let Some(owner) = owner.as_ref().filter(|o| **o != facts.owner) {
        return Some(format!("{path} belongs to {} instead of {owner}", facts.owner));
    }
    if let Some(text) = contains.iter().find(|t| !facts.holds.contains(t)) {
        let part = if facts.cut { " in its beginning" } else { "" };
        return Some(format!("{path} does not contain `{text}`{part}"));
    }
    lacks.iter().find(|t| facts.holds.contains(t)).map(|text| format!("{path} contains `{text}`"))
}

fn ago(facts: &FileInfo, judged: &Judged<'_>) -> String {
    let age = facts.modified.map(|at| judged.taken_at.duration_since(at));
    age.map(|a| format!("{} ago", quantity::duration(a))).unwrap_or_default()
}

/// A number for display.
fn shown(check: &SiteCheck, value: f64) -> String {
    match check.unit {
        _ if matches!(check.probe, SiteProbe::Tls { .. }) => Unit::Seconds.shown(value * DAY),
        Unit::Count if value.fract() != 0.0 || value < 0.0 => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        unit => unit.shown(value),
    }
}

/// The measure for plots. A measure has limits on one side; the upper ones come first.
fn measure(check: &SiteCheck, judged: &Judged<'_>, value: f64) -> Measure {
    let name = check.spec.id.split_once('.').map_or(check.spec.id, |(_, name)| name).replace('-', "_");
    let (unit, scale) = if matches!(check.probe, SiteProbe::Tls { .. }) { (Unit::Seconds, DAY) } else { (check.unit, 1.0) };
    let mut limits = check.limits.shown();
    (limits.warn, limits.crit) = (limits.warn.map(|l| l * scale), limits.crit.map(|l| l * scale));
    Measure::new(judged.target, &name, unit, value * scale).within(limits)
}
