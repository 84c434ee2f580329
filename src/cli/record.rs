//! `opsctl record`: writes all evidence of this host to one file, without secrets, for bug reports and test fixtures.

use std::io::Write as _;
use std::path::PathBuf;

use opsctl_core::probe::ProbeOptions;

mod kinds;

use super::exit::UNKNOWN;
use super::progress::Progress;
use super::{Global, run};
use crate::engine::{Run, Selection};
use crate::watchdog::{self, Ending, Output};

/// `opsctl record`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only these runbooks; default: all
    #[arg(value_name = "RUNBOOK")]
    runbooks: Vec<String>,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let made = Run::since(watchdog::began());
    watchdog::on_overdue(ending(&made, args.file.clone()));
    let (config, _limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    let selection = Selection { runbooks: args.runbooks.clone(), skip: config.skip.clone(), words: Vec::new() };
    let progress = Progress::new(!global.quiet, global.color);
    let recording = run::block_on(async {
        let (session, _) = crate::diagnosis::session(&config, ProbeOptions::default(), None).await;
        session.run(&selection, &made, &|event| progress.show(&event)).await.0
    })?;
    progress.finish();
    recording.write(&args.file)?;
    if !global.quiet {
        let n = recording.records.len();
        let contained = kinds::kinds(&recording).join(", ");
        let contained = if contained.is_empty() { "no names".to_owned() } else { contained };
        writeln!(
            std::io::stdout().lock(),
            "recorded {n} probes to {file}; replay with: opsctl diagnose --replay {file}\n\
             it contains: {contained}; secrets are removed where they are recognized\n\
             read the file before you send it to others",
            file = args.file.display()
        )?;
    }
    Ok(super::exit::OK)
}

/// The ending of a run that the watchdog terminates: it records the partial evidence.
fn ending(made: &Run, file: PathBuf) -> Ending {
    let partial = made.partial.clone();
    Ending::new(
        move |overdue| {
            let recording = partial.recording(overdue.missed());
            let line = |state: String| Output {
                stdout: format!("unknown: {}; {state}\n", overdue.words()),
                code: UNKNOWN,
                then: vec![],
            };
            match recording.map(|recording| (recording.records.len(), recording.write(&file))) {
                None => line("nothing is recorded".to_owned()),
                Some((_, Err(e))) => line(format!("nothing is recorded: {e}")),
                Some((n, Ok(()))) => line(format!("recorded {n} probes, with those that did not end, to {}", file.display())),
            }
        },
        |overdue| Output { stdout: format!("unknown: {}; nothing is recorded\n", overdue.words()), code: UNKNOWN, then: vec![] },
    )
}
