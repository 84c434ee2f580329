//! `opsctl report`: for cron. Diagnoses, compares with the previous report, and prints only changes.

use std::io::Write as _;
use std::time::Duration;

use opsctl_core::model::Report;
use opsctl_core::probe::ProbeOptions;
use opsctl_core::probe::io::clock;

use super::ending::{self, Shown};
use super::progress::Progress;
use super::run::{self, ReportArgs};
use super::{Global, exit, print};
use crate::config::{Config, Occasion};
use crate::deliver::{Mailer, Message};
use crate::engine::{Run, Selection};
use crate::output::{self, Access};
use crate::render::{Format, Style};
use crate::report::{Period, compare, of_owner};
use crate::state::{Lock, LockError, Store, dir};
use crate::watchdog;

/// Time limit of all deliveries, after the report was printed. Undelivered reports are left to the next run.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// `opsctl report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these runbooks (or single checks); default: all
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
    /// Not these runbooks or checks
    #[arg(long, value_name = "RUNBOOK", value_delimiter = ',')]
    skip: Vec<String>,
    /// Print also if no finding is new, worse or resolved
    #[arg(long)]
    always: bool,
    /// Summarize a period: resolved findings, open findings, and trends
    #[arg(long, value_name = "PERIOD")]
    digest: Option<Period>,
    /// Only findings of this owner
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    super::init_tracing(global.verbose);
    let made = Run::since(watchdog::began());
    let shown = Shown::of(&args.report, global);
    watchdog::on_overdue(ending::of_report(made.partial.clone(), shown.clone()));
    let (mut config, limit) = run::bounded(args.report.deadline, || run::load(global), |config| config.deadline)?;
    // the metrics also report a run that was terminated
    let textfile = config.textfile.clone().map(|file| (Format::Prometheus, file));
    watchdog::on_overdue(ending::of_report(made.partial.clone(), shown.also(textfile)));
    run::add_endpoints(&mut config, &args.report.endpoint);
    if args.report.replay.is_some() {
        return Err(exit::UsageError(
            "a report compares with the past of this host; `opsctl diagnose --replay` shows a recording".into(),
        )
        .into());
    }
    run::reject_record(&args.report)?;
    let state_dir = crate::diagnosis::state_dir(&config);
    // concurrent runs would report every finding twice
    let _lock = match take_lock(&state_dir) {
        Ok(lock) => lock,
        Err(note) => {
            print_errors(&[note]);
            return Ok(exit::OK);
        }
    };
    let selection =
        Selection { runbooks: args.runbooks.clone(), skip: [args.skip.clone(), config.skip.clone()].concat(), words: vec![] };
    run::check_names(&selection, &config)?;
    let progress = Progress::new(false, global.color);
    let (mut result, compared) = run::block_on(async {
        let result = run::diagnose(&config, &selection, ProbeOptions::default(), args.report.deadline, &made, &progress).await?;
        let now = opsctl_core::probe::io::clock::now();
        let compared = compare(&result.store, &result.assessment.report, args.digest, config.remind_after, now);
        anyhow::Ok((result, compared))
    })??;
    if args.report.timings {
        progress.print(&progress.timings());
    }
    result.assessment.report.course = Some(compared.course.clone());
    let report = &result.assessment.report;
    let code = args.report.fail_on.exit_code(&result.assessment.verdict);
    watchdog::exit_code(code);
    let alarm = journal_alarm_is_due(&result.store, report, &config);
    let news = compared.changed || compared.reminds || alarm || args.digest.is_some();
    if args.always || news || args.report.format != Format::Table {
        let filtered = args.owner.as_ref().map(|owner| of_owner(report, owner));
        let shown = filtered.as_ref().unwrap_or(report);
        let (format, outputs) = (args.report.format, &args.report.output);
        print::report(shown, format, outputs, config.file_mode, global)?;
    } else {
        print::save(report, &args.report.output, config.file_mode)?;
    }
    drop(limit);
    let _limit = watchdog::for_now("delivering the report", DELIVERY_TIMEOUT, Some(code));
    let notes = deliver(&config, &state_dir, args, report, compared.changed || compared.reminds || alarm);
    print_errors(&notes);
    if news {
        let (store, open) = (result.store.clone(), compared.open(report));
        let kind = args.digest.map_or("change", Period::word);
        run::block_on(async move {
            store.mark_reported(open.clone(), kind).await;
            if alarm {
                store.mark_reported(open, JOURNAL_ALARM).await;
            }
        })?;
    }
    Ok(code)
}

/// Key of the journal alarm in the state database.
const JOURNAL_ALARM: &str = "journal";

/// Whether a journal that was tampered with, or cannot be compared, is reported now: when detected, and again as a reminder.
fn journal_alarm_is_due(store: &Store, report: &Report, config: &Config) -> bool {
    let last = store.last_reported(JOURNAL_ALARM);
    let again = last.is_none_or(|at| clock::now().duration_since(at) >= config.remind_after);
    // without history it would be new in every report
    report.journal.as_ref().is_some_and(|journal| journal.problem.is_some()) && again && store.note().is_none()
}

/// Delivers the report; returns the errors.
fn deliver(config: &Config, state_dir: &std::path::Path, args: &Args, report: &Report, changed: bool) -> Vec<String> {
    let post = Mailer::new(config, state_dir);
    let mut notes = Vec::new();
    if let Some(file) = &config.textfile {
        let text = Format::Prometheus.render(report, &Style::plain());
        if let Err(e) = output::write(file, text.into_bytes(), Access::Metrics) {
            notes.push(format!("writing the metrics to {}: {e}", file.display()));
        }
    }
    let occasions = match args.digest {
        Some(Period::Day) => vec![Occasion::Day],
        Some(Period::Week) => vec![Occasion::Week],
        Some(Period::Month) => vec![Occasion::Month],
        None if changed => vec![Occasion::Change, Occasion::Always],
        None => vec![Occasion::Always],
    };
    notes.extend(post.deliver(report, &Message::of, &occasions));
    notes.extend(post.heartbeat());
    notes
}

fn take_lock(state_dir: &std::path::Path) -> Result<Option<Lock>, String> {
    if dir::ensure(state_dir).is_err() {
        // without a state directory there is no history either, as the report notes
        return Ok(None);
    }
    match Lock::take(&state_dir.join("report.lock")) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held(_)) => Err("another `opsctl report` is running".to_owned()),
        Err(LockError::Io { .. }) => Ok(None),
    }
}

/// Prints errors on stderr, which cron sends by mail.
fn print_errors(notes: &[String]) {
    for note in notes {
        let _ = writeln!(std::io::stderr().lock(), "opsctl: {}", opsctl_core::model::printable(note));
    }
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::JournalHead;

    use super::*;
    use crate::config::Loaded;
    use crate::report::fixtures;

    #[tokio::test(flavor = "current_thread")]
    async fn tampered_journal_is_reported_once_and_again_as_a_reminder() {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let store = Store::open(&dir.path().join("state"), 14).await;
        let mut config = Loaded::defaults().config;
        let head = JournalHead { file: "j".into(), entries: 0, head: "0".repeat(64), signature: None, problem: None };
        let mut report = fixtures::report(&[]);
        assert!(!journal_alarm_is_due(&store, &report, &config));
        report.journal = Some(head.clone());
        assert!(!journal_alarm_is_due(&store, &report, &config));
        report.journal = Some(JournalHead { problem: Some("it was removed".into()), ..head });
        assert!(journal_alarm_is_due(&store, &report, &config));
        store.mark_reported(vec![], JOURNAL_ALARM).await;
        assert!(!journal_alarm_is_due(&store, &report, &config));
        config.remind_after = jiff::SignedDuration::ZERO;
        assert!(journal_alarm_is_due(&store, &report, &config));
    }
}
