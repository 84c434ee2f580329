//! Checks without a result. Hundreds of them with one reason are one line: count, subjects, reason and cause.
//!
//! Reasons are merged if they are alike except for names and numbers, if different reads met the same failure, and if one finding,
//! or the lateness of opsctl itself, explains them. All reads without permission are one line with the command that includes them.

use std::collections::BTreeMap;

use opsctl_core::model::{CheckRow, Report, Reported, quantity};

use super::view;

/// From this number on, reasons that differ only in names and numbers are merged.
const MIN_ALIKE: usize = 4;

/// Maximum number of checks listed by name; more are counted.
const MAX_NAMED: usize = 4;

/// Findings that explain why opsctl got no result, and words of the reasons that they explain; the first open one applies.
const CAUSES: &[(&str, &[&str])] = &[
    ("disk.mount-hung", &["blocked in a call"]),
    ("cpu.d-state", &["blocked in a call"]),
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

/// Words of a reason: opsctl itself was late (`lag::too_busy`).
const LATE: &str = "opsctl itself waited";

/// Words of reasons that the lateness of opsctl explains.
const LATE_TIMEOUTS: &[&str] = &[LATE, "deadline", "timed out", "did not finish within"];

/// Words of a reason: the right that a read needs ([`opsctl_core::probe::needed_right`]).
const NEEDS_ROOT: &str = "needs root";
const ROOT_LACKS: &str = "capabilities that root lacks here";

/// Key of the reads without permission; no finding has this id.
const DENIED: &str = "denied";

/// Checks without a result for one reason.
pub(super) struct Unanswered<'a> {
    /// The reason.
    pub(super) reason: String,
    /// The checks.
    pub(super) rows: Vec<&'a CheckRow>,
    /// The finding that explains the reason.
    pub(super) cause: Option<&'a Reported>,
}

impl Unanswered<'_> {
    /// `cpu.load host, disk.space mount:/`, or `212 checks of 50 containers, this host`.
    pub(super) fn subjects(&self) -> String {
        if self.rows.len() <= MAX_NAMED {
            return self.rows.iter().map(|r| format!("{} {}", r.check, r.target)).collect::<Vec<_>>().join(", ");
        }
        format!("{} of {}", quantity::count(self.rows.len(), "check"), objects(&self.rows))
    }

    /// The reason with its cause.
    pub(super) fn why(&self) -> String {
        match self.cause {
            Some(cause) => format!("{} (cause: {}: {})", self.reason, cause.code, cause.message),
            None => self.reason.clone(),
        }
    }
}

/// The checked objects, counted by kind: `50 containers, this host`.
pub(super) fn objects(rows: &[&CheckRow]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
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
    quantity::some_of(&kinds, MAX_NAMED)
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
    let exact = view::reasons(report, verdict).into_iter();
    let exact: Vec<Reason<'a>> = exact.map(|(text, rows)| Reason { text: text.to_owned(), rows }).collect();
    let alike = merged(exact, |r| r.rows.first().map(|row| words(&r.text, row).join(" ")), common);
    let alike = merged(alike, |r| failure_key(&r.text), common_failure);
    if verdict != "unknown" {
        return alike.into_iter().map(|Reason { text, rows }| Unanswered { reason: text, rows, cause: None }).collect();
    }
    by_cause(report, alike)
}

/// A reason and its checks.
struct Reason<'a> {
    text: String,
    rows: Vec<&'a CheckRow>,
}

/// Merges at least [`MIN_ALIKE`] reasons with the same key into one with their common text.
fn merged<'a>(
    reasons: Vec<Reason<'a>>,
    key: impl Fn(&Reason<'a>) -> Option<String>,
    text: impl Fn(&[&str]) -> String,
) -> Vec<Reason<'a>> {
    let mut groups: Vec<(Option<String>, Vec<Reason<'a>>)> = Vec::new();
    for reason in reasons {
        let key = key(&reason);
        match groups.iter_mut().find(|(k, _)| k.is_some() && *k == key) {
            Some((_, same)) => same.push(reason),
            None => groups.push((key, vec![reason])),
        }
    }
    let mut all = Vec::new();
    for (_, same) in groups {
        if same.len() < MIN_ALIKE {
            all.extend(same);
        } else {
            let text = text(&same.iter().map(|r| r.text.as_str()).collect::<Vec<_>>());
            all.push(Reason { text, rows: same.into_iter().flat_map(|r| r.rows).collect() });
        }
    }
    all
}

/// Merges the reasons that one finding explains. While opsctl itself was late, its timeouts have no other cause.
fn by_cause<'a>(report: &'a Report, reasons: Vec<Reason<'a>>) -> Vec<Unanswered<'a>> {
    let was_late = reasons.iter().any(|r| r.text.contains(LATE));
    // by the id of the finding; the lateness of opsctl has none
    let mut all: Vec<(Option<&str>, Option<&'a Reported>, Vec<Reason<'a>>)> = Vec::new();
    for reason in reasons {
        let is_denied = is_denied(&reason.text);
        let cause = cause(report, &reason.text).filter(|_| !is_denied);
        let is_late = || was_late && LATE_TIMEOUTS.iter().any(|words| reason.text.contains(words));
        let key = if is_denied { Some(DENIED) } else { cause.map(|f| f.id.as_str()).or_else(|| is_late().then_some("")) };
        match all.iter_mut().find(|(k, ..)| k.is_some() && *k == key) {
            Some((.., same)) => same.push(reason),
            None => all.push((key, cause, vec![reason])),
        }
    }
    all.into_iter()
        .map(|(key, cause, mut same)| {
            if key == Some(DENIED) {
                return denied(same);
            }
            // the lateness of opsctl explains the others; otherwise the most frequent reason represents them
            same.sort_by_key(|r| std::cmp::Reverse((r.text.contains(LATE), r.rows.len())));
            let first = same.first().map(|r| r.text.clone()).unwrap_or_default();
            let reason = match same.len().saturating_sub(1) {
                0 => first,
                others => format!("{first}, and {}", quantity::count(others, "other reason")),
            };
            Unanswered { reason, rows: same.into_iter().flat_map(|r| r.rows).collect(), cause }
        })
        .collect()
}

fn is_denied(reason: &str) -> bool {
    reason.contains(NEEDS_ROOT) || reason.contains(ROOT_LACKS)
}

/// The reads without permission, with the way to include them.
fn denied(reasons: Vec<Reason<'_>>) -> Unanswered<'_> {
    let is_root = reasons.iter().any(|r| r.text.contains(ROOT_LACKS));
    let reason = match &reasons[..] {
        [only] => only.text.clone(),
        _ if is_root => format!("permission denied; needs {ROOT_LACKS}"),
        _ => format!("permission denied; {NEEDS_ROOT}"),
    };
    let remedy = if is_root { "run opsctl on the host, outside of containers and user namespaces" } else { "sudo opsctl" };
    let reason = format!("{reason} ({remedy})");
    Unanswered { reason, rows: reasons.into_iter().flat_map(|r| r.rows).collect(), cause: None }
}

/// A reason with names, ids and numbers removed.
fn words<'a>(why: &'a str, row: &CheckRow) -> Vec<&'a str> {
    let name = row.target.split_once(':').map_or("", |(_, name)| name);
    let differs = |word: &str| word.bytes().any(|b| b.is_ascii_digit()) || (!name.is_empty() && word.contains(name));
    why.split(' ').map(|word| if differs(word) { "\u{2026}" } else { word }).collect()
}

/// The source and the failure in `reading DATA from SOURCE: FAILURE`.
fn failure(reason: &str) -> Option<(&str, &str)> {
    let (read, why) = reason.strip_prefix("reading ")?.split_once(": ")?;
    Some((read.rsplit_once(" from ")?.1, why))
}

/// A failure without numbers, for the reads that met it: of one source, or of any if the failure is not that of a source.
fn failure_key(reason: &str) -> Option<String> {
    let (source, why) = failure(reason)?;
    let differs = |word: &str| word.bytes().any(|b| b.is_ascii_digit());
    let key = why.split(' ').map(|word| if differs(word) { "\u{2026}" } else { word }).collect::<Vec<_>>().join(" ");
    let of_any = ["permission denied", "timed out"].iter().any(|words| why.starts_with(words));
    Some(if of_any { key } else { format!("{source}: {key}") })
}

/// The common failure of several reads, with their source if it is the same.
fn common_failure(texts: &[&str]) -> String {
    let failures: Vec<(&str, &str)> = texts.iter().filter_map(|text| failure(text)).collect();
    let why = common(&failures.iter().map(|(_, why)| *why).collect::<Vec<_>>());
    match failures.split_first() {
        Some(((source, _), others)) if others.iter().all(|(other, _)| other == source) => {
            format!("reading \u{2026} from {source}: {why}")
        }
        _ => why,
    }
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
fn cause<'a>(report: &'a Report, reason: &str) -> Option<&'a Reported> {
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
            (found.finding.code, found.finding.message) = (code.into(), message.into());
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
    fn hung_engine_is_one_line_for_all_reads() {
        let at = "unix:///var/run/docker.sock";
        let mut rows: Vec<CheckRow> = (0..60)
            .flat_map(|n| {
                let target = format!("container:app-{n}");
                let down = row("container.state", &target, &format!("reading containers from {at}: the engine does not answer"));
                let late = row("container.logs", &target, &format!("reading container {n:012x} from {at}: timed out after 3 s"));
                [down, late]
            })
            .collect();
        let data = ["the networks", "its version", "the events of all containers"];
        rows.extend(data.map(|d| row("dns.container", "host", &format!("reading {d} from {at}: timed out after 1 s"))));
        assert_eq!(
            lines(rows, Some(("container.engine-hung", "docker does not respond"))),
            [
                "123 checks of 60 containers, this host: reading \u{2026} from unix:///var/run/docker.sock: timed out after \u{2026} s, \
                 and 1 other reason (cause: container.engine-hung: docker does not respond)"
            ]
        );
    }

    #[test]
    fn late_opsctl_is_the_cause_of_its_timeouts() {
        let busy = "this host was too busy for a reliable result (opsctl itself waited 1.2 s for a processor)";
        let rows = vec![
            row("redis.up", "redis:cache", busy),
            row("tls.served", "certificate:a.example", "timed out after 3 s"),
            row("nginx.config", "nginx:web", "did not finish by the deadline (10 s)"),
            row("disk.usage", "mount:/", "reading usage from /: permission denied; needs root"),
        ];
        let checks = "redis.up redis:cache, tls.served certificate:a.example, nginx.config nginx:web";
        let late = format!("{checks}: {busy}, and 2 other reasons");
        let denied = "disk.usage mount:/: reading usage from /: permission denied; needs root (sudo opsctl)";
        assert_eq!(lines(rows, None), [late.as_str(), denied]);
    }

    #[test]
    fn missing_permission_is_one_line() {
        let rows = ["the kernel log from /dev/kmsg", "rules from nftables", "limits from /proc/1", "a journal from /var/log"];
        let rows = rows.map(|data| row("a.b", "host", &format!("reading {data}: permission denied; needs root"))).to_vec();
        let line = "a.b host, a.b host, a.b host, a.b host: permission denied; needs root (sudo opsctl)";
        assert_eq!(lines(rows, None), [line]);
    }

    #[test]
    fn reads_without_permission_are_one_line_with_the_command() {
        let mut rows: Vec<CheckRow> = (0..20)
            .map(|n| {
                let why = "reading containers from unix:///var/run/docker.sock: permission denied; needs root or group docker";
                row("container.state", &format!("container:app-{n}"), why)
            })
            .collect();
        for why in [
            "listeners behind the published ports: needs root",
            "db at 127.0.0.1:5432 was not checked, and no password was sent to it: permission denied; needs root",
            "reading connections from process 7: permission denied; needs root; reading packet filter rules from nft: permission \
             denied; needs root",
            "runs as user postgres (uid 26); needs root to prove its identity: not examined",
        ] {
            rows.push(row("a.b", "host", why));
        }
        let line = "24 checks of 20 containers, this host: permission denied; needs root (sudo opsctl)";
        assert_eq!(lines(rows, None), [line]);
    }

    #[test]
    fn root_without_capabilities_is_not_told_to_use_sudo() {
        let rows = ["packet filter rules from nft", "limits from /proc/1"].map(|data| {
            row("a.b", "host", &format!("reading {data}: permission denied; needs capabilities that root lacks here"))
        });
        let lines = lines(rows.to_vec(), None);
        assert!(lines.len() == 1 && lines[0].contains("run opsctl on the host") && !lines[0].contains("sudo"), "{lines:?}");
    }

    #[test]
    fn blocked_call_is_explained_by_the_hung_mount() {
        let rows = (0..5).map(|n| {
            let why = "did not finish by the deadline (10 s); it is blocked in a call";
            row("disk.space", &format!("mount:/srv/{n}"), why)
        });
        assert_eq!(
            lines(rows.collect(), Some(("disk.mount-hung", "/srv does not respond"))),
            [
                "5 checks of 5 mounts: did not finish by the deadline (10 s); it is blocked in a call (cause: disk.mount-hung: /srv \
                 does not respond)"
            ]
        );
    }

    #[test]
    fn failures_of_different_sources_stay_separate() {
        let rows =
            ["a", "b", "c", "d"].map(|name| row("a.b", "host", &format!("reading x from /etc/{name}: not found"))).to_vec();
        assert_eq!(lines(rows, None).len(), 4);
    }

    #[test]
    fn few_checks_are_named() {
        let rows = vec![row("a.b", "container:web", "HTTP 500"), row("a.b", "container:db", "HTTP 404")];
        assert_eq!(lines(rows, None), ["a.b container:web: HTTP 500", "a.b container:db: HTTP 404"]);
    }

    #[test]
    fn unrelated_finding_is_not_the_cause() {
        let rows = vec![row("a.b", "host", "HTTP 500")];
        assert_eq!(lines(rows, Some(("cpu.saturated", "x"))), ["a.b host: HTTP 500"]);
    }
}
