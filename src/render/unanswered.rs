//! Checks without a result. Hundreds of them with one reason are one line: count, subjects, reason and cause.

use std::collections::BTreeMap;

use opsctl_core::model::{CheckRow, Finding, Report, quantity};

use super::view;

/// From this number on, reasons that differ only in names and numbers are merged.
const MIN_ALIKE: usize = 4;

/// Maximum number of checks listed by name; more are counted.
const MAX_NAMED: usize = 4;

/// Findings that explain why opsctl got no result, and words of the reasons that they explain; the first open one applies.
const CAUSES: &[(&str, &[&str])] = &[
    ("container.engine-hung", &["the engine does not answer", "docker.sock", "podman.sock", "container engine"]),
    ("container.engine-reachable", &["the engine does not answer", "docker.sock", "podman.sock", "container engine"]),
    ("systemd.state", &["systemd"]),
    ("cpu.saturated", &["too busy", "deadline", "timed out", "memory limit"]),
    ("memory.pressure", &["too busy", "deadline", "timed out"]),
    ("disk.io-saturation", &["deadline", "timed out"]),
    ("cpu.iowait", &["deadline", "timed out"]),
    ("disk.mount-hung", &["deadline", "timed out"]),
    ("cpu.d-state", &["deadline", "timed out"]),
    ("container.engine-hung", &["deadline"]),
];

/// Checks without a result for one reason.
pub(super) struct Unanswered<'a> {
    /// The reason.
    pub(super) reason: String,
    /// The checks.
    pub(super) rows: Vec<&'a CheckRow>,
    /// The finding that explains the reason.
    pub(super) cause: Option<&'a Finding>,
}

impl Unanswered<'_> {
    /// `cpu.load host, disk.space mount:/`, or `212 checks of 50 containers and this host`.
    pub(super) fn subjects(&self) -> String {
        if self.rows.len() <= MAX_NAMED {
            return self.rows.iter().map(|r| format!("{} {}", r.check, r.target)).collect::<Vec<_>>().join(", ");
        }
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            let (kind, name) = row.target.split_once(':').unwrap_or((&row.target, ""));
            let names = kinds.entry(kind).or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut kinds: Vec<(usize, String)> =
            kinds.into_iter().map(|(kind, names)| (names.len(), of_kind(kind, names.len()))).collect();
        kinds.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        let kinds: Vec<String> = kinds.into_iter().map(|(_, words)| words).collect();
        format!("{} of {}", quantity::count(self.rows.len(), "check"), quantity::some_of(&kinds, MAX_NAMED))
    }

    /// The reason with its cause.
    pub(super) fn why(&self) -> String {
        match self.cause {
            Some(cause) => format!("{} (cause: {}: {})", self.reason, cause.code, cause.message),
            None => self.reason.clone(),
        }
    }
}

/// `50 containers`, `3 redis servers`, `this host`.
fn of_kind(kind: &str, n: usize) -> String {
    match kind {
        "host" => "this host".to_owned(),
        "engine" => "the container engine".to_owned(),
        "container" | "mount" | "unit" | "certificate" | "endpoint" | "interface" | "queue" | "service" => {
            quantity::count(n, kind)
        }
        "process" => if n == 1 { "1 process" } else { "processes" }.to_owned(),
        server => quantity::count(n, &format!("{server} server")),
    }
}

/// All checks without a result, in report order.
pub(super) fn unanswered(report: &Report) -> Vec<Unanswered<'_>> {
    reasons(report, "unknown")
}

/// The reasons of one verdict, each once, with the affected checks.
pub(super) fn reasons<'a>(report: &'a Report, verdict: &str) -> Vec<Unanswered<'a>> {
    type Reason<'a> = (&'a str, Vec<&'a CheckRow>);
    let exact = view::reasons(report, verdict);
    let mut alike: Vec<(String, Vec<Reason<'_>>)> = Vec::new();
    for (why, rows) in exact {
        let key = rows.first().map(|row| words(why, row).join(" ")).unwrap_or_default();
        match alike.iter_mut().find(|(k, _)| *k == key) {
            Some((_, same)) => same.push((why, rows)),
            None => alike.push((key, vec![(why, rows)])),
        }
    }
    let mut all = Vec::new();
    for (_, same) in alike {
        if same.len() < MIN_ALIKE {
            all.extend(same.into_iter().map(|(why, rows)| (why.to_owned(), rows)));
        } else {
            let texts: Vec<&str> = same.iter().map(|(why, _)| *why).collect();
            let reason = common(&texts);
            all.push((reason, same.into_iter().flat_map(|(_, rows)| rows).collect()));
        }
    }
    all.into_iter().map(|(reason, rows)| Unanswered { cause: cause(report, &reason), reason, rows }).collect()
}

/// A reason with names, ids and numbers removed.
fn words<'a>(why: &'a str, row: &CheckRow) -> Vec<&'a str> {
    let name = row.target.split_once(':').map_or("", |(_, name)| name);
    let differs = |word: &str| word.bytes().any(|b| b.is_ascii_digit()) || (!name.is_empty() && word.contains(name));
    why.split(' ').map(|word| if differs(word) { "\u{2026}" } else { word }).collect()
}

/// The common words of texts with the same number of words.
fn common(texts: &[&str]) -> String {
    let split: Vec<Vec<&str>> = texts.iter().map(|text| text.split(' ').collect()).collect();
    let Some((first, others)) = split.split_first() else { return String::new() };
    let same = |n: usize, word: &str| others.iter().all(|o| o.get(n) == Some(&word));
    let words = first.iter().enumerate().map(|(n, word)| if same(n, word) { *word } else { "\u{2026}" });
    words.collect::<Vec<_>>().join(" ")
}

/// The open finding that explains a reason.
fn cause<'a>(report: &'a Report, reason: &str) -> Option<&'a Finding> {
    CAUSES.iter().filter(|(_, phrases)| phrases.iter().any(|words| reason.contains(words))).find_map(|(code, _)| {
        // not the unknown check itself
        view::open(report).find(|f| f.code == *code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn row(check: &str, target: &str, reason: &str) -> CheckRow {
        CheckRow {
            check: check.into(),
            runbook: "container".into(),
            target: target.into(),
            verdict: "unknown".into(),
            reason: Some(reason.into()),
            duration_ms: 0,
            findings: Vec::new(),
        }
    }

    fn lines(rows: Vec<CheckRow>, finding: Option<(&str, &str)>) -> Vec<String> {
        let mut report = sample::healthy();
        report.checks = rows;
        if let Some((code, message)) = finding {
            let mut found = sample::five_red_things().findings.remove(0);
            (found.code, found.message) = (code.into(), message.into());
            report.findings = vec![found];
        }
        unanswered(&report).iter().map(|u| format!("{}: {}", u.subjects(), u.why())).collect()
    }

    #[test]
    fn hundreds_of_checks_with_one_reason_are_one_line_with_its_cause() {
        let of = |n: usize, check: &str| {
            let reason = format!("reading container {n:012x} from unix:///var/run/docker.sock: timed out after 3 s");
            row(check, &format!("container:app-{n}"), &reason)
        };
        let rows = (0..50).flat_map(|n| ["container.state", "container.logs"].map(|check| of(n, check))).collect();
        assert_eq!(
            lines(rows, Some(("container.engine-hung", "docker responds, but not to requests about 50 of its 50 containers"))),
            ["100 checks of 50 containers: reading container \u{2026} from unix:///var/run/docker.sock: timed out after 3 s \
              (cause: container.engine-hung: docker responds, but not to requests about 50 of its 50 containers)"]
        );
    }

    #[test]
    fn saturated_cpu_is_the_cause_of_busy_checks() {
        let of = |n: u32| {
            let why = format!("this host was too busy for a reliable result (opsctl itself waited 1.{n} s for a processor)");
            row("redis.up", &format!("redis:cache-{n}"), &why)
        };
        assert_eq!(
            lines((0..9).map(of).collect(), Some(("cpu.saturated", "the processors are saturated"))),
            [
                "9 checks of 9 redis servers: this host was too busy for a reliable result (opsctl itself waited \u{2026} s for a processor) \
              (cause: cpu.saturated: the processors are saturated)"
            ]
        );
    }

    #[test]
    fn few_checks_are_named() {
        let rows = vec![row("a.b", "container:web", "HTTP 500"), row("a.b", "container:db", "HTTP 404")];
        assert_eq!(lines(rows, None), ["a.b container:web: HTTP 500", "a.b container:db: HTTP 404"]);
    }

    #[test]
    fn unrelated_finding_is_not_the_cause() {
        let rows = vec![row("a.b", "host", "permission denied; needs root")];
        assert_eq!(lines(rows, Some(("cpu.saturated", "x"))), ["a.b host: permission denied; needs root"]);
    }
}
