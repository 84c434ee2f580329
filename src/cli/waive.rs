//! `opsctl waive`: silences a finding until a given time.

use std::io::Write as _;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{printable, quantity};
use opsctl_core::probe::io::clock;

use super::exit::{self, UsageError};
use super::{Global, run};
use crate::audit::Author;
use crate::config::{ConfigEnvironment, KnownNames, known_code};
use crate::waive::{self, Tag, Waiver, Which, Window};

/// Silence a finding until a given time; without arguments: list the waivers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Findings: CODE or CODE@SUBJECT, for example disk.space@/var or 'container.*@web*'
    #[arg(value_name = "CODE[@SUBJECT]", requires = "when")]
    which: Option<String>,
    /// Duration, for example 2h, 3d or 1w
    #[arg(long = "for", value_name = "TIME", group = "when", value_parser = crate::config::length)]
    length: Option<SignedDuration>,
    /// End, for example 2026-12-01T04:00:00Z
    #[arg(long, value_name = "MOMENT", group = "when")]
    until: Option<Timestamp>,
    /// Start, for planned maintenance; default: now
    #[arg(long, value_name = "MOMENT", requires = "which")]
    from: Option<Timestamp>,
    /// Reason, shown in reports
    #[arg(long, value_name = "TEXT", requires = "which")]
    reason: Option<String>,
    /// Kind of waiver
    #[arg(long, value_name = "TAG", default_value = "known-issue")]
    tag: Tag,
    /// Remove waivers
    #[arg(long, group = "when", requires = "which")]
    remove: bool,
}

/// Root's directory without a configuration.
const ROOT_STATE: &str = "/var/lib/opsctl";

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let config = run::load(global)?;
    let state_dir = crate::diagnosis::state_dir(&config);
    let now = clock::now();
    let mut out = std::io::stdout();
    let Some(which) = &args.which else {
        let all = [config.waivers.clone(), waive::load(&state_dir)?].concat();
        list(&all, now, &mut out)?;
        write_note(&state_dir, &mut out)?;
        return Ok(exit::OK);
    };
    let which = Which::from(which.clone());
    if args.remove {
        let removed = waive::change(&state_dir, |all| {
            let before = all.len();
            all.retain(|w| w.which != which);
            before - all.len()
        })?;
        if removed == 0 {
            let configured = config.waivers.iter().any(|w| w.which == which);
            let hint = if configured { "; it is set in the configuration" } else { "; `opsctl waive` lists the waivers" };
            return Err(UsageError(format!("there is no waiver `{which}`{hint}")).into());
        }
        writeln!(out, "the waiver {which} was removed")?;
        return Ok(exit::OK);
    }
    known_code(&which.code, &KnownNames::registry().with(&config.site)).map_err(UsageError)?;
    let from = args.from.unwrap_or(now);
    let until = match (args.until, args.length) {
        (Some(until), _) => until,
        (None, Some(length)) => {
            from.checked_add(length).map_err(|_| UsageError("the end is too far in the future".to_owned()))?
        }
        (None, None) => return Err(UsageError("no end: use --for 2h or --until 2026-12-01T04:00:00Z".to_owned()).into()),
    };
    if until <= from || until <= now {
        return Err(UsageError(format!("it ends at {}, before its start", quantity::minute(until))).into());
    }
    let reason = args.reason.clone().unwrap_or_default();
    if reason.trim().is_empty() {
        return Err(UsageError("--reason is empty; it is shown in reports".to_owned()).into());
    }
    let waiver = Waiver {
        which: which.clone(),
        window: Window::Once { from, until },
        tag: args.tag,
        reason,
        by: Author::of_process().to_string(),
    };
    waive::change(&state_dir, |all| {
        // waivers that expired long ago are dropped
        all.retain(|w| w.window.ended(now).is_none_or(|end| now.duration_since(end) < SignedDuration::from_hours(90 * 24)));
        all.retain(|w| w.which != which || w.window.holds(now) != (from <= now));
        all.push(waiver.clone());
    })?;
    writeln!(out, "{which} is waived {}: {}", waiver.window, printable(&waiver.reason))?;
    write_note(&state_dir, &mut out)?;
    Ok(exit::OK)
}

/// Waivers of an ordinary user are in a directory of that user, which root does not read.
fn write_note(state_dir: &Path, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    note(state_dir, ConfigEnvironment::of_process().root).map_or(Ok(()), |note| writeln!(out, "{note}"))
}

fn note(state_dir: &Path, root: bool) -> Option<String> {
    let is_own = !root && state_dir != Path::new(ROOT_STATE);
    is_own.then(|| {
        format!(
            "waivers in {} count in reports of this user only; those in reports of root and of its timers: `sudo opsctl waive`",
            printable(&state_dir.display().to_string())
        )
    })
}

fn list(all: &[Waiver], now: Timestamp, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    if all.is_empty() {
        writeln!(out, "no waivers")?;
    }
    for waiver in all {
        let state = match waiver.window.ended(now) {
            Some(end) => format!("expired {} ago", quantity::duration(now.duration_since(end))),
            None if waiver.window.holds(now) => "in force".to_owned(),
            None => "planned".to_owned(),
        };
        writeln!(out, "{}  {state}  {}", printable(&waiver.which.to_string()), waiver.window)?;
        writeln!(out, "    {}: {} ({})", waiver.tag.words(), printable(&waiver.reason), printable(&waiver.by))?;
    }
    Ok(())
}
