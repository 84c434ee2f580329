//! `opsctl undo`: reverts a fix.

use opsctl_core::probe::ProbeOptions;

use super::fix::Consent;
use super::{Global, fix, run};
use crate::fix::{Exit, GuardContext};
use crate::watchdog;

/// Revert a fix
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the journal entry, as `opsctl audit show` and `opsctl fix` print it
    entry: u64,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    watchdog::on_overdue(fix::ending());
    let config = fix::load(global)?;
    run::block_on(async {
        let limit = watchdog::for_now("opening the history", config.deadline, Some(Exit::Refused.code()));
        let (session, _) = crate::diagnosis::session(&config, ProbeOptions::default(), None).await;
        drop(limit);
        let context = GuardContext::of(&config);
        context.guard(&session, args.consent.into(), &mut std::io::stdout()).undo(args.entry).await.code()
    })
}
