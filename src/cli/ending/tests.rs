//! Runs that hang, spin, panic or exhaust memory: the test binary runs itself as a child with such checks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output as CommandOutput};
use std::time::Instant;

use clap::ValueEnum as _;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, Kind, Object, Plan, Refusal, Report, Risk, Runbook,
    Severity,
};
use opsctl_core::probe::{HistoryError, ProbeCx, ProbeError, ProbeOptions, panics};

use super::*;
use crate::cli::{fix, run};
use crate::engine::{Run, Selection, Session, Setup};

const DEADLINE: Duration = Duration::from_secs(2);

/// The deadline plus a margin for the start of a process.
const MAX_RUNTIME: Duration = Duration::from_millis(3500);

static CODE: Code = Code { id: "fake.broken", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
static FIX: FixSpec = FixSpec { id: "fake.mend", risk: Risk::R1, title: "mend it" };

macro_rules! spec {
    ($id:literal) => {{
        static SPEC: CheckSpec = CheckSpec {
            id: $id,
            title: "",
            codes: std::slice::from_ref(&CODE),
            fixes: std::slice::from_ref(&FIX),
            timeout: Duration::from_secs(60),
        };
        &SPEC
    }};
}

/// A check with one kind of misbehaviour.
#[derive(Clone, Copy)]
enum Fake {
    Fine,
    /// Its probe blocks the thread that it runs on.
    Blocks,
    /// Like `Blocks`, for containers.
    BlocksOfContainer,
    /// Its probe never completes.
    Hangs,
    PanicsInProbe,
    PanicsInTargets,
    PanicsInJudge,
    PanicsInPlan,
    SpinsInJudge,
    /// Its probe allocates memory without end.
    Allocates,
}

impl Check for Fake {
    type Evidence = u64;

    fn spec(&self) -> &'static CheckSpec {
        match self {
            Self::Fine => spec!("fake.fine"),
            Self::Blocks => spec!("fake.blocks"),
            Self::BlocksOfContainer => spec!("fake.blocks-of-container"),
            Self::Hangs => spec!("fake.hangs"),
            Self::PanicsInProbe => spec!("fake.panics-in-probe"),
            Self::PanicsInTargets => spec!("fake.panics-in-targets"),
            Self::PanicsInJudge => spec!("fake.panics-in-judge"),
            Self::PanicsInPlan => spec!("fake.panics-in-plan"),
            Self::SpinsInJudge => spec!("fake.spins-in-judge"),
            Self::Allocates => spec!("fake.eats"),
        }
    }

    fn targets(&self, _inventory: &Inventory) -> Vec<Object> {
        match self {
            Self::PanicsInTargets => panic!("password=hunter2"),
            Self::BlocksOfContainer => vec![Object::named(Kind::Container, "web")],
            _ => vec![Object::host()],
        }
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<u64, ProbeError> {
        match self {
            Self::Blocks | Self::BlocksOfContainer => std::thread::sleep(Duration::from_secs(3600)),
            Self::Hangs => std::future::pending().await,
            Self::PanicsInProbe => panic!("password=hunter2"),
            Self::Allocates => {
                let mut eaten: Vec<Vec<u8>> = Vec::new();
                loop {
                    eaten.push(vec![1; 300 << 10]);
                    if eaten.len().is_multiple_of(16) {
                        tokio::task::yield_now().await;
                    }
                }
            }
            _ => {}
        }
        Ok(7)
    }

    fn judge(&self, _judged: &Judged<'_>, _evidence: &u64) -> Judgement {
        match self {
            Self::PanicsInJudge => panic!("password=hunter2"),
            Self::SpinsInJudge => loop {
                std::hint::spin_loop();
            },
            Self::PanicsInPlan => vec![Finding::new(&CODE, Severity::Crit, Object::host(), "it is broken").fix(FIX.id)].into(),
            _ => Judgement::default(),
        }
    }

    fn plan(&self, _fix: &str, _finding: &Finding, _judged: &Judged<'_>, _evidence: &u64) -> Result<Plan, Refusal> {
        panic!("password=hunter2")
    }
}

fn checks(case: &str) -> Vec<Fake> {
    match case {
        "blocks" => vec![Fake::Blocks, Fake::Fine, Fake::Hangs],
        "blocks-all" => [vec![Fake::BlocksOfContainer; 8], vec![Fake::Fine]].concat(),
        "panics" => {
            vec![Fake::PanicsInProbe, Fake::PanicsInTargets, Fake::PanicsInJudge, Fake::PanicsInPlan, Fake::Fine]
        }
        "spins" => vec![Fake::Fine, Fake::SpinsInJudge, Fake::PanicsInPlan],
        "eats" => vec![Fake::Fine, Fake::Allocates],
        other => panic!("{other}"),
    }
}

/// A run of these checks with the watchdog and output of `opsctl diagnose`.
fn diagnose(case: &str, shown: &Shown) -> u8 {
    let made = Run::since(watchdog::began());
    watchdog::on_overdue(of_report(made.partial.clone(), shown.clone()));
    let _limit = watchdog::within("the run", made.began, DEADLINE, None);
    let fakes = checks(case).into_iter().map(|check| Box::new(check) as Box<_>).collect();
    let session = Session::new(Setup {
        runbooks: vec![Runbook { id: "fake", about: "", checks: fakes, ..Runbook::default() }],
        endpoint: None,
        servers: Vec::new(),
        endpoints: Vec::new(),
        owner_of: Box::new(|_| None),
        waivers: crate::waive::Waivers::default(),
        notes: Vec::new(),
        history: Arc::new(HistoryError),
        own_changes: Box::new(|_| opsctl_core::model::Changes::default()),
        options: ProbeOptions::default(),
        deadline: DEADLINE,
    });
    let (_, assessment) = run::block_on(async { session.run(&Selection::default(), &made, &|_| {}).await }).unwrap();
    let output = shown.output(&assessment);
    watchdog::exit_code(output.code);
    let _ = watchdog::print(&output.stdout);
    output.code
}

/// Not a test: the entry point of the child process.
#[test]
fn child() {
    let Ok(case) = std::env::var("OPSCTL_TEST_DEADLINE") else { return };
    let format = std::env::var("OPSCTL_TEST_FORMAT").unwrap_or_default();
    let format = Format::from_str(&format, true).unwrap_or(Format::Json);
    let shown = Shown { format, outputs: Vec::new(), style: Style::plain(), fail_on: FailOn::Unknown };
    panics::install_hook();
    watchdog::start().unwrap();
    let hour = Duration::from_secs(3600);
    let code = match case.as_str() {
        "ending-hangs" => {
            let minimal = |_: &watchdog::Overdue| watchdog::Output { stdout: "minimal\n".into(), code: 3, then: vec![] };
            watchdog::on_overdue(Ending::new(
                move |_| {
                    std::thread::sleep(hour);
                    unreachable!()
                },
                minimal,
            ));
            let _limit = watchdog::for_now("this", DEADLINE, None);
            std::thread::sleep(hour);
            0
        }
        "recheck" | "verify" => {
            watchdog::on_overdue(fix::ending());
            let code = if case == "recheck" { 11 } else { 13 };
            let _limit = watchdog::for_now("the re-check (fake.fine)", DEADLINE, Some(code));
            std::thread::sleep(hour);
            0
        }
        "act" => {
            watchdog::on_overdue(fix::ending());
            drop(watchdog::for_now("the re-check (fake.fine)", Duration::from_millis(200), Some(11)));
            // an action of a fix
            std::thread::sleep(DEADLINE);
            0
        }
        case => diagnose(case, &shown),
    };
    std::process::exit(code.into());
}

/// The exit code and output of a child; asserts that it exited in time.
fn ended(case: &str, format: &str) -> (i32, String) {
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "cli::ending::tests::child", "--test-threads=1"]);
    child.env("OPSCTL_TEST_DEADLINE", case).env("OPSCTL_TEST_FORMAT", format);
    let CommandOutput { status, stdout, stderr } = child.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    let took = began.elapsed();
    assert!(took < MAX_RUNTIME, "{case} took {took:?}: {stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (status.code().unwrap_or_else(|| panic!("{status}: {stdout}{stderr}")), stdout)
}

/// The report of a child; libtest prints a line before it.
fn report(case: &str) -> (i32, Report) {
    let (code, stdout) = ended(case, "json");
    let json = stdout.find('{').map_or("", |at| &stdout[at..]);
    (code, serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {stdout}")))
}

fn reason<'a>(report: &'a Report, check: &str) -> &'a str {
    let row = report.checks.iter().find(|row| row.check == check).unwrap_or_else(|| panic!("no {check}: {report:?}"));
    row.reason.as_deref().unwrap_or(&row.verdict)
}

#[test]
fn blocked_probe_fails_only_its_check() {
    let (code, report) = report("blocks");
    assert_eq!(code, 3);
    assert_eq!(reason(&report, "fake.fine"), "ok");
    assert_eq!(reason(&report, "fake.blocks"), "did not finish by the deadline (2 s); it is blocked in a call");
    assert_eq!(reason(&report, "fake.hangs"), "did not finish by the deadline (2 s)");
}

#[test]
fn blocked_threads_do_not_affect_host_checks() {
    let (code, report) = report("blocks-all");
    assert_eq!(code, 3);
    assert_eq!(reason(&report, "fake.fine"), "ok");
    assert_eq!(report.checks.iter().filter(|row| row.check == "fake.blocks-of-container" && row.verdict == "unknown").count(), 8);
}

#[test]
fn panic_fails_only_its_check_and_reveals_no_secret() {
    let (code, report) = report("panics");
    assert_eq!(code, 2, "the finding of one of them counts");
    assert_eq!(reason(&report, "fake.fine"), "ok");
    for check in ["fake.panics-in-probe", "fake.panics-in-targets", "fake.panics-in-judge"] {
        let reason = reason(&report, check);
        assert!(reason.starts_with("internal error (src/cli/ending/tests.rs:") && reason.ends_with("please report"), "{reason}");
    }
    assert!(report.fixes[0].refused.as_ref().is_some_and(|why| why.contains("internal error")), "{:?}", report.fixes);
    assert!(!format!("{report:?}").contains("hunter2"));
}

#[test]
fn spinning_judge_is_left_out_of_the_last_report() {
    let (code, report) = report("spins");
    assert_eq!(reason(&report, "fake.fine"), "ok");
    assert_eq!(reason(&report, "fake.spins-in-judge"), "judging its evidence did not finish by the deadline");
    assert_eq!((code, report.findings.len()), (2, 1), "a finding made before the deadline counts");
    assert!(report.notes.iter().any(|note| note.contains("watchdog")), "{:?}", report.notes);
}

#[test]
fn last_report_has_the_requested_format() {
    let (code, stdout) = ended("spins", "nagios");
    assert_eq!(code, 2);
    assert!(stdout.contains("OPSCTL CRITICAL - it is broken"), "{stdout}");
    let (_, stdout) = ended("spins", "table");
    assert!(stdout.contains("fake.spins-in-judge host: judging its evidence did not finish"), "{stdout}");
}

#[test]
fn unrenderable_report_is_a_line() {
    let (code, stdout) = ended("ending-hangs", "");
    assert_eq!(code, 3);
    assert!(stdout.ends_with("minimal\n"), "{stdout}");
}

#[test]
fn endless_allocation_ends_with_a_report() {
    let (code, report) = report("eats");
    assert_eq!(code, 3);
    assert_eq!(reason(&report, "fake.fine"), "ok");
    assert!(reason(&report, "fake.eats").contains("opsctl reached its memory limit (512 MiB)"), "{report:?}");
}

#[test]
fn blocked_re_check_ends_the_fix_before_it_acts() {
    let (code, stdout) = ended("recheck", "");
    assert_eq!(code, 11);
    assert!(stdout.ends_with("the re-check (fake.fine) did not finish by its deadline (2 s); nothing was changed\n"), "{stdout}");
}

#[test]
fn blocked_verification_is_reported_as_unverified() {
    let (code, stdout) = ended("verify", "");
    assert_eq!(code, 13);
    assert!(stdout.contains("the change is not verified"), "{stdout}");
}

#[test]
fn action_is_not_interrupted() {
    assert_eq!(ended("act", "").0, 0);
}

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(Into::into).collect()
}

#[test]
fn options_are_found_before_the_command_line_is_parsed() {
    let line = words("opsctl diagnose --format=json --deadline 3s");
    assert_eq!(requested_deadline(&line), Duration::from_secs(3));
    assert_eq!(Shown::guessed(&line).format, Format::Json);
    let none = words("opsctl note -- --deadline 3s");
    assert_eq!(requested_deadline(&none), DEFAULT_DEADLINE);
}

#[test]
fn run_without_results_is_unknown_in_every_format() {
    for format in Format::value_variants() {
        let shown = Shown { format: *format, outputs: Vec::new(), style: Style::plain(), fail_on: FailOn::Unknown };
        let output = shown.output(&Assessment::unknown("the run did not finish by its deadline (3 s)".to_owned()));
        assert_eq!(output.code, 3, "{format}");
        let names = matches!(format, Format::Prometheus | Format::Jsonl);
        assert!(names || output.stdout.contains("did not finish by its deadline (3 s)"), "{format}: {}", output.stdout);
    }
}
