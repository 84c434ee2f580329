//! The output of a command that the watchdog terminates: the partial report in the requested format.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum as _;
use opsctl_core::model::Verdict;

use super::print::Output;
use super::run::{FailOn, ReportArgs};
use super::{Global, exit};
use crate::config;
use crate::engine::{Assessment, Partial};
use crate::output::{self, Access, FileMode};
use crate::render::{Format, OutputEnvironment, Style};
use crate::watchdog::{self, Ending};

/// The deadline of a run before its configuration is loaded.
pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Output formats of a report.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    format: Format,
    outputs: Vec<Output>,
    style: Style,
    fail_on: FailOn,
}

impl Shown {
    /// The formats of the parsed options.
    pub(super) fn of(args: &ReportArgs, global: &Global) -> Self {
        let style =
            Style::of(&OutputEnvironment::of_process(), global.color, std::io::IsTerminal::is_terminal(&std::io::stdout()));
        let style = style.with_detail(false, global.verbose);
        Self { format: args.format, outputs: args.output.clone(), style, fail_on: args.fail_on }
    }

    /// The formats of a command line that is not parsed yet: parsing reads files and can hang.
    fn guessed(arguments: &[OsString]) -> Self {
        let format = value(arguments, "--format").and_then(|f| Format::from_str(&f, true).ok()).unwrap_or(Format::Table);
        let fail_on = value(arguments, "--fail-on").and_then(|f| FailOn::from_str(&f, true).ok()).unwrap_or(FailOn::Unknown);
        let outputs = value(arguments, "--output").and_then(|o| o.parse().ok()).into_iter().collect();
        Self { format, outputs, style: Style::plain(), fail_on }
    }

    /// Adds an output file.
    pub(super) fn also(mut self, output: Option<(Format, PathBuf)>) -> Self {
        self.outputs.extend(output.map(|(format, file)| Output { format, file }));
        self
    }

    /// The output that shows an assessment.
    fn output(&self, assessment: &Assessment) -> watchdog::Output {
        let report = &assessment.report;
        let is_stdout = |o: &&Output| o.file == Path::new("-");
        let texts: Vec<String> =
            self.outputs.iter().filter(is_stdout).map(|o| o.format.render(report, &Style::plain())).collect();
        let stdout = if texts.is_empty() { self.format.render(report, &self.style) } else { texts.concat() };
        let files = self.outputs.iter().filter(|o| !is_stdout(o)).map(|o| {
            let (text, file) = (o.format.render(report, &Style::plain()), o.file.clone());
            let access = Access::of_report(o.format, &file, FileMode::default());
            let write: Box<dyn FnOnce() + Send> = Box::new(move || drop(output::write(&file, text.into_bytes(), access)));
            write
        });
        watchdog::Output { stdout, code: self.fail_on.exit_code(&assessment.verdict), then: files.collect() }
    }
}

/// The ending of a run: its partial report.
pub(super) fn of_report(partial: Arc<Partial>, shown: Shown) -> Ending {
    let minimal = shown.clone();
    Ending::new(
        move |overdue| shown.output(&partial.assess(overdue.missed())),
        move |overdue| {
            let why = format!("{}, and its partial report could not be rendered", overdue.words());
            minimal.output(&Assessment::unknown(why))
        },
    )
}

/// The ending of a command that prints no report: one line.
pub(super) fn of_line() -> Ending {
    Ending::line(|overdue| (format!("unknown: {}", overdue.words()), overdue.code.unwrap_or(exit::UNKNOWN)))
}

/// Limits parsing of the command line, which can read the configuration.
pub(super) fn of_start(arguments: &[OsString]) -> watchdog::Limit {
    let shown = Shown::guessed(arguments);
    watchdog::on_overdue(of_report(Arc::default(), shown));
    watchdog::within("reading the configuration", watchdog::began(), requested_deadline(arguments), None)
}

/// The deadline on the command line.
fn requested_deadline(arguments: &[OsString]) -> Duration {
    value(arguments, "--deadline").and_then(|d| config::duration(&d).ok()).unwrap_or(DEFAULT_DEADLINE)
}

/// The value of an option: `--option value` or `--option=value`.
fn value(arguments: &[OsString], option: &str) -> Option<String> {
    let words: Vec<&str> = arguments.iter().take_while(|a| *a != "--").filter_map(|a| a.to_str()).collect();
    let joined = |w: &&str| w.strip_prefix(option)?.strip_prefix('=').map(str::to_owned);
    let after = words.iter().position(|w| *w == option).and_then(|at| words.get(at + 1)).map(|w| (*w).to_owned());
    after.or_else(|| words.iter().find_map(joined))
}

/// The output of a run that could not be started.
pub(super) fn not_started(arguments: &[OsString], why: &str) -> u8 {
    let shown = Shown::guessed(arguments);
    let assessment = Assessment::unknown(why.to_owned());
    let _ = watchdog::print(&shown.output(&assessment).stdout);
    shown.fail_on.exit_code(&Verdict::Unknown(why.to_owned()))
}

#[cfg(test)]
mod tests;
