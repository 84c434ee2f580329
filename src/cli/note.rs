//! `opsctl note`: remember that something was done to this host, a deployment above all.

use std::io::Write as _;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{printable, quantity};
use opsctl_core::probe::{Redactor, clock};

use super::exit::{self, Usage};
use super::{Global, run};
use crate::audit::Who;
use crate::changes::{self, Note};

/// Longest text of a note, in characters.
const LONGEST: usize = 500;

/// Clocks of two machines differ; a note from further ahead is a mistake.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// `opsctl note`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What kind of change, one word: deploy, migration, rollback
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: String,
    /// What was done, for example: shop 1.4.2
    #[arg(value_name = "TEXT", required = true)]
    text: Vec<String>,
    /// When it was done, for example 2026-12-01T04:00:00Z; now without it
    #[arg(long, value_name = "MOMENT")]
    at: Option<Timestamp>,
}

/// One word, so that notes can be told by their kind.
fn kind(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 32 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is not one word such as `deploy`: lower case letters, digits and `-`", printable(text)))
    }
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let config = run::load(global)?;
    let now = clock::now();
    let at = args.at.unwrap_or(now);
    if at.duration_since(now) > AHEAD {
        return Err(Usage(format!("{} has not come yet; a note is about what was done", quantity::minute(at))).into());
    }
    // a command line of a deployment is where tokens stand
    let text = Redactor::default().scrub(&args.text.join(" "));
    if text.trim().is_empty() || text.chars().count() > LONGEST {
        return Err(Usage(format!("say in at most {LONGEST} characters what was done")).into());
    }
    let note = Note { at, kind: args.kind.clone(), text, by: Who::of_process().to_string() };
    changes::add(&crate::look::state_dir(&config), note.clone())?;
    if !global.quiet {
        writeln!(std::io::stdout().lock(), "noted for {}: {} {}", quantity::minute(at), note.kind, printable(&note.text))?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_one_word() {
        assert_eq!(kind("db-migration2"), Ok("db-migration2".to_owned()));
        for wrong in ["", "two words", "Deploy", "\u{1b}[2J", &"x".repeat(33)] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }
}
