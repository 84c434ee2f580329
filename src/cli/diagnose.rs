//! `opsctl diagnose`: check everything that is there.

use super::Global;
use super::run::{ReportArgs, report};
use crate::engine::Selection;
use opsctl_core::probe::Ask;

/// `opsctl diagnose`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these runbooks (or single checks); all when none is named
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
    /// Not these runbooks or checks
    #[arg(long, value_name = "RUNBOOK", value_delimiter = ',')]
    skip: Vec<String>,
    /// Look at what takes time to look at: what uses a filesystem, everything in the logs of requests
    #[arg(long)]
    usage: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let selection = Selection { runbooks: args.runbooks.clone(), skip: args.skip.clone(), words: Vec::new() };
    let ask = Ask { usage: args.usage, ..Ask::default() };
    report(&selection, ask, &args.report, global)
}
