//! Prints reports, and writes them to files.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum as _;
use opsctl_core::model::Report;

use super::Global;
use crate::output::{self, Access, FileMode};
use crate::render::{Format, OutputEnvironment, Style};
use crate::watchdog;

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
pub(super) fn report(report: &Report, format: Format, outputs: &[Output], mode: FileMode, global: &Global) -> anyhow::Result<()> {
    let to_stdout = outputs.iter().any(|o| o.file == Path::new("-"));
    save(report, outputs, mode)?;
    for output in outputs.iter().filter(|o| o.file == Path::new("-")) {
        watchdog::print(&output.format.render(report, &Style::plain()))?;
    }
    // standard output of a machine format is exactly one document
    if !to_stdout {
        let style = Style::of(&OutputEnvironment::of_process(), global.color, io::stdout().is_terminal());
        watchdog::print(&format.render(report, &style.with_detail(global.quiet, global.verbose)))?;
    }
    Ok(())
}

/// Writes a report to files only.
pub(super) fn save(report: &Report, outputs: &[Output], mode: FileMode) -> anyhow::Result<()> {
    for output in outputs.iter().filter(|o| o.file != Path::new("-")) {
        let text = output.format.render(report, &Style::plain());
        output::write(&output.file, text.into_bytes(), Access::of_report(output.format, &output.file, mode))
            .with_context(|| format!("writing the {} report to {}", output.format, output.file.display()))?;
    }
    Ok(())
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
