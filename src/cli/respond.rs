//! `opsctl respond`: diagnoses an alert on this host.

#![allow(clippy::disallowed_methods, reason = "a file that the command line names, opened by the watched main thread")]

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum;
use opsctl_core::model::Report;
use opsctl_core::probe::ProbeOptions;

use super::Global;
use super::ending::{self, DEFAULT_DEADLINE};
use super::exit::UsageError;
use super::progress::Progress;
use super::run::{self, FailOn};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::engine::{Assessment, Partial, Run, Selection};
use crate::render::{self, OutputEnvironment, Style};
use crate::respond::{self, Alert, Response};
use crate::watchdog::{self, Ending, Output};

/// Limit of a payload, in bytes.
const MAX_PAYLOAD_BYTES: u64 = 4 << 20;

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Text
    Text,
    /// One JSON document
    Json,
    /// For a chat message or an issue
    Markdown,
}

/// `opsctl respond`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The payload, as Alertmanager, Grafana or Prometheus send it; default: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Form,
    /// Deadline of the run; checks that have not finished by then are unknown [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    deadline: Option<std::time::Duration>,
    /// Lowest verdict with an exit code other than 0
    #[arg(long, value_name = "VERDICT", default_value = "unknown")]
    fail_on: FailOn,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    super::init_tracing(global.verbose);
    watchdog::on_overdue(ending::of_line());
    // typed input has no time limit, a pipe has one
    let typed = args.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdin());
    let alerts = if typed { Some(alerts(args)?) } else { None };
    let made = Run::since(if typed { Instant::now() } else { watchdog::began() });
    let early = args.deadline.unwrap_or(DEFAULT_DEADLINE);
    let limit = watchdog::within("reading the configuration and the payload", made.began, early, None);
    let config = run::load(global)?;
    let alerts = alerts.map_or_else(|| self::alerts(args), Ok)?;
    let catalog = Catalog::of(crate::site::runbooks(&config));
    let style = Style::of(&OutputEnvironment::of_process(), global.color, std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let style = style.with_detail(global.quiet, global.verbose);
    watchdog::on_overdue(ending(args, &made.partial, &alerts, &config, style));
    drop(limit);
    let _limit = watchdog::within("the run", made.began, args.deadline.unwrap_or(config.deadline), None);
    let selection = Selection { skip: config.skip.clone(), ..Selection::default() };
    let progress = Progress::new(args.format == Form::Text && !global.quiet, global.color);
    let result = run::block_on(run::diagnose(&config, &selection, ProbeOptions::default(), args.deadline, &made, &progress))??;
    let mut response = respond::respond(alerts, &result.assessment.report, &catalog, &config, Some(&result.store));
    response.fixes_switched_off = crate::fix::host_switched_off();
    let code = code(&response, args.fail_on);
    watchdog::exit_code(code);
    watchdog::print(&text(args.format, &response, style)?)?;
    Ok(code)
}

fn text(form: Form, response: &Response, style: Style) -> anyhow::Result<String> {
    Ok(match form {
        Form::Text => respond::table(response, &style),
        Form::Json => render::json_document(response)?,
        Form::Markdown => respond::markdown(response),
    })
}

/// The ending of a run that the watchdog terminates: the response to its partial report.
fn ending(args: &Args, partial: &Arc<Partial>, alerts: &[Alert], config: &Config, style: Style) -> Ending {
    let (form, fail_on) = (args.format, args.fail_on);
    let make = {
        let (alerts, config) = (alerts.to_vec(), config.clone());
        move |report: &Report| {
            let response = respond::respond(alerts.clone(), report, &Catalog::of(crate::site::runbooks(&config)), &config, None);
            let text = text(form, &response, style).unwrap_or_else(|e| format!("{e:#}\n"));
            Output { stdout: text, code: code(&response, fail_on), then: Vec::new() }
        }
    };
    let (minimal, partial) = (make.clone(), partial.clone());
    Ending::new(
        move |overdue| make(&partial.assess(overdue.missed()).report),
        move |overdue| minimal(&Assessment::unknown(overdue.words()).report),
    )
}

fn alerts(args: &Args) -> anyhow::Result<Vec<Alert>> {
    let payload = respond::parse(&payload(args)?).map_err(|e| UsageError(e.to_string()))?;
    for sentence in &payload.left_out {
        let _ = writeln!(std::io::stderr(), "opsctl: {sentence}");
    }
    Ok(payload.alerts)
}

/// The exit code of the worst verdict among the checks that concern the alerts.
fn code(response: &Response, fail_on: FailOn) -> u8 {
    use opsctl_core::model::Verdict;
    let verdicts = response.answers.iter().map(|a| match a.verdict.as_str() {
        "crit" => Verdict::Crit,
        "warn" => Verdict::Warn,
        "unknown" => Verdict::Unknown(String::new()),
        _ => Verdict::Ok,
    });
    fail_on.exit_code(&Verdict::roll_up(&verdicts.collect::<Vec<_>>()))
}

fn payload(args: &Args) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let from = args.file.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let reading = || format!("reading the payload from {from}");
    let too_large = || UsageError(format!("the payload from {from} is larger than 4 MiB"));
    if let Some(path) = &args.file {
        if std::fs::metadata(path).with_context(reading)?.len() > MAX_PAYLOAD_BYTES {
            return Err(too_large().into());
        }
        bytes = std::fs::read(path).with_context(reading)?;
    } else {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            let _ = writeln!(std::io::stderr(), "opsctl: reading the payload from standard input (end with Ctrl-D)");
        }
        std::io::stdin().lock().take(MAX_PAYLOAD_BYTES + 1).read_to_end(&mut bytes).with_context(reading)?;
    }
    if bytes.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(too_large().into());
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(UsageError(format!("the payload from {from} is empty")).into());
    }
    Ok(bytes)
}
