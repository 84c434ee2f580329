//! `opsctl undo`: take back a fix.

use opsctl_core::probe::Ask;

use super::fix::Consent;
use super::{Global, run};
use crate::fix::Place;

/// Take back a fix
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the journal entry, as `opsctl audit show` and `opsctl fix` print it
    entry: u64,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let config = run::load(global)?;
    run::block_on(async {
        let (session, _) = crate::look::session(&config, Ask::default(), None).await;
        let place = Place::of(&config);
        place.guard(&session, args.consent.into(), &mut std::io::stdout()).undo(args.entry).await.code()
    })
}
