//! `opsctl note`: records a change to this host, in particular a deployment.

use std::io::Write as _;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{printable, quantity};
use opsctl_core::probe::Redactor;
use opsctl_core::probe::io::clock;

use super::exit::{self, UsageError};
use super::{Global, run};
use crate::audit::Author;
use crate::changes::{self, Note};

/// Limit of the text of a note, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// Tolerance for clocks of other machines; a note further in the future is rejected.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// `opsctl note`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of change, one word: deploy, migration, rollback
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: String,
    /// Description, for example: shop 1.4.2
    #[arg(value_name = "TEXT", required = true)]
    text: Vec<String>,
    /// Time of the change, for example 2026-12-01T04:00:00Z; default: now
    #[arg(long, value_name = "MOMENT")]
    at: Option<Timestamp>,
}

/// Parses the kind: one word, so that notes can be filtered by it.
fn kind(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 32 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is not one word such as `deploy`: lower case letters, digits and `-`", printable(text)))
    }
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let config = run::load(global)?;
    let now = clock::now();
    let at = args.at.unwrap_or(now);
    if at.duration_since(now) > MAX_CLOCK_SKEW {
        return Err(UsageError(format!("{} is in the future; a note records a past change", quantity::minute(at))).into());
    }
    // command lines of deployments can contain tokens
    let text = Redactor::default().scrub(&args.text.join(" "));
    if text.trim().is_empty() || text.chars().count() > MAX_TEXT_CHARS {
        return Err(UsageError(format!("the text must be 1 to {MAX_TEXT_CHARS} characters long")).into());
    }
    let note = Note { at, kind: args.kind.clone(), text, by: Author::of_process().to_string() };
    changes::add(&crate::diagnosis::state_dir(&config), note.clone())?;
    if !global.quiet {
        writeln!(std::io::stdout().lock(), "noted for {}: {} {}", quantity::minute(at), note.kind, printable(&note.text))?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_one_word() {
        assert_eq!(kind("db-migration2"), Ok("db-migration2".to_owned()));
        for wrong in ["", "two words", "Deploy", "\u{1b}[2J", &"x".repeat(33)] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }
}
