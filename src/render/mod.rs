//! One file per format; each is a pure function from the report to text. Reports are printed only here.

mod diagnosis;
mod html;
mod json;
mod jsonl;
mod junit;
mod markdown;
mod markup;
mod nagios;
mod plot;
mod pretty;
mod progress;
mod prometheus;
mod style;
mod table;
mod tap;
mod timings;
mod unanswered;
mod view;

#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
mod sample;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;
use opsctl_core::model::Report;

use crate::output::{Access, FileMode};

pub use nagios::nagios_error;
pub use pretty::pretty;
pub use progress::Progress;
pub use style::{ColorChoice, OutputEnvironment, Style};

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON document (`opsctl config schema --report` prints its schema)
    Json,
    /// One JSON line per finding, then one for the run
    Jsonl,
    /// For a chat message or an issue
    Markdown,
    /// One self-contained HTML page with plots
    Html,
    /// JUnit XML, for Jenkins and GitLab: a test per check and target
    Junit,
    /// Test Anything Protocol: a test point per check and target
    Tap,
    /// For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)
    Nagios,
    /// Metrics for the textfile collector of node_exporter
    Prometheus,
}

impl Format {
    /// The report in this format.
    #[must_use]
    pub fn render(self, report: &Report, style: &Style) -> String {
        match self {
            Self::Table => table::render(report, style),
            Self::Json => json::render(report),
            Self::Jsonl => jsonl::render(report),
            Self::Markdown => markdown::render(report),
            Self::Html => html::render(report),
            Self::Junit => junit::render(report),
            Self::Tap => tap::render(report),
            Self::Nagios => nagios::render(report),
            Self::Prometheus => prometheus::render(report),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |v| v.get_name()))
    }
}

/// `FORMAT=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The format.
    pub format: Format,
    /// Destination; `-` is standard output.
    pub file: PathBuf,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, file) = text.split_once('=').ok_or("expected FORMAT=FILE, for example json=/tmp/report.json")?;
        if file.is_empty() {
            return Err("the file name after `=` is empty".to_owned());
        }
        Ok(Self { format: Format::from_str(format, true)?, file: file.into() })
    }
}

/// Writes a report: one format to standard output, any number to files.
pub fn show(
    report: &Report,
    format: Format,
    outputs: &[Output],
    mode: FileMode,
    color: ColorChoice,
    quiet: bool,
    verbose: u8,
) -> anyhow::Result<()> {
    let to_stdout = outputs.iter().any(|o| o.file == Path::new("-"));
    save(report, outputs, mode)?;
    for output in outputs.iter().filter(|o| o.file == Path::new("-")) {
        print(&output.format.render(report, &Style::plain()))?;
    }
    // standard output of a machine format is exactly one document
    if !to_stdout {
        let style = Style::of(&OutputEnvironment::of_process(), color, io::stdout().is_terminal()).with_detail(quiet, verbose);
        print(&format.render(report, &style))?;
    }
    Ok(())
}

/// Any value as one JSON document, safe to show on a terminal.
pub fn json_document(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    Ok(json::escaped(text))
}

/// Foreign text in a cell of a Markdown table, as code.
#[must_use]
pub fn markdown_cell(text: &str) -> String {
    markdown::cell(text)
}

/// Foreign text in Markdown, as code.
#[must_use]
pub fn markdown_code(text: &str) -> String {
    markdown::code(text)
}

/// Writes a report to files only.
pub fn save(report: &Report, outputs: &[Output], mode: FileMode) -> anyhow::Result<()> {
    for output in outputs.iter().filter(|o| o.file != Path::new("-")) {
        let text = output.format.render(report, &Style::plain());
        crate::output::write(&output.file, text.into_bytes(), access(output.format, &output.file, mode))
            .with_context(|| format!("writing the {} report to {}", output.format, output.file.display()))?;
    }
    Ok(())
}

/// Prints a complete text.
pub fn print(text: &str) -> io::Result<()> {
    crate::watchdog::print(text)
}

/// Access mode of a report file: metrics are for the collector of node_exporter, which reads `.prom` files only.
#[must_use]
pub fn access(format: Format, file: &Path, mode: FileMode) -> Access {
    let collected = format == Format::Prometheus && file.extension().is_some_and(|e| e == "prom");
    if collected { Access::Metrics } else { Access::Report(mode) }
}

/// With `-vv`: debug log on stderr.
pub fn init_tracing(verbose: u8) {
    if verbose >= 2 {
        // a second call in one process keeps the first subscriber
        let _ = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::DEBUG).try_init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_a_format_and_a_file() {
        assert_eq!(Output::from_str("json=/tmp/a=b"), Ok(Output { format: Format::Json, file: "/tmp/a=b".into() }));
        for bad in ["json", "json=", "yaml=/tmp/x", ""] {
            assert!(Output::from_str(bad).is_err(), "{bad}");
        }
    }
}
