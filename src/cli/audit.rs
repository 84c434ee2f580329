//! `opsctl audit`: what was changed on this host.

use std::io::Write;

use anyhow::bail;
use opsctl_core::model::printable;

use crate::audit::{self, Entry, Journal, Kind};
use crate::config::{Config, Surroundings};

/// Show and verify the journal of changes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do. Default: show
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the journal, oldest entry first
    Show {
        /// Only the last N entries
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// How to show it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check that no line was edited, removed or added (exit code 2 when one was)
    Verify,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

/// Runs the subcommand.
pub fn exec(args: &Args, config: &Config) -> anyhow::Result<u8> {
    let journal = Journal::at(&Surroundings::of_process().state_dir(config.state_dir.as_deref()));
    let out = &mut std::io::stdout().lock();
    match args.command.as_ref().unwrap_or(&Command::Show { last: None, format: Format::Table }) {
        Command::Show { last, format } => show(&journal, *last, *format, out),
        Command::Verify => verify(&journal, out),
    }
}

fn show(journal: &Journal, last: Option<usize>, format: Format, out: &mut dyn Write) -> anyhow::Result<u8> {
    let entries = journal.entries()?;
    let shown = &entries[entries.len().saturating_sub(last.unwrap_or(usize::MAX))..];
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(shown)?)?,
        Format::Table if shown.is_empty() => writeln!(out, "nothing was changed yet ({} is empty)", journal.path().display())?,
        Format::Table => {
            for entry in shown {
                writeln!(out, "{}", row(entry))?;
            }
        }
    }
    Ok(0)
}

/// `#12 2026-11-21T04:00:00Z outcome of #11 verified  container.start container:web  text (uid 0, sudo by alice)`
fn row(entry: &Entry) -> String {
    use std::fmt::Write as _;
    let body = &entry.body;
    // seconds are enough for people
    let at = entry.at.round(jiff::Unit::Second).unwrap_or(entry.at);
    let mut row = format!("#{} {at} {}", entry.seq, body.kind);
    // writing to a string cannot fail
    let _ = body.of.map_or(Ok(()), |of| write!(row, " of #{of}"));
    let _ = body.ending.map_or(Ok(()), |ending| write!(row, " {ending}"));
    let _ = body.fix.as_ref().map_or(Ok(()), |fix| write!(row, "  {fix}"));
    let _ = body.subject.as_ref().map_or(Ok(()), |subject| write!(row, " {subject}"));
    if body.kind == Kind::Intent {
        let actions = body.plan.iter().flat_map(|p| &p.actions).map(ToString::to_string).collect::<Vec<_>>();
        let _ = write!(row, "  {}", actions.join("; "));
    }
    if !body.text.is_empty() {
        let _ = write!(row, "  {}", body.text);
    }
    let sudo = entry.by.sudo_user.as_ref().map(|u| format!(", sudo by {u}")).unwrap_or_default();
    let _ = write!(row, "  (uid {}{sudo})", entry.by.uid);
    printable(&row)
}

fn verify(journal: &Journal, out: &mut dyn Write) -> anyhow::Result<u8> {
    let bytes = journal.bytes()?;
    let (entries, faults) = audit::verify(&bytes);
    for fault in &faults {
        writeln!(out, "{fault}")?;
    }
    let path = journal.path().display();
    let count = opsctl_core::model::quantity::count(entries, "entry").replace("entrys", "entries");
    if faults.iter().any(|f| f.what.is_tampering()) {
        writeln!(out, "{path}: {count}, the chain is broken")?;
        return Ok(2);
    }
    if entries == 0 && !bytes.is_empty() {
        bail!("{path} is not a journal");
    }
    writeln!(out, "{path}: {count}, the chain holds")?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use opsctl_core::probe::Redactor;

    use super::*;
    use crate::audit::Body;

    fn text(run: impl FnOnce(&mut dyn Write) -> anyhow::Result<u8>) -> (u8, String) {
        let mut out = Vec::new();
        let code = run(&mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn shows_and_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(&dir.path().join("s"));
        assert!(text(|out| show(&journal, None, Format::Table, out)).1.starts_with("nothing was changed yet"));
        assert_eq!(text(|out| verify(&journal, out)).0, 0);
        for i in 0..3 {
            journal.append(Body::new(Kind::Note, format!("note {i}\x1b[31m")), &Redactor::default()).unwrap();
        }
        let (_, shown) = text(|out| show(&journal, Some(2), Format::Table, out));
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.contains("#3 ") && shown.contains("note  note 1\\u{1b}[31m  (uid "), "{shown}");
        let (_, json) = text(|out| show(&journal, None, Format::Json, out));
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&json).unwrap().len(), 3);
        let (code, said) = text(|out| verify(&journal, out));
        assert_eq!((code, said.ends_with("3 entries, the chain holds\n")), (0, true), "{said}");
        let edited = std::fs::read_to_string(journal.path()).unwrap().replace("note 1", "note 7");
        std::fs::write(journal.path(), edited).unwrap();
        let (code, said) = text(|out| verify(&journal, out));
        assert_eq!((code, said.lines().next().unwrap()), (2, "line 2: edited after it was written"));
    }
}
