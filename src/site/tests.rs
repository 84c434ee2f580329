#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use opsctl_core::model::{EvidenceText, FileIdentity, Outcome, Record, Severity, Verdict};
use opsctl_core::probe::endpoint::EndpointResult;
use opsctl_core::probe::io::command::{Program, ResolvedPrograms};
use opsctl_core::probe::io::file::FileInfo;
use opsctl_core::probe::servers::prometheus::Series;
use opsctl_core::probe::tls::{Certificate, HandshakeError};

use super::probe::Seen;
use super::*;
use crate::config::site::{files, load};
use crate::config::{KnownNames, Loaded};

const NOW: i64 = 1_000_000_000;

/// The site runbook with these checks.
fn own(checks: &str) -> &'static SiteRunbook {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.toml"), format!("[runbook]\nname = \"shop\"\ntitle = \"x\"\n{checks}")).unwrap();
    load(dir.path(), &KnownNames::registry()).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn check(probe: &str) -> CheckAdapter {
    let own = own(&format!("[[check]]\nname = \"it\"\ntitle = \"It is well\"\n{probe}"));
    CheckAdapter { check: &own.checks[0], ca_files: Vec::new() }
}

fn evidence(seen: Seen) -> Evidence {
    Evidence { seen, causes: vec![("postgres.up".into(), "db".into())], fix: None }
}

fn judged(target: &Object) -> Judged<'_> {
    Judged { target, taken_at: Timestamp::from_second(NOW).unwrap() }
}

/// Result of a check with this evidence: severity and message, a gap, or an empty string.
fn result(probe: &str, seen: Seen) -> String {
    let target = Object::named(Kind::Service, "shop");
    let judgement = Check::judge(&check(probe), &judged(&target), &evidence(seen));
    match (judgement.findings.first(), judgement.gaps.first()) {
        (Some(f), _) => format!("{} {}", f.severity, f.message),
        (None, Some(gap)) => format!("gap: {gap}"),
        (None, None) => String::new(),
    }
}

fn answered(wrong: Option<&str>, took_ms: u64) -> Seen {
    let wrong = wrong.map(str::to_owned);
    Seen::Asked(EndpointResult::Answered { status: 200, wrong, took_ms, body: "Sorry".into(), location: None })
}

#[test]
fn http_endpoint() {
    let http = "http = { url = \"http://127.0.0.1:8000/health/?token=x\" }\nwarn_above = 0.5\ncrit_above = 2";
    let url = "http://127.0.0.1:8000/health/";
    assert_eq!(result(http, answered(None, 40)), "");
    assert_eq!(result(http, answered(None, 700)), format!("warn {url} takes 0.7 s to answer, limit 0.5 s"));
    assert_eq!(result(http, answered(Some("status 503"), 700)), format!("crit {url} answers with status 503"));
    assert_eq!(result(http, Seen::Asked(EndpointResult::Timeout)), format!("crit {url} does not answer in time"));
    let soft = "http = { url = \"http://a/\" }\nseverity = \"warn\"";
    assert_eq!(result(soft, Seen::Asked(EndpointResult::Refused)), "warn http://a/ refuses connections");
    assert_eq!(
        result("tcp = { address = \"a:1\" }", Seen::Asked(EndpointResult::Closed)),
        "crit tcp://a:1 closes the connection without an answer"
    );
    assert!(result(http, Seen::File(None)).starts_with("gap: the recording was made with another check"));
}

#[test]
fn served_certificate() {
    let tls = "tls = { address = \"shop.example:443\" }";
    let leaf = |days: i64, name: &str| Certificate {
        names: vec![name.into()],
        not_after: Timestamp::from_second(NOW + days * 86400).unwrap(),
        ..Certificate::default()
    };
    let served = |leaf: Certificate, refused: Option<&str>| Seen::Certificate {
        leaf: Some(Box::new(leaf)),
        refused: refused.map(str::to_owned),
        failed: None,
    };
    assert_eq!(result(tls, served(leaf(60, "shop.example"), None)), "");
    assert_eq!(
        result(tls, served(leaf(10, "*.example"), None)),
        "warn the certificate of shop.example:443 lasts 10 d, limit 14 d"
    );
    assert_eq!(
        result(tls, served(leaf(2, "shop.example"), None)),
        "crit the certificate of shop.example:443 lasts 2 d, limit 3 d"
    );
    assert_eq!(result(tls, served(leaf(-1, "shop.example"), None)), "crit the certificate of shop.example:443 has expired");
    assert_eq!(
        result(tls, served(leaf(60, "*.a.example"), None)),
        "crit the certificate of shop.example:443 is not for shop.example"
    );
    assert!(result(tls, served(leaf(60, "shop.example"), Some("unknown issuer"))).ends_with("trusted here: unknown issuer"));
    let own = "tls = { address = \"shop.example:443\", trusted = false }";
    assert_eq!(result(own, served(leaf(60, "shop.example"), Some("unknown issuer"))), "");
    let none = Seen::Certificate { leaf: None, refused: None, failed: Some(HandshakeError::Refused) };
    assert_eq!(result(tls, none), "crit shop.example:443 serves no certificate for shop.example: it refuses connections");
}

#[test]
fn sql_and_redis_results() {
    let answer = |value: Option<&str>| Seen::Answer { server: "db".into(), says: value.map(str::to_owned) };
    let stuck = "sql = { server = \"db\", query = \"SELECT 1\" }\nwarn_above = 5\ncrit_above = 50";
    assert_eq!(result(stuck, answer(Some("5"))), "");
    assert_eq!(result(stuck, answer(Some("17"))), "warn db answers 17, limit 5");
    assert_eq!(result(stuck, answer(None)), "crit db answers NULL");
    assert_eq!(result(stuck, answer(Some("many"))), "gap: db answers `many`, which is no number");
    assert_eq!(result(stuck, Seen::Rows { server: "db".into(), several: false }), "crit db answers with no row, not one");
    let silent = Seen::Silent { server: "db".into(), why: "it does not run".into() };
    assert_eq!(result(stuck, silent), "crit db does not answer: it does not run");
    let flag = "sql = { query = \"SELECT true\", equals = \"true\" }\nseverity = \"info\"";
    assert_eq!(result(flag, answer(Some("true"))), "");
    assert_eq!(result(flag, answer(Some("false"))), "info db answers `false` instead of `true`");
    let queue = "redis = { command = [\"LLEN\", \"celery\"] }\ncrit_below = 1";
    assert_eq!(result(queue, answer(Some("0"))), "crit db answers 0, limit 1");
    assert_eq!(result(queue, answer(None)), "crit db answers nil: no such key");
}

#[test]
fn prometheus_metric() {
    let series = |values: &[(&str, f64)]| {
        let one = |(job, value): &(&str, f64)| Series { labels: BTreeMap::from([("job".into(), (*job).into())]), value: *value };
        Seen::Series { server: "prom".into(), series: values.iter().map(one).collect() }
    };
    let up = "metric = { query = \"up\" }\ncrit_below = 1";
    assert_eq!(result(up, series(&[("a", 1.0), ("b", 1.0)])), "");
    assert_eq!(
        result(up, series(&[("a", 1.0), ("b", 0.0), ("c", 0.0)])),
        "crit prom answers 0 (and 1 more of 3 series), limit 1"
    );
    assert!(result(up, series(&[])).starts_with("gap: prom returns no series"));
    assert!(result(up, series(&[("a", f64::NAN)])).starts_with("gap: prom returns no series"));
    let ratio = "metric = { query = \"x\" }\nwarn_above = 0.05";
    assert_eq!(result(ratio, series(&[("a", 0.25)])), "warn prom answers 0.25, limit 0.05");
}

#[test]
fn program_exit_and_output() {
    let ended = |code: i32, stdout: &str| Seen::Ended {
        code: Some(code),
        signal: None,
        stdout: stdout.into(),
        last_line: stdout.trim().into(),
    };
    let zero = "command = { argv = [\"/opt/check\", \"-x\"] }";
    assert_eq!(result(zero, ended(0, "")), "");
    assert_eq!(result(zero, ended(3, "no way\n")), "crit check exited with 3: no way");
    assert_eq!(result(zero, Seen::Killed(2000)), "crit check did not end within 2 s");
    assert_eq!(
        result(zero, Seen::NotRun("/opt/check does not exist or is not executable".into())),
        "gap: /opt/check does not exist or is not executable"
    );
    let killed = Seen::Ended { code: None, signal: Some(11), stdout: String::new(), last_line: String::new() };
    assert_eq!(result(zero, killed), "crit check was terminated by signal 11");
    let nagios = "command = { argv = [\"/opt/check\"], exit = \"nagios\" }\nseverity = \"warn\"";
    assert_eq!(result(nagios, ended(1, "LOAD WARNING - 7|load=7\n")), "warn check exited with 1: LOAD WARNING - 7|load=7");
    assert_eq!(result(nagios, ended(2, "DOWN")), "crit check exited with 2: DOWN");
    assert_eq!(result(nagios, ended(3, "no data")), "gap: check returned UNKNOWN: no data");
    assert_eq!(result(nagios, ended(126, "")), "warn check exited with 126: ");
    let number = "command = { argv = [\"check\"] }\nwarn_above = 10";
    assert_eq!(result(number, ended(0, "temperature: -3.5.\n")), "");
    assert_eq!(result(number, ended(0, "12 messages")), "warn check prints 12, limit 10");
    assert_eq!(result(number, ended(0, "none")), "gap: check prints no number: none");
    let text = "command = { argv = [\"check\"], contains = \"synced\" }";
    assert_eq!(result(text, ended(0, "not yet")), "crit check does not print `synced`");
}

#[test]
fn file_properties() {
    let facts = |size: u64, age: i64| {
        let modified = Timestamp::from_second(NOW - age).ok();
        Seen::File(Some(FileInfo {
            path: "/b/2.gz".into(),
            is_file: true,
            size,
            modified,
            owner: "root".into(),
            ..FileInfo::default()
        }))
    };
    let backup = "file = { path = \"/b/*.gz\", max_age = \"26h\", min_size = 1024, owner = \"root\" }";
    assert_eq!(result(backup, facts(2048, 3600)), "");
    assert_eq!(result(backup, facts(2048, 200_000)), "crit /b/2.gz was written 2 d ago, limit 26 h");
    assert_eq!(result(backup, facts(12, 3600)), "crit /b/2.gz has 12 B, limit at least 1 KiB");
    assert_eq!(result(backup, Seen::File(None)), "crit /b/*.gz does not exist");
    assert_eq!(result("file = { path = \"/x\", owner = \"app\" }", facts(1, 1)), "crit /b/2.gz belongs to root instead of app");
    assert_eq!(result("file = { path = \"/x\", contains = [\"ok\"] }", facts(1, 1)), "crit /b/2.gz does not contain `ok`");
    assert_eq!(result("file = { path = \"/x\", lacks = [\"ok\"] }", facts(1, 1)), "");
    let absent = "file = { path = \"/x\", exists = false }";
    assert_eq!(
        (result(absent, Seen::File(None)), result(absent, facts(1, 1))),
        (String::new(), "crit /b/2.gz exists and should not".into())
    );
}

#[test]
fn log_lines() {
    let lines = |count: u64, cut: bool| Seen::Lines { count, last: vec!["ERROR x".into()], read: 500, cut };
    let any = "log = { container = \"web\", pattern = \"ERROR\" }";
    assert_eq!(result(any, lines(0, false)), "");
    assert_eq!(result(any, lines(2, false)), "crit 2 of 500 log lines in the last 10 min have `ERROR`");
    assert_eq!(result(any, lines(0, true)), "gap: the log is longer than the part that is read");
    let many = "log = { file = \"/x\", pattern = \"ERROR\" }\nwarn_above = 10";
    assert_eq!(
        (result(many, lines(10, false)), result(many, lines(11, true))),
        (String::new(), "warn 11 of 500 log lines have `ERROR`, limit 10".into())
    );
    assert_eq!(
        result("log = { unit = \"x\", pattern = \"OK\" }\ncrit_below = 1", lines(0, false)),
        "crit 0 of 500 log lines in the last 10 min have `OK`, limit 1"
    );
}

#[test]
fn number_is_a_measure_with_its_limits() {
    let measure = |probe: &str, seen: Seen| {
        let target = Object::named(Kind::Service, "shop");
        let m = Check::judge(&check(probe), &judged(&target), &evidence(seen)).measures.remove(0);
        (m.subject, m.name, m.value, m.warn, m.crit, m.falling)
    };
    let http = measure("http = { url = \"http://a/\" }\nwarn_above = 1", answered(None, 250));
    assert_eq!(http, ("service:shop".into(), "it".into(), 0.25, Some(1.0), None, false));
    let leaf = Certificate {
        names: vec!["a".into()],
        not_after: Timestamp::from_second(NOW + 86400 * 30).unwrap(),
        ..Certificate::default()
    };
    let tls =
        measure("tls = { address = \"a:1\" }", Seen::Certificate { leaf: Some(Box::new(leaf)), refused: None, failed: None });
    assert_eq!(tls, ("service:shop".into(), "it".into(), 2_592_000.0, Some(1_209_600.0), Some(259_200.0), true));
}

const FIX: &str = "http = { url = \"http://a/\" }\n[check.fix]\nname = \"restart\"\ntitle = \"restart it\"\nargv = [\"make\", \"restart\"]\n\
    undo = [\"make\", \"stop\"]\ncwd = \"/opt/my shop\"\nrisk = \"R2\"\naffects = [\"buyers\"]\n";

#[test]
fn fix_is_planned_from_the_found_program() {
    let check = check(FIX);
    let target = Object::named(Kind::Service, "shop");
    let make = |ino| Ok(Program { path: "/usr/bin/make".into(), identity: FileIdentity { dev: 1, ino } });
    let plan = |found: ResolvedPrograms| {
        let e = Evidence { fix: Some(found), ..evidence(Seen::Asked(EndpointResult::Refused)) };
        let finding = Check::judge(&check, &judged(&target), &e).findings.remove(0);
        assert_eq!(finding.fixes, ["shop.restart"]);
        Check::plan(&check, "shop.restart", &finding, &judged(&target), &e)
    };
    let found = ResolvedPrograms {
        program: make(7),
        undo: Some(make(7)),
        directory: None,
        open: Some("user deploy can write /opt/my shop".into()),
    };
    let text = crate::fix::plan_text(&plan(found.clone()).unwrap(), None);
    insta::assert_snapshot!(text.trim_end(), @r"
    fix       shop.restart on service:shop (R2: one object is interrupted)
    does      cd '/opt/my shop' && /usr/bin/make restart
    affects   buyers
              user deploy can write /opt/my shop, and therefore controls the program
    downtime  not specified
    undo      cd '/opt/my shop' && /usr/bin/make stop
    verified  when shop.it no longer reports shop.it within 60 s
    ");
    // another program is another plan: `changed since the plan`
    assert_ne!(plan(found.clone()), plan(ResolvedPrograms { program: make(8), ..found.clone() }));
    let missing = ResolvedPrograms { program: Err("make is not there".into()), ..found.clone() };
    assert_eq!(plan(missing), Err(Refusal::Precondition("make is not there".into())));
    let nowhere = ResolvedPrograms { directory: Some("/opt/my shop: not found".into()), ..found };
    assert_eq!(plan(nowhere), Err(Refusal::Precondition("/opt/my shop: not found".into())));
}

/// A recording of the evidence of site checks.
fn recording(records: Vec<(&str, Outcome)>) -> crate::engine::Recording {
    let record = |(check, outcome): (&str, Outcome)| Record {
        check: check.to_owned(),
        target: Object::named(Kind::Service, "shop"),
        taken_at: Timestamp::from_second(NOW).unwrap(),
        duration_ms: 1,
        outcome,
    };
    let empty = serde_json::json!({
        "schema_version": crate::engine::RECORDING_SCHEMA_VERSION, "opsctl": "", "host": {"hostname": "h", "kernel": "", "boot_id": ""},
        "started_at": "2001-09-09T01:46:40Z", "duration_ms": 1, "inventory": opsctl_core::model::Inventory::default(), "records": [],
    });
    let mut recording: crate::engine::Recording = serde_json::from_value(empty).unwrap();
    recording.records = records.into_iter().map(record).collect();
    recording
}

#[test]
fn custom_runbook_works_like_a_built_in_one() {
    let own = own(
        "owner = \"shop team\"\n[[check]]\nname = \"health\"\ntitle = \"it answers\"\nhttp = { url = \"http://a/\" }\n\
         [[check]]\nname = \"page\"\ntitle = \"the page is right\"\nhttp = { url = \"http://a/x\" }\nexplained_by = [\"shop.health\"]\n\
         [check.fix]\nname = \"restart\"\ntitle = \"restart it\"\nargv = [\"make\"]\nrisk = \"R1\"\n",
    );
    let mut config = Loaded::defaults().config;
    config.site = vec![own];
    let seen = |causes: &[(&str, &str)]| {
        let causes = causes.iter().map(|(c, n)| ((*c).to_owned(), (*n).to_owned())).collect();
        let e = Evidence { seen: Seen::Asked(EndpointResult::Refused), causes, fix: None };
        Outcome::Evidence(EvidenceText::of(&e).unwrap())
    };
    let recording = recording(vec![("shop.health", seen(&[])), ("shop.page", seen(&[("shop.health", "shop")]))]);
    let assessment = crate::engine::Session::replaying(runbooks(&config)).assess(&recording);
    let report = &assessment.report;
    assert_eq!((report.causes.len(), report.findings[1].explained_by.as_deref()), (1, Some("f1")));
    assert!(report.causes[0].because[0].contains("dependency declared in shop.toml"), "{:?}", report.causes);
    assert!(
        report.fixes[0].refused.as_ref().is_some_and(|why| why.starts_with("its cause is open: shop.health")),
        "{:?}",
        report.fixes
    );
    // a check that is not configured here is unknown
    let without = crate::engine::Session::replaying(runbooks(&Loaded::defaults().config)).assess(&recording);
    assert_eq!(without.verdicts[0], Verdict::Unknown("this opsctl has no check shop.health".into()));
    assert_eq!(own.checks[0].spec.codes[0].severities, [Severity::Crit]);
}

#[test]
fn example_runbook_is_valid() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/runbooks.d/aletheia.toml");
    let site = files(&[example.into()], &KnownNames::registry()).unwrap_or_else(|e| panic!("{e}"));
    assert!(site.iter().any(|own| own.id == "aletheia"));
    assert_eq!(files(&[], &KnownNames::default()).unwrap().len(), 0);
    let catalog = crate::catalog::Catalog::of(runbooks(&crate::config::Config { site, ..Loaded::defaults().config }));
    assert!(matches!(catalog.find("healthcheckfailing"), Some(crate::catalog::Entry::Alert(_, r, _)) if r.id == "aletheia"));
    for (runbook, document) in catalog.runbooks() {
        assert_eq!(crate::catalog::problems(runbook, document), Vec::<String>::new());
    }
}
