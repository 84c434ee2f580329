//! `opsctl undo`: take back a fix.

use crate::config::Config;
use crate::fix::Engine;

use super::fix::{Consent, Place};

/// Take back a fix
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the journal entry, as `opsctl audit show` and `opsctl fix` print it
    entry: u64,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the subcommand.
pub async fn exec(args: &Args, config: &Config, engine: &impl Engine) -> anyhow::Result<u8> {
    let mut out = std::io::stdout();
    let mut place = Place::of(config);
    Ok(place.guard(engine, args.consent.into(), &mut out).undo(args.entry).await.code())
}
