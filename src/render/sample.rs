//! Sample reports for the tests of the formats.

use jiff::Timestamp;
use opsctl_core::model::{
    Build, Cause, CheckRow, Cited, Code, Confidence, Finding, FindingHistory, FindingStatus, FixOffer, History, HostInfo,
    JournalHead, Kind, Measure, Object, Recovered, Report, Reported, Risk, Severity, Table, Trend, Unit,
};

const ANY: Code =
    Code { id: "", severities: &[Severity::Info, Severity::Warn, Severity::Crit], when: "", hint: "", ..Code::BASE };

fn finding(id: &str, code: &str, severity: Severity, name: &str, message: &str) -> Reported {
    let subject = Object::new(Kind::Container, name.to_owned(), format!("{name}@1"));
    let mut f = Finding::new(&ANY, severity, subject, message);
    code.clone_into(&mut f.code);
    f.hint = format!("what to do about {code}");
    Reported { id: id.to_owned(), ..Reported::new(f) }
}

fn row(check: &str, target: &str, verdict: &str, reason: Option<&str>) -> CheckRow {
    CheckRow {
        check: check.to_owned(),
        runbook: check.split('.').next().unwrap_or_default().to_owned(),
        target: target.to_owned(),
        verdict: verdict.to_owned(),
        reason: reason.map(str::to_owned),
        duration_ms: 4,
        findings: Vec::new(),
    }
}

fn report(findings: Vec<Reported>, checks: Vec<CheckRow>) -> Report {
    Report {
        schema_version: 1,
        opsctl: Build { version: "0.1.0".into(), commit: "unknown".into() },
        host: HostInfo { hostname: "web-1".into(), kernel: "6.1.0".into(), boot_id: "b".into() },
        started_at: Timestamp::UNIX_EPOCH,
        duration_ms: 312,
        verdict: "ok".into(),
        exit_code: 0,
        checks,
        findings,
        causes: Vec::new(),
        fixes: Vec::new(),
        tables: Vec::new(),
        measures: Vec::new(),
        changes: Vec::new(),
        course: None,
        journal: None,
        notes: Vec::new(),
    }
}

pub(super) fn healthy() -> Report {
    report(
        vec![finding("f1", "container.log-unbounded", Severity::Info, "web", "web's log has no max-size")],
        vec![
            row("container.state", "container:web", "ok", None),
            row("container.logs", "container:web", "info", None),
            row("cpu.load", "host", "ok", None),
            row("disk.space", "mount:/", "ok", None),
            row("memory.usage", "host", "ok", None),
            row("healthcheck.http", "container:web", "skip", Some("no URL known")),
        ],
    )
}

pub(super) fn five_red_things() -> Report {
    let mut oom = finding(
        "f1",
        "container.oom-killed",
        Severity::Crit,
        "worker",
        "worker was killed by the kernel at its 16 MiB limit, 3 min ago",
    );
    oom.finding.evidence = ["kernel log", "RSS when killed", "exit", "engine"]
        .map(|label| Cited { label: label.into(), value: "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)".into() })
        .to_vec();
    oom.finding.fixes = vec!["container.raise-memory".into()];
    let mut looping = finding(
        "f2",
        "container.restart-loop",
        Severity::Crit,
        "worker",
        "worker exits and is restarted repeatedly: 7 restarts, last exit code 137 (SIGKILL)",
    );
    looping.explained_by = Some("f1".into());
    looping.finding.evidence = vec![Cited { label: "log before exit".into(), value: "one\ntwo\nthree\nfour\nfive".into() }];
    looping.finding.fixes = vec!["container.stop-loop".into()];
    let mut unhealthy =
        finding("f3", "healthcheck.unhealthy", Severity::Crit, "worker", "worker has failed its health test 12 times in a row");
    unhealthy.explained_by = Some("f2".into());
    let mut space = finding("f4", "disk.space", Severity::Crit, "/var", "/var is 97 % full, limit 95 %");
    space.finding.subject.kind = Kind::Mount;
    let mut probe = finding(
        "f5",
        "healthcheck.command-missing",
        Severity::Warn,
        "alloy",
        "alloy's health test calls wget, which its image does not have",
    );
    probe.finding.confidence = Confidence::Likely;
    let mut r = report(
        vec![oom, looping, unhealthy, space, probe],
        vec![
            row("container.state", "container:worker", "crit", None),
            row("healthcheck.state", "container:worker", "crit", None),
            row("healthcheck.state", "container:alloy", "warn", None),
            row("disk.space", "mount:/var", "crit", None),
            row("container.logs", "container:worker", "unknown", Some("reading the log size: permission denied; needs root")),
            row("container.logs", "container:alloy", "unknown", Some("reading the log size: permission denied; needs root")),
            row("disk.space", "mount:/", "ok", None),
        ],
    );
    r.verdict = "crit".into();
    r.exit_code = 2;
    r.causes = vec![Cause {
        root: "f1".into(),
        explains: vec!["f2".into(), "f3".into()],
        because: vec![
            "container.restart-loop worker: the kernel kills it at its memory limit and its restart policy starts it again"
                .into(),
            "healthcheck.unhealthy worker: it does not live long enough to become healthy".into(),
        ],
        confidence: Confidence::Confirmed,
    }];
    let fix = |id: &str, subject: &str, risk, refused: Option<&str>| FixOffer {
        id: id.into(),
        subject: format!("container:{subject}"),
        risk,
        command: format!("opsctl fix {id} {subject}"),
        refused: refused.map(str::to_owned),
    };
    r.fixes = vec![
        fix("container.raise-memory", "worker", Risk::R1, None),
        fix("container.stop-loop", "worker", Risk::R2, Some("its cause is open: container.oom-killed worker")),
    ];
    r.tables = vec![Table {
        title: "Usage of /var".into(),
        columns: vec!["path".into(), "size".into()],
        rows: vec![vec!["/var/lib/docker".into(), "12 GiB".into()], vec!["/var/log".into(), "900 MiB".into()]],
        note: Some("stopped after 2 s".into()),
    }];
    r.notes = vec!["no history between runs: state.db is locked".into()];
    r
}

/// The head of a journal of three entries.
pub(super) fn journal() -> JournalHead {
    JournalHead {
        file: "/var/lib/opsctl/journal.jsonl".into(),
        entries: 3,
        head: "ab".repeat(32),
        signature: None,
        problem: None,
    }
}

pub(super) fn compared() -> Report {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    let mut r = five_red_things();
    // 21 November 2026, 10:00
    r.started_at = Timestamp::from_second(1_795_255_200).unwrap_or_default();
    let ago = |seconds: i64| r.started_at.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or_default();
    for (f, at) in r.findings.iter_mut().zip([ago(200), ago(200), ago(180)]) {
        f.finding.since = Some(at);
    }
    r.findings[3].owner = Some("platform team".into());
    let mut renewal =
        finding("f6", "tls.expires-soon", Severity::Warn, "old.example.org", "old.example.org expires in 9 d, limit 14 d");
    renewal.finding.subject.kind = Kind::Certificate;
    renewal.waived = Some("until 2026-12-01 00:00 UTC by ada: the name goes away on Monday".into());
    r.findings.push(renewal);
    r.checks.push(row("tls.expiry", "certificate:old.example.org", "ok", None));
    r.checks.push(row("healthcheck.http", "container:worker", "skip", Some("no URL known")));
    for (check, findings) in [(0, &["f1", "f2"][..]), (1, &["f3"]), (2, &["f5"]), (3, &["f4"]), (7, &["f6"])] {
        r.checks[check].findings = findings.iter().map(|f| (*f).to_owned()).collect();
    }
    let of = |kind, name: &str| Object::named(kind, name);
    let mut memory = Measure::new(&of(Kind::Container, "worker"), "memory", Unit::Bytes, f64::from(15_u32 << 20));
    memory.max = Some(f64::from(16_u32 << 20));
    let mut connections = Measure::new(&of(Kind::Postgres, "db"), "connections", Unit::Count, 42.0).limits(80.0, 95.0);
    connections.max = Some(100.0);
    let expires = Measure::new(&of(Kind::Certificate, "old.example.org"), "expires_in", Unit::Seconds, 777_600.0);
    r.measures = vec![
        Measure::new(&of(Kind::Mount, "/var"), "used", Unit::Percent, 97.25).limits(90.0, 95.0),
        Measure::new(&of(Kind::Mount, "/srv"), "used", Unit::Percent, 83.0).limits(90.0, 95.0),
        memory,
        connections,
        expires.lower_limits(1_209_600.0, 259_200.0),
        Measure::new(&Object::host(), "clock_offset", Unit::Seconds, -0.0125).limits(0.5, 5.0),
        Measure::new(&Object::host(), "processes", Unit::Count, 1234.0),
    ];
    let known = |id: &str, status, seconds, times| FindingHistory {
        finding: id.into(),
        standing: status,
        first_seen: ago(seconds),
        times,
    };
    let trend = |name: &str, values: &[f64], reaches: Option<u64>, forecast: &str| Trend {
        subject: format!("mount:{name}"),
        name: "used".into(),
        unit: Unit::Percent,
        points: (0_i64..).zip(values).map(|(i, v)| (ago(7 * DAY - i * DAY), *v)).collect(),
        limit: Some(95.0),
        reaches_limit_in_s: reaches,
        says: forecast.into(),
    };
    r.course = Some(History {
        compared_with: Some(ago(HOUR)),
        findings: vec![
            known("f1", FindingStatus::New, 0, 1),
            known("f2", FindingStatus::Flapping, 0, 4),
            known("f3", FindingStatus::New, 0, 1),
            known("f4", FindingStatus::Still, 3 * DAY, 1),
            known("f5", FindingStatus::Still, 40 * HOUR, 1),
        ],
        recovered: vec![Recovered {
            code: "dns.slow".into(),
            subject: "host".into(),
            severity: Severity::Warn,
            message: "the name server 10.0.0.2 takes 2.1 s, limit 1 s".into(),
            first_seen: ago(5 * HOUR),
            last_seen: ago(2 * HOUR),
            owner: None,
        }],
        trends: vec![
            trend("/srv", &[71.0, 72.5, 74.0, 76.5, 78.0, 79.5, 81.0, 83.0], Some(518_400), "full in 6 d"),
            trend("/var", &[96.0, 96.5, 97.0, 96.0, 96.5, 97.0, 97.5, 97.25], None, ""),
        ],
        period: None,
    });
    r.journal = Some(journal());
    r
}

/// Every opened element is closed in order, and `&` and `<` are always escaped.
pub(super) fn well_formed(text: &str) {
    let element = regex::Regex::new(r#"^<(/?)([A-Za-z][A-Za-z0-9-]*)((?: [A-Za-z][A-Za-z0-9-]*(?:="[^"<>]*")?)*) ?(/?)>"#);
    let entity = regex::Regex::new("^&(amp|lt|gt|quot|#39);");
    let (element, entity) = (element.unwrap_or_else(|e| panic!("{e}")), entity.unwrap_or_else(|e| panic!("{e}")));
    let body = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap_or(text);
    let mut open: Vec<&str> = Vec::new();
    for (at, c) in body.char_indices() {
        let rest = &body[at..];
        match c {
            '&' => assert!(entity.is_match(rest), "{rest:.60}"),
            '<' => {
                let Some(tag) = element.captures(rest) else { panic!("{rest:.60}") };
                let name = tag.get(2).map_or("", |m| m.as_str());
                if &tag[1] == "/" {
                    assert_eq!(open.pop(), Some(name), "{rest:.60}");
                } else if &tag[4] != "/" {
                    open.push(name);
                }
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Names and output with terminal controls.
pub(super) fn hostile() -> Report {
    let mut f = finding("f1", "container.down", Severity::Crit, "a\x1b[2J", "\x1b]0;title\x07 down \u{202E}txt");
    f.finding.evidence = vec![Cited { label: "log".into(), value: "\x1b[31mred\x08\x08\nnext\r\x00".into() }];
    let mut r = report(vec![f], vec![row("container.state", "container:\x1b[2J", "unknown", Some("\x1b[5m"))]);
    r.verdict = "crit".into();
    r.notes = vec!["\x1b[0m".into()];
    r.journal = Some(JournalHead { problem: Some("\x1b[2J|<b>\u{202E}\"'\n# SKIP".into()), ..journal() });
    r.fixes = vec![FixOffer {
        id: "container.start".into(),
        subject: "container:\x1b".into(),
        risk: Risk::R2,
        command: "opsctl fix container.start '\x1b'".into(),
        refused: None,
    }];
    r
}

/// The same problem on `n` containers, each with its effect.
pub(super) fn alike(n: usize) -> Report {
    let mut findings = Vec::new();
    let mut causes = Vec::new();
    for i in 0..n {
        let (root, effect) = (format!("f{}", 2 * i), format!("f{}", 2 * i + 1));
        let name = format!("c{i}");
        let message = format!("{name} was killed by the kernel at its limit");
        let mut killed = finding(&root, "container.oom-killed", Severity::Crit, &name, &message);
        killed.finding.since = Some(Timestamp::UNIX_EPOCH);
        killed.finding.hint = format!("raise the limit of {name}");
        let mut looping = finding(&effect, "container.restart-loop", Severity::Crit, &name, "it loops");
        looping.explained_by = Some(root.clone());
        findings.extend([killed, looping]);
        let because = vec![format!("container.restart-loop {name}: its restart policy starts it again")];
        causes.push(Cause { root, explains: vec![effect], because, confidence: Confidence::Confirmed });
    }
    let mut r = report(findings, vec![row("container.state", "container:c0", "crit", None)]);
    r.verdict = "crit".into();
    r.causes = causes;
    r
}

pub(super) fn many(n: usize) -> Report {
    let findings =
        (0..n).map(|i| finding(&format!("f{i}"), "container.down", Severity::Crit, &format!("c{i}"), "is down")).collect();
    let mut r = report(findings, vec![row("container.state", "container:c", "crit", None)]);
    r.verdict = "crit".into();
    r
}
