//! `opsctl bootstrap`: waits for services to start at the first boot, applies fixes that interrupt nothing, and writes a report.

mod emit;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use opsctl_core::model::{Risk, Severity, printable, quantity};
use opsctl_core::probe::ProbeOptions;

use super::ending::{self, Shown};
use super::progress::Progress;
use super::run::{self, ReportArgs};
use super::{Global, print};
use crate::config::{self, Config};
use crate::engine::{Assessment, Offer, Partial, Pending, Run, Selection, Session};
use crate::fix::{FixOptions, GuardContext};
use crate::output::{self, Access, FileMode};
use crate::render::{Format, Style};
use crate::report::add_journal;
use crate::watchdog;

/// Not checked: CPU load is high during a first boot and decreases by itself.
const SKIPPED_ON_FIRST_BOOT: &str = "cpu";

/// Runbooks with R1 fixes that belong into provisioning. Containers are not changed at boot.
const PROVISIONING_RUNBOOKS: &[&str] = &["host", "mtu", "systemd", "time"];

/// Time between two runs.
const RUN_INTERVAL: Duration = Duration::from_secs(2);

/// Time limit of writing the report and its files.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// `opsctl bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these runbooks (or single checks); default: all but cpu
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
    /// Not these runbooks or checks
    #[arg(long, value_name = "RUNBOOK", value_delimiter = ',')]
    skip: Vec<String>,
    /// Wait at most this long for services that are still starting; a failure that is final is not waited for
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = config::duration)]
    wait: Duration,
    /// Apply fixes of the host, mtu, systemd and time runbooks that interrupt nothing and can be reverted (R1), without confirmation
    #[arg(long)]
    apply: bool,
    /// Only diagnose; the default
    #[arg(long, conflicts_with = "apply")]
    check: bool,
    /// Directory for bootstrap.json and bootstrap.log [default: the state directory]
    #[arg(long, value_name = "FOLDER")]
    log_dir: Option<PathBuf>,
    /// Print a cloud-config or a systemd unit that installs and runs `opsctl bootstrap`, and exit
    #[arg(long, value_name = "WHAT")]
    emit: Option<emit::EmitFormat>,
    /// With --emit: URL of the binary; without it the image must contain /usr/local/bin/opsctl
    #[arg(long, value_name = "URL", requires = "emit", requires = "sha256")]
    from: Option<String>,
    /// With --from: SHA-256 of the binary, in hex
    #[arg(long, value_name = "HEX", requires = "from", value_parser = emit::sha256)]
    sha256: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    if let Some(format) = args.emit {
        watchdog::print(&emit::text(format, args.from.as_deref(), args.sha256.as_deref()))?;
        return Ok(0);
    }
    super::init_tracing(global.verbose);
    let made = Run::since(watchdog::began());
    let shown = Shown::of(&args.report, global);
    watchdog::on_overdue(ending::of_report(made.partial.clone(), shown.clone()));
    let (config, limit) = run::bounded(args.report.deadline, || run::load(global), |config| config.deadline)?;
    let mut skip = [args.skip.clone(), config.skip.clone()].concat();
    if args.runbooks.is_empty() {
        skip.push(SKIPPED_ON_FIRST_BOOT.to_owned());
    }
    let selection = Selection { runbooks: args.runbooks.clone(), skip, words: Vec::new() };
    run::check_names(&selection, &config)?;
    if args.report.replay.is_some() {
        drop(limit);
        return run::report(&selection, ProbeOptions::default(), &args.report, global);
    }
    run::reject_record(&args.report)?;
    let progress = Progress::new(args.report.format == Format::Table && !global.quiet, global.color);
    let mut boot_log = BootLog { began: Instant::now(), lines: Vec::new(), last: String::new(), progress };
    // each run has its own deadline; --wait limits the whole loop
    drop(limit);
    let directory = args.log_dir.clone().unwrap_or_else(|| crate::diagnosis::state_dir(&config));
    let json = Some((Format::Json, directory.join("bootstrap.json")));
    watchdog::on_overdue(ending::of_report(made.partial.clone(), shown.also(json)));
    let assessment = run::block_on(boot(args, &config, &selection, &made.partial, &mut boot_log))?;
    let code = args.report.fail_on.exit_code(&assessment.verdict);
    watchdog::exit_code(code);
    let _limit = watchdog::for_now("writing the report", REPORT_TIMEOUT, Some(code));
    if args.report.timings {
        boot_log.progress.print(&boot_log.progress.timings());
    }
    if let Err(e) = write_files(&directory, &assessment, &boot_log, config.file_mode) {
        // the report is still printed on standard output
        let _ = writeln!(std::io::stderr().lock(), "opsctl: {e:#}");
    }
    print::report(&assessment.report, args.report.format, &args.report.output, config.file_mode, global)?;
    Ok(code)
}

/// Diagnoses and applies fixes in a loop until nothing is starting or `--wait` has elapsed.
async fn boot(args: &Args, config: &Config, selection: &Selection, partial: &Arc<Partial>, boot_log: &mut BootLog) -> Assessment {
    let limit = watchdog::for_now("opening the history", config.deadline, None);
    let (session, store) = crate::diagnosis::session(config, ProbeOptions::default(), args.report.deadline).await;
    drop(limit);
    let mut applied = 0;
    let mut tried: Vec<Offer> = Vec::new();
    let mut assessment = loop {
        let run = Run { began: Instant::now(), partial: partial.clone() };
        let limit = watchdog::within("the run", run.began, session.deadline(), None);
        let (_, assessment) = session.run(selection, &run, &|event| boot_log.progress.show(&event)).await;
        drop(limit);
        if args.apply {
            let new = offers(&assessment, &tried);
            if !new.is_empty() {
                applied += apply(&new, config, &session, boot_log).await;
                tried.extend(new);
                continue;
            }
        }
        let waiting = may_still_succeed(&assessment);
        if waiting.is_empty() {
            boot_log.note("nothing is starting");
            break assessment;
        }
        if boot_log.began.elapsed() >= args.wait {
            boot_log.note(&format!("waited {}; still starting: {}", span(args.wait), list(&waiting)));
            break assessment;
        }
        boot_log.note_waiting(&list(&waiting));
        tokio::time::sleep(RUN_INTERVAL.min(args.wait.saturating_sub(boot_log.began.elapsed()))).await;
    };
    boot_log.progress.finish();
    store.record(std::mem::take(&mut assessment.samples)).await;
    assessment.report.notes.extend(store.note());
    add_journal(&mut assessment.report, &crate::diagnosis::state_dir(config), config.signing_key.as_deref()).await;
    for finding in assessment.report.findings.iter().filter(|f| f.severity > Severity::Info) {
        boot_log.note(&format!("{} {} {}: {}", finding.severity, finding.code, finding.subject, finding.message));
    }
    if boot_log.began.elapsed() >= RUN_INTERVAL {
        assessment.report.notes.push(format!("waited {} for services to start", span(boot_log.began.elapsed())));
    }
    if applied > 0 {
        let fixes = if applied == 1 { "1 fix".to_owned() } else { format!("{applied} fixes") };
        assessment.report.notes.push(format!("applied {fixes}; see `opsctl audit show`"));
    }
    assessment
}

/// Pending checks that may still succeed. Effects of a final fault are left out.
fn may_still_succeed(assessment: &Assessment) -> Vec<&Pending> {
    let report = &assessment.report;
    let starting = |check: &str, target: &str| assessment.pending.iter().any(|p| p.check == check && p.target == target);
    let row_of = |id: &String| report.checks.iter().find(|row| row.findings.contains(id));
    let hopeless = |p: &&Pending| {
        let row = report.checks.iter().find(|row| row.check == p.check && row.target == p.target);
        let findings = row.map(|r| r.findings.as_slice()).unwrap_or_default();
        let mut open = report.findings.iter().filter(|f| findings.contains(&f.id) && f.severity > Severity::Info).peekable();
        open.peek().is_some()
            && open.all(|f| {
                let cause = f.explained_by.as_ref().and_then(row_of);
                cause.is_some_and(|row| !starting(&row.check, &row.target))
            })
    };
    assessment.pending.iter().filter(|p| !hopeless(p)).collect()
}

/// R1 fixes of provisioning that are possible and were not tried yet.
fn offers(assessment: &Assessment, tried: &[Offer]) -> Vec<Offer> {
    let selected = |o: &&Offer| {
        let provisioning = PROVISIONING_RUNBOOKS.contains(&o.finding.runbook.as_str());
        let harmless = o.plan.as_ref().is_ok_and(|p| p.risk == Risk::R1);
        provisioning && harmless && o.refused.is_none() && !tried.iter().any(|t| t.plan == o.plan)
    };
    assessment.offers.iter().filter(selected).cloned().collect()
}

async fn apply(offers: &[Offer], config: &Config, session: &Session, boot_log: &mut BootLog) -> usize {
    let context = GuardContext::of(config);
    let mut applied = 0;
    for offer in offers {
        let mut transcript = Vec::new();
        let options = FixOptions { dry_run: false, yes: true, risk: Some(Risk::R1) };
        let exit = context.guard(session, options, &mut transcript).fix(offer).await;
        applied += usize::from(exit.code() == 0);
        for line in String::from_utf8_lossy(&transcript).lines() {
            boot_log.note(line);
        }
    }
    applied
}

/// The log with a timestamp per line. Every line also goes to stderr, which cloud-init records.
struct BootLog {
    began: Instant,
    lines: Vec<String>,
    last: String,
    progress: Progress,
}

impl BootLog {
    fn note(&mut self, text: &str) {
        let line = format!("{:>6.1} s  {}", self.began.elapsed().as_secs_f64(), printable(text));
        self.progress.print(&line);
        self.lines.push(line);
    }

    /// Logged once, not every two seconds.
    fn note_waiting(&mut self, condition: &str) {
        self.progress.wait(&format!("{} waiting for {condition}", span(self.began.elapsed())));
        if self.last != condition {
            condition.clone_into(&mut self.last);
            self.note(&format!("waiting for {condition}"));
        }
    }
}

fn list(pending: &[&Pending]) -> String {
    let mut names: Vec<&str> = pending.iter().map(|p| p.condition.as_str()).collect();
    names.dedup();
    names.join(", ")
}

fn span(d: Duration) -> String {
    quantity::duration(d.try_into().unwrap_or_default())
}

/// Writes `bootstrap.json` and `bootstrap.log`.
fn write_files(directory: &Path, assessment: &Assessment, boot_log: &BootLog, mode: FileMode) -> anyhow::Result<()> {
    crate::state::dir::ensure(directory).with_context(|| format!("creating {}", directory.display()))?;
    let table = Format::Table.render(&assessment.report, &Style::plain());
    let log = format!(
        "{} {:.0}\n{}\n\n{table}",
        assessment.report.host.hostname,
        assessment.report.started_at,
        boot_log.lines.join("\n")
    );
    for (name, text) in [("bootstrap.json", Format::Json.render(&assessment.report, &Style::plain())), ("bootstrap.log", log)] {
        let file = directory.join(name);
        output::write(&file, text.into_bytes(), Access::Report(mode)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use opsctl_core::model::{CheckRow, Code, Finding, Object, Reported};

    use super::*;
    use crate::engine::Recording;

    static CAUSE: Code = Code { id: "a.cause", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
    static EFFECT: Code = Code { id: "b.effect", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };

    fn row(check: &str, findings: &[&str]) -> CheckRow {
        CheckRow {
            check: check.into(),
            runbook: check.split('.').next().unwrap().into(),
            target: Object::host().to_string(),
            verdict: "crit".into(),
            reason: None,
            duration_ms: 0,
            findings: findings.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    fn pending(check: &str) -> Pending {
        Pending { check: check.into(), target: "host".into(), condition: format!("{check} to pass") }
    }

    /// `a.cause` explains `b.effect`; both are open, `c.other` has no finding.
    fn host() -> Assessment {
        let recording: Recording = serde_json::from_value(serde_json::json!({
            "schema_version": 1, "opsctl": "", "host": {"hostname": "h", "kernel": "k", "boot_id": "b"},
            "started_at": "2026-11-21T12:00:00Z", "duration_ms": 1, "inventory": {"engine": null, "containers": [], "mounts": [], "gaps": []}, "records": [],
        }))
        .unwrap();
        let mut assessment = crate::engine::assess(&crate::engine::Judging::default(), &recording);
        let mut cause = Reported::new(Finding::new(&CAUSE, Severity::Crit, Object::host(), "broken"));
        let mut effect = Reported::new(Finding::new(&EFFECT, Severity::Crit, Object::host(), "suffers"));
        (cause.id, effect.id) = ("f1".into(), "f2".into());
        effect.explained_by = Some("f1".into());
        assessment.report.findings = vec![cause, effect];
        assessment.report.checks = vec![row("a.check", &["f1"]), row("b.check", &["f2"]), row("c.check", &[])];
        assessment
    }

    #[test]
    fn effect_of_a_permanent_fault_is_not_waited_for() {
        let mut a = host();
        a.pending = vec![pending("b.check")];
        assert!(may_still_succeed(&a).is_empty());
        // the cause may still be resolved, and its effect with it
        a.pending = vec![pending("a.check"), pending("b.check")];
        assert_eq!(may_still_succeed(&a).len(), 2);
        // starting, without a finding yet
        a.pending = vec![pending("c.check")];
        assert_eq!(may_still_succeed(&a).len(), 1);
    }

    #[test]
    fn waiting_is_logged_once() {
        let names = [pending("a"), pending("a"), pending("b")];
        assert_eq!(list(&names.iter().collect::<Vec<_>>()), "a to pass, b to pass");
    }
}
