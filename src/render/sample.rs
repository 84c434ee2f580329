//! Reports to try renderers on.

use jiff::Timestamp;
use opsctl_core::model::{
    Build, Cause, CheckRow, Cited, Code, Confidence, Finding, FixOffer, HostInfo, Kind, Report, Risk, Severity, Subject, Table,
};

const ANY: Code = Code { id: "", severities: &[Severity::Info, Severity::Warn, Severity::Crit], when: "", hint: "" };

fn finding(id: &str, code: &str, severity: Severity, name: &str, message: &str) -> Finding {
    let subject = Subject { kind: Kind::Container, name: name.to_owned(), identity: format!("{name}@1") };
    let mut f = Finding::new(&ANY, severity, subject, message);
    code.clone_into(&mut f.code);
    id.clone_into(&mut f.id);
    f.hint = format!("what to do about {code}");
    f
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

fn report(findings: Vec<Finding>, checks: Vec<CheckRow>) -> Report {
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
        course: None,
        notes: Vec::new(),
    }
}

pub(super) fn healthy() -> Report {
    report(
        vec![finding("f1", "container.log-unbounded", Severity::Info, "web", "web's log has no max-size")],
        vec![
            row("container.state", "container:web", "ok", None),
            row("container.logs", "container:web", "info", None),
            row("disk.space", "mount:/", "ok", None),
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
    oom.evidence = ["kernel log", "resident memory at death", "exit", "engine"]
        .map(|label| Cited { label: label.into(), value: "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)".into() })
        .to_vec();
    let mut looping = finding(
        "f2",
        "container.restart-loop",
        Severity::Crit,
        "worker",
        "worker dies and is started again and again: 7 restarts, last exit code 137 (SIGKILL)",
    );
    looping.explained_by = Some("f1".into());
    looping.evidence = vec![Cited { label: "log before it died".into(), value: "one\ntwo\nthree\nfour\nfive".into() }];
    looping.fixes = vec!["container.stop-loop".into()];
    let mut unhealthy =
        finding("f3", "healthcheck.unhealthy", Severity::Crit, "worker", "worker has failed its health test 12 times in a row");
    unhealthy.explained_by = Some("f2".into());
    let mut space = finding("f4", "disk.space", Severity::Crit, "/var", "/var is 97 % full, limit 95 %");
    space.subject.kind = Kind::Mount;
    let mut probe = finding(
        "f5",
        "healthcheck.command-missing",
        Severity::Warn,
        "alloy",
        "alloy's health test calls wget, which its image does not have",
    );
    probe.confidence = Confidence::Likely;
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
        title: "What uses /var".into(),
        columns: vec!["path".into(), "size".into()],
        rows: vec![vec!["/var/lib/docker".into(), "12 GiB".into()], vec!["/var/log".into(), "900 MiB".into()]],
        note: Some("stopped after 2 s".into()),
    }];
    r.notes = vec!["no history between runs: state.db is locked".into()];
    r
}

/// Names and output that try to drive the terminal.
pub(super) fn hostile() -> Report {
    let mut f = finding("f1", "container.down", Severity::Crit, "a\x1b[2J", "\x1b]0;title\x07 down \u{202E}txt");
    f.evidence = vec![Cited { label: "log".into(), value: "\x1b[31mred\x08\x08\nnext\r\x00".into() }];
    let mut r = report(vec![f], vec![row("container.state", "container:\x1b[2J", "unknown", Some("\x1b[5m"))]);
    r.verdict = "crit".into();
    r.notes = vec!["\x1b[0m".into()];
    r.fixes = vec![FixOffer {
        id: "container.start".into(),
        subject: "container:\x1b".into(),
        risk: Risk::R2,
        command: "opsctl fix container.start '\x1b'".into(),
        refused: None,
    }];
    r
}

pub(super) fn many(n: usize) -> Report {
    let findings =
        (0..n).map(|i| finding(&format!("f{i}"), "container.down", Severity::Crit, &format!("c{i}"), "is down")).collect();
    let mut r = report(findings, vec![row("container.state", "container:c", "crit", None)]);
    r.verdict = "crit".into();
    r
}
