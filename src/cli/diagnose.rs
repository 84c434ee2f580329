//! `opsctl diagnose`: runs all checks.

use super::Global;
use super::run::{ReportArgs, report};
use crate::engine::Selection;
use opsctl_core::probe::ProbeOptions;

/// `opsctl diagnose`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these runbooks (or single checks); default: all
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
    /// Not these runbooks or checks
    #[arg(long, value_name = "RUNBOOK", value_delimiter = ',')]
    skip: Vec<String>,
    /// Also run slow inspections: usage of filesystems by directory, complete access logs
    #[arg(long)]
    usage: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let selection = Selection { runbooks: args.runbooks.clone(), skip: args.skip.clone(), words: Vec::new() };
    let options = ProbeOptions { usage: args.usage, ..ProbeOptions::default() };
    report(&selection, options, &args.report, global)
}
