#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use opsctl_core::model::{EvidenceText, FileIdentity, Outcome, Record, Severity, Verdict};
use opsctl_core::probe::command::{Found, Program};
use opsctl_core::probe::endpoint::Asked;
use opsctl_core::probe::file::Facts;
use opsctl_core::probe::prometheus::Series;
use opsctl_core::probe::tls::{Certificate, NoHandshake};

use super::probe::Seen;
use super::*;
use crate::config::site::{files, load};
use crate::config::{Known, Loaded};

const NOW: i64 = 1_000_000_000;

/// The checks of a file with these.
fn own(checks: &str) -> &'static Own {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.toml"), format!("[runbook]\nname = \"shop\"\ntitle = \"x\"\n{checks}")).unwrap();
    load(dir.path(), &Known::registry()).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn check(look: &str) -> SiteCheck {
    let own = own(&format!("[[check]]\nname = \"it\"\ntitle = \"it is well\"\n{look}"));
    SiteCheck { check: &own.checks[0], ca_files: Vec::new() }
}

fn evidence(seen: Seen) -> Evidence {
    Evidence { seen, causes: vec![("postgres.up".into(), "db".into())], fix: None }
}

fn judged(target: &Target) -> Judged<'_> {
    Judged { target, taken_at: Timestamp::from_second(NOW).unwrap() }
}

/// What a check says about what was seen: severity and message, a gap, or nothing.
fn says(look: &str, seen: Seen) -> String {
    let target = Target::named(Kind::Service, "shop");
    let judgement = Check::judge(&check(look), &judged(&target), &evidence(seen));
    match (judgement.findings.first(), judgement.gaps.first()) {
        (Some(f), _) => format!("{} {}", f.severity, f.message),
        (None, Some(gap)) => format!("gap: {gap}"),
        (None, None) => String::new(),
    }
}

fn answered(wrong: Option<&str>, took_ms: u64) -> Seen {
    let wrong = wrong.map(str::to_owned);
    Seen::Asked(Asked::Answered { status: 200, wrong, took_ms, body: "Sorry".into(), location: None })
}

#[test]
fn an_address() {
    let http = "http = { url = \"http://127.0.0.1:8000/health/?token=x\" }\nwarn_above = 0.5\ncrit_above = 2";
    let url = "http://127.0.0.1:8000/health/";
    assert_eq!(says(http, answered(None, 40)), "");
    assert_eq!(says(http, answered(None, 700)), format!("warn {url} takes 0.7 s to answer, limit 0.5 s"));
    assert_eq!(says(http, answered(Some("status 503"), 700)), format!("crit {url} answers with status 503"));
    assert_eq!(says(http, Seen::Asked(Asked::Timeout)), format!("crit {url} does not answer in time"));
    let soft = "http = { url = \"http://a/\" }\nseverity = \"warn\"";
    assert_eq!(says(soft, Seen::Asked(Asked::Refused)), "warn http://a/ refuses connections");
    assert_eq!(
        says("tcp = { address = \"a:1\" }", Seen::Asked(Asked::Closed)),
        "crit tcp://a:1 closes the connection without an answer"
    );
    assert!(says(http, Seen::File(None)).starts_with("gap: the recording was made with another check"));
}

#[test]
fn a_certificate() {
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
    assert_eq!(says(tls, served(leaf(60, "shop.example"), None)), "");
    assert_eq!(says(tls, served(leaf(10, "*.example"), None)), "warn the certificate of shop.example:443 lasts 10 d, limit 14 d");
    assert_eq!(says(tls, served(leaf(2, "shop.example"), None)), "crit the certificate of shop.example:443 lasts 2 d, limit 3 d");
    assert_eq!(says(tls, served(leaf(-1, "shop.example"), None)), "crit the certificate of shop.example:443 has expired");
    assert_eq!(
        says(tls, served(leaf(60, "*.a.example"), None)),
        "crit the certificate of shop.example:443 is not for shop.example"
    );
    assert!(says(tls, served(leaf(60, "shop.example"), Some("unknown issuer"))).ends_with("trusted here: unknown issuer"));
    let own = "tls = { address = \"shop.example:443\", trusted = false }";
    assert_eq!(says(own, served(leaf(60, "shop.example"), Some("unknown issuer"))), "");
    let none = Seen::Certificate { leaf: None, refused: None, failed: Some(NoHandshake::Refused) };
    assert_eq!(says(tls, none), "crit shop.example:443 serves no certificate for shop.example: it refuses connections");
}

#[test]
fn the_answer_of_a_server() {
    let answer = |says: Option<&str>| Seen::Answer { server: "db".into(), says: says.map(str::to_owned) };
    let stuck = "sql = { server = \"db\", query = \"SELECT 1\" }\nwarn_above = 5\ncrit_above = 50";
    assert_eq!(says(stuck, answer(Some("5"))), "");
    assert_eq!(says(stuck, answer(Some("17"))), "warn db answers 17, limit 5");
    assert_eq!(says(stuck, answer(None)), "crit db answers NULL");
    assert_eq!(says(stuck, answer(Some("many"))), "gap: db answers `many`, which is no number");
    assert_eq!(says(stuck, Seen::Rows { server: "db".into(), several: false }), "crit db answers with no row, not one");
    let silent = Seen::Silent { server: "db".into(), why: "it does not run".into() };
    assert_eq!(says(stuck, silent), "crit db does not answer: it does not run");
    let flag = "sql = { query = \"SELECT true\", equals = \"true\" }\nseverity = \"info\"";
    assert_eq!(says(flag, answer(Some("true"))), "");
    assert_eq!(says(flag, answer(Some("false"))), "info db answers `false` instead of `true`");
    let queue = "redis = { command = [\"LLEN\", \"celery\"] }\ncrit_below = 1";
    assert_eq!(says(queue, answer(Some("0"))), "crit db answers 0, limit 1");
    assert_eq!(says(queue, answer(None)), "crit db answers nothing: there is no such key");
}

#[test]
fn a_metric() {
    let series = |values: &[(&str, f64)]| {
        let one = |(job, value): &(&str, f64)| Series { labels: BTreeMap::from([("job".into(), (*job).into())]), value: *value };
        Seen::Series { server: "prom".into(), series: values.iter().map(one).collect() }
    };
    let up = "metric = { query = \"up\" }\ncrit_below = 1";
    assert_eq!(says(up, series(&[("a", 1.0), ("b", 1.0)])), "");
    assert_eq!(says(up, series(&[("a", 1.0), ("b", 0.0), ("c", 0.0)])), "crit prom answers 0 (and 1 more of 3 series), limit 1");
    assert!(says(up, series(&[])).starts_with("gap: prom answers with no series"));
    assert!(says(up, series(&[("a", f64::NAN)])).starts_with("gap: prom answers with no series"));
    let ratio = "metric = { query = \"x\" }\nwarn_above = 0.05";
    assert_eq!(says(ratio, series(&[("a", 0.25)])), "warn prom answers 0.25, limit 0.05");
}

#[test]
fn a_program() {
    let ended = |code: i32, stdout: &str| Seen::Ended {
        code: Some(code),
        signal: None,
        stdout: stdout.into(),
        last_words: stdout.trim().into(),
    };
    let zero = "command = { argv = [\"/opt/check\", \"-x\"] }";
    assert_eq!(says(zero, ended(0, "")), "");
    assert_eq!(says(zero, ended(3, "no way\n")), "crit check ended with 3: no way");
    assert_eq!(says(zero, Seen::Killed(2000)), "crit check did not end within 2 s");
    assert_eq!(
        says(zero, Seen::NotRun("/opt/check does not exist or is no program".into())),
        "gap: /opt/check does not exist or is no program"
    );
    let killed = Seen::Ended { code: None, signal: Some(11), stdout: String::new(), last_words: String::new() };
    assert_eq!(says(zero, killed), "crit check was ended by signal 11");
    let nagios = "command = { argv = [\"/opt/check\"], exit = \"nagios\" }\nseverity = \"warn\"";
    assert_eq!(says(nagios, ended(1, "LOAD WARNING - 7|load=7\n")), "warn check ended with 1: LOAD WARNING - 7|load=7");
    assert_eq!(says(nagios, ended(2, "DOWN")), "crit check ended with 2: DOWN");
    assert_eq!(says(nagios, ended(3, "what?")), "gap: check does not know: what?");
    assert_eq!(says(nagios, ended(126, "")), "warn check ended with 126: ");
    let number = "command = { argv = [\"check\"] }\nwarn_above = 10";
    assert_eq!(says(number, ended(0, "temperature: -3.5.\n")), "");
    assert_eq!(says(number, ended(0, "12 messages")), "warn check says 12, limit 10");
    assert_eq!(says(number, ended(0, "none")), "gap: check prints no number: none");
    let text = "command = { argv = [\"check\"], contains = \"synced\" }";
    assert_eq!(says(text, ended(0, "not yet")), "crit check does not print `synced`");
}

#[test]
fn a_file() {
    let facts = |size: u64, age: i64| {
        let modified = Timestamp::from_second(NOW - age).ok();
        Seen::File(Some(Facts {
            path: "/b/2.gz".into(),
            is_file: true,
            size,
            modified,
            owner: "root".into(),
            ..Facts::default()
        }))
    };
    let backup = "file = { path = \"/b/*.gz\", max_age = \"26h\", min_size = 1024, owner = \"root\" }";
    assert_eq!(says(backup, facts(2048, 3600)), "");
    assert_eq!(says(backup, facts(2048, 200_000)), "crit /b/2.gz was written 2 d ago, limit 26 h");
    assert_eq!(says(backup, facts(12, 3600)), "crit /b/2.gz has 12 B, limit at least 1 KiB");
    assert_eq!(says(backup, Seen::File(None)), "crit /b/*.gz does not exist");
    assert_eq!(says("file = { path = \"/x\", owner = \"app\" }", facts(1, 1)), "crit /b/2.gz belongs to root instead of app");
    assert_eq!(says("file = { path = \"/x\", contains = [\"ok\"] }", facts(1, 1)), "crit /b/2.gz does not hold `ok`");
    assert_eq!(says("file = { path = \"/x\", lacks = [\"ok\"] }", facts(1, 1)), "");
    let absent = "file = { path = \"/x\", exists = false }";
    assert_eq!(
        (says(absent, Seen::File(None)), says(absent, facts(1, 1))),
        (String::new(), "crit /b/2.gz exists and should not".into())
    );
}

#[test]
fn a_log() {
    let lines = |count: u64, cut: bool| Seen::Lines { count, last: vec!["ERROR x".into()], read: 500, cut };
    let any = "log = { container = \"web\", pattern = \"ERROR\" }";
    assert_eq!(says(any, lines(0, false)), "");
    assert_eq!(says(any, lines(2, false)), "crit 2 of 500 log lines in the last 10 min have `ERROR`");
    assert_eq!(says(any, lines(0, true)), "gap: the log is longer than what is read of it");
    let many = "log = { file = \"/x\", pattern = \"ERROR\" }\nwarn_above = 10";
    assert_eq!(
        (says(many, lines(10, false)), says(many, lines(11, true))),
        (String::new(), "warn 11 of 500 log lines have `ERROR`, limit 10".into())
    );
    assert_eq!(
        says("log = { unit = \"x\", pattern = \"OK\" }\ncrit_below = 1", lines(0, false)),
        "crit 0 of 500 log lines in the last 10 min have `OK`, limit 1"
    );
}

#[test]
fn a_number_is_a_measure_with_its_limits() {
    let measure = |look: &str, seen: Seen| {
        let target = Target::named(Kind::Service, "shop");
        let m = Check::judge(&check(look), &judged(&target), &evidence(seen)).measures.remove(0);
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
    undo = [\"make\", \"stop\"]\ncwd = \"/opt/my shop\"\nrisk = \"R2\"\naffects = [\"those who buy\"]\n";

#[test]
fn a_fix_is_planned_from_what_is_there() {
    let check = check(FIX);
    let target = Target::named(Kind::Service, "shop");
    let make = |ino| Ok(Program { path: "/usr/bin/make".into(), identity: FileIdentity { dev: 1, ino } });
    let plan = |found: Found| {
        let e = Evidence { fix: Some(found), ..evidence(Seen::Asked(Asked::Refused)) };
        let finding = Check::judge(&check, &judged(&target), &e).findings.remove(0);
        assert_eq!(finding.fixes, ["shop.restart"]);
        Check::plan(&check, "shop.restart", &finding, &judged(&target), &e)
    };
    let found =
        Found { program: make(7), undo: Some(make(7)), folder: None, open: Some("user deploy can write /opt/my shop".into()) };
    let text = crate::fix::plan_text(&plan(found.clone()).unwrap(), None);
    insta::assert_snapshot!(text.trim_end(), @r"
    fix       shop.restart on service:shop (R2: one object is interrupted)
    does      cd '/opt/my shop' && /usr/bin/make restart
    affects   those who buy
              user deploy can write /opt/my shop, and so decides what is run
    downtime  not said
    undo      cd '/opt/my shop' && /usr/bin/make stop
    verified  when shop.it no longer says shop.it within 60 s
    ");
    // another program is another plan: `changed since the plan`
    assert_ne!(plan(found.clone()), plan(Found { program: make(8), ..found.clone() }));
    let missing = Found { program: Err("make is not there".into()), ..found.clone() };
    assert_eq!(plan(missing), Err(Refusal::Precondition("make is not there".into())));
    let nowhere = Found { folder: Some("/opt/my shop: not found".into()), ..found };
    assert_eq!(plan(nowhere), Err(Refusal::Precondition("/opt/my shop: not found".into())));
}

/// A recording of what a file's checks saw.
fn recording(records: Vec<(&str, Outcome)>) -> crate::engine::Recording {
    let record = |(check, outcome): (&str, Outcome)| Record {
        check: check.to_owned(),
        target: Target::named(Kind::Service, "shop"),
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
fn it_is_a_runbook_like_the_others_and_its_causes_are_found() {
    let own = own(
        "owner = \"shop team\"\n[[check]]\nname = \"health\"\ntitle = \"it answers\"\nhttp = { url = \"http://a/\" }\n\
         [[check]]\nname = \"page\"\ntitle = \"the page is right\"\nhttp = { url = \"http://a/x\" }\nexplained_by = [\"shop.health\"]\n\
         [check.fix]\nname = \"restart\"\ntitle = \"restart it\"\nargv = [\"make\"]\nrisk = \"R1\"\n",
    );
    let mut config = Loaded::defaults().config;
    config.site = vec![own];
    let seen = |causes: &[(&str, &str)]| {
        let causes = causes.iter().map(|(c, n)| ((*c).to_owned(), (*n).to_owned())).collect();
        let e = Evidence { seen: Seen::Asked(Asked::Refused), causes, fix: None };
        Outcome::Evidence(EvidenceText::of(&e).unwrap())
    };
    let recording = recording(vec![("shop.health", seen(&[])), ("shop.page", seen(&[("shop.health", "shop")]))]);
    let assessment = crate::engine::Session::replaying(runbooks(&config)).assess(&recording);
    let report = &assessment.report;
    assert_eq!((report.causes.len(), report.findings[1].explained_by.as_deref()), (1, Some("f1")));
    assert!(report.causes[0].because[0].contains("it depends on that, says shop.toml"), "{:?}", report.causes);
    assert!(
        report.fixes[0].refused.as_ref().is_some_and(|why| why.starts_with("its cause is open: shop.health")),
        "{:?}",
        report.fixes
    );
    // where the file is not, nothing is known of the check
    let without = crate::engine::Session::replaying(runbooks(&Loaded::defaults().config)).assess(&recording);
    assert_eq!(without.verdicts[0], Verdict::Unknown("this opsctl has no check shop.health".into()));
    assert_eq!(own.checks[0].spec.codes[0].severities, [Severity::Crit]);
}

#[test]
fn the_examples_are_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/runbooks.d/aletheia.toml");
    let site = files(&[example.into()], &Known::registry()).unwrap_or_else(|e| panic!("{e}"));
    assert!(site.iter().any(|own| own.id == "aletheia"));
    assert_eq!(files(&[], &Known::default()).unwrap().len(), 0);
    let catalog = crate::catalog::Catalog::of(runbooks(&crate::config::Config { site, ..Loaded::defaults().config }));
    assert!(matches!(catalog.find("healthcheckfailing"), Some(crate::catalog::Entry::Alert(_, r, _)) if r.id == "aletheia"));
    for (runbook, page) in catalog.runbooks() {
        assert_eq!(crate::catalog::problems(runbook, page), Vec::<String>::new());
    }
}
