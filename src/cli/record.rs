//! `opsctl record`: all evidence of this host in one file, without secrets: a bug report, and a test fixture.

use std::io::Write as _;
use std::path::PathBuf;

use opsctl_core::probe::Ask;

use super::{Global, run};
use crate::engine::Selection;
use crate::render::Progress;

/// `opsctl record`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only these runbooks; all when none is named
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let config = run::load(global)?;
    let selection = Selection { runbooks: args.runbooks.clone(), skip: config.skip.clone(), words: Vec::new() };
    let progress = Progress::new(!global.quiet, global.color);
    let recording = run::block_on(async {
        let (session, _) = crate::look::session(&config, Ask::default(), None).await;
        session.record(&selection, &|event| progress.show(&event)).await
    })?;
    progress.finish();
    recording.write(&args.file)?;
    if !global.quiet {
        let n = recording.records.len();
        writeln!(
            std::io::stdout().lock(),
            "recorded {n} probes to {file}; replay with: opsctl diagnose --replay {file}",
            file = args.file.display()
        )?;
    }
    Ok(super::exit::OK)
}
