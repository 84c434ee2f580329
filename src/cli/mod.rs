//! The command line: one file per subcommand, thin over the modules that do the work.

pub mod audit;
pub mod bootstrap;
pub mod changes;
pub mod config;
pub mod diagnose;
mod ending;
pub mod exit;
pub mod explain;
pub mod fix;
pub mod generate;
pub mod list;
pub mod listen;
pub mod note;
pub mod print;
pub mod progress;
pub mod record;
pub mod report;
pub mod respond;
pub mod run;
pub mod targets;
mod timings;
pub mod undo;
pub mod waive;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use opsctl_core::probe::panics;

use crate::config::ConfigError;
use crate::config::site::Site;
use crate::image;
use crate::render::{ColorChoice, nagios_error};
use crate::watchdog;

/// Diagnose this host, and fix faults safely
#[derive(Debug, Parser)]
#[command(
    name = "opsctl",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Every runbook is a subcommand of its own: `opsctl container web`. `opsctl list` shows them all.\n\n\
Exit codes: 0 ok, 1 warn, 2 crit, 3 unknown; 64 usage, 78 configuration. Of `opsctl fix`: 0 verified, 10 declined,\n\
11 changed since the plan, 12 failed, 13 not verified, 14 rate-limited or locked, 15 refused."
)]
pub struct Cli {
    /// Options of every command
    #[command(flatten)]
    pub global: Global,
    /// Subcommand
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When to use colour; `auto` is on a terminal and without NO_COLOR
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Only findings that need attention; no output if all checks are ok
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also informational findings and all evidence; twice: also the log of opsctl itself
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The subcommands that are not runbooks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check this host and name the finding that causes the others
    Diagnose(diagnose::Args),
    /// Wait for this host to start, check it, and apply fixes that interrupt nothing: for cloud-init and images
    Bootstrap(bootstrap::Args),
    /// List available fixes, or apply one after confirmation
    Fix(fix::Args),
    /// Revert a fix
    Undo(undo::Args),
    /// Show or verify the journal of everything opsctl changed
    ///
    /// Exit codes of `opsctl audit verify`: 0 the journal is intact, 2 it was tampered with, 3 it could not be compared with a head that was
    /// kept, or holds signatures of a key that is not known, 77 it cannot be read by this user.
    Audit(audit::Args),
    /// Explain a code, a runbook, a fix or an alert
    Explain(explain::Args),
    /// List runbooks, codes, fixes or alerts
    List(list::Args),
    /// For cron: new, open and resolved findings since the last report; no output without a change
    Report(report::Args),
    /// Diagnose an alert on this host: its runbooks, the root cause, earlier episodes
    Respond(respond::Args),
    /// Handle alerts of Alertmanager and Grafana over HTTP
    Listen(listen::Args),
    /// Silence a finding until a given time
    Waive(waive::Args),
    /// Show recent changes to this host: containers, units, packages, files, certificates, notes
    Changes(changes::Args),
    /// Record a change to this host, for example a deployment
    Note(note::Args),
    /// Show the discovered targets of this host and their sources
    Targets(targets::Args),
    /// Record all evidence, without secrets, to replay it elsewhere
    Record(record::Args),
    /// Write, check and show the configuration
    Config(config::Args),
    /// Write man pages or shell completions
    Generate(generate::Args),
}

/// The whole command line, runbooks included: parser, help, man pages and completions come from here.
#[must_use]
pub fn command() -> clap::Command {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    with_runbooks(Cli::command(), runbooks.iter().map(|r| (r.id, r.about)))
}

fn with_runbooks(cli: clap::Command, runbooks: impl Iterator<Item = (&'static str, &'static str)>) -> clap::Command {
    runbooks.fold(cli, |cli, (id, about)| {
        // the about line last: the arguments set one of their own
        let subcommand = run::RunbookArgs::augment_args(clap::Command::new(id));
        let aliases = run::ALIASES.iter().filter(|(_, name)| *name == id).map(|(alias, _)| *alias);
        cli.subcommand(subcommand.about(about).visible_aliases(aliases).display_order(100))
    })
}

/// Parses a command line. Help, man pages and completions contain the built-in runbooks only; any other word is looked up among the
/// site runbooks, for which the configuration is loaded.
fn parse(arguments: &[OsString]) -> Result<Result<(ArgMatches, Site), clap::Error>, ConfigError> {
    let error = match command().try_get_matches_from(arguments) {
        Ok(matches) => return Ok(Ok((matches, Site::new()))),
        Err(e) => e,
    };
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand).filter(|_| !arguments.is_empty()) else {
        return Ok(Err(error));
    };
    let after = |words: &[OsString]| words.first().filter(|w| *w == "--config").and_then(|_| words.get(1)).map(PathBuf::from);
    let joined = |w: &OsString| w.to_str()?.strip_prefix("--config=").map(PathBuf::from);
    let named = (0..arguments.len()).find_map(|i| after(&arguments[i..]).or_else(|| joined(&arguments[i])));
    let site = run::load_from(named.as_deref())?.site;
    if !site.iter().any(|own| own.id == word.as_str()) {
        return Ok(Err(error));
    }
    let command = with_runbooks(command(), site.iter().map(|own| (own.id, own.about)));
    Ok(command.try_get_matches_from(arguments).map(|matches| (matches, site)))
}

/// Runs a command line; the result is the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    panics::install_hook();
    if let Err(e) = watchdog::start() {
        let why = format!("no thread can be started ({e}): this host, or the control group of opsctl, has no room for one");
        return ending::not_started(&arguments, &why);
    }
    let plugin = is_plugin(&arguments);
    match panics::caught(|| run(&arguments, plugin)) {
        Ok(code) => code,
        Err(e) if plugin => unknown(&e.to_string()),
        Err(e) => print_failure(&e.into()),
    }
}

fn run(arguments: &[OsString], plugin: bool) -> u8 {
    let limit = ending::of_start(arguments);
    let parsed = parse(arguments);
    drop(limit);
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(e) if plugin => return unknown(&e.to_string()),
        Err(e) => return print_failure(&e.into()),
    };
    let (matches, site) = match parsed {
        Ok(parsed) => parsed,
        Err(e) if e.use_stderr() && plugin => {
            let text = e.render().to_string();
            return unknown(text.trim_start_matches("error: ").trim_end());
        }
        Err(e) => {
            // help and version are not errors and go to stdout; neither is a closed pipe
            let _ = e.print();
            return if e.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    match dispatch(&matches, &site) {
        Ok(code) => code,
        Err(e) if plugin => unknown(&format!("{e:#}")),
        Err(e) => print_failure(&e),
    }
}

/// Whether a monitoring system reads the output: errors are then printed in plugin format, also those of an invalid command line.
fn is_plugin(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().take_while(|a| *a != "--").filter_map(|a| a.to_str()).collect();
    let pair = |option: &str, value: &str| words.windows(2).any(|w| w == [option, value]);
    pair("--format", "nagios")
        || pair("--output", "nagios=-")
        || words.iter().any(|w| matches!(*w, "--format=nagios" | "--output=nagios=-"))
}

/// An error as the output of a plugin.
fn unknown(error: &str) -> u8 {
    let _ = watchdog::print(&nagios_error(error));
    exit::UNKNOWN
}

/// With `-vv`: debug log on stderr.
fn init_tracing(verbose: u8) {
    if verbose >= 2 {
        // a second call in one process keeps the first subscriber
        let _ = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::DEBUG).try_init();
    }
}

fn dispatch(matches: &ArgMatches, site: &Site) -> anyhow::Result<u8> {
    if let Some((name, sub)) = matches.subcommand() {
        let fix = sub.try_get_one::<bool>("fix").ok().flatten().copied().unwrap_or_default();
        if let Some(why) = image::refusal(name, fix) {
            return Err(exit::UsageError(why).into());
        }
    }
    let is_runbook = |name: &str| opsctl_runbooks::NAMES.contains(&name) || site.iter().any(|own| own.id == name);
    if let Some((runbook, sub)) = matches.subcommand().filter(|(name, _)| is_runbook(name)) {
        let global = Global::from_arg_matches(sub)?;
        let args = run::RunbookArgs::from_arg_matches(sub)?;
        return run::exec(runbook, &args, &global);
    }
    let Cli { global, command } = Cli::from_arg_matches(matches)?;
    match command {
        Command::Diagnose(args) => diagnose::exec(&args, &global),
        Command::Bootstrap(args) => bootstrap::exec(&args, &global),
        Command::Fix(args) => fix::exec(&args, &global),
        Command::Undo(args) => undo::exec(&args, &global),
        Command::Audit(args) => audit::exec(&args, &run::load(&global)?),
        Command::Explain(args) => explain::exec(&args, &global),
        Command::List(args) => list::exec(&args, &global),
        Command::Targets(args) => targets::exec(&args, &global),
        Command::Generate(args) => generate::exec(&args),
        Command::Report(args) => report::exec(&args, &global),
        Command::Respond(args) => respond::exec(&args, &global),
        Command::Listen(args) => listen::exec(&args, &global),
        Command::Waive(args) => waive::exec(&args, &global),
        Command::Changes(args) => changes::exec(&args, &global),
        Command::Note(args) => note::exec(&args, &global),
        Command::Record(args) => record::exec(&args, &global),
        Command::Config(args) => config::exec(&args, global.config.as_deref()),
    }
}

/// Prints the error of a command and maps it to an exit code.
fn print_failure(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        // `opsctl … | head` is no failure
        return exit::OK;
    }
    let _ = writeln!(io::stderr().lock(), "opsctl: {error:#}");
    if error.downcast_ref::<ConfigError>().is_some() {
        exit::CONFIG
    } else if error.downcast_ref::<exit::UsageError>().is_some() {
        exit::USAGE
    } else if error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)) {
        exit::NO_PERMISSION
    } else {
        exit::SOFTWARE
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_definition_is_valid() {
        super::command().debug_assert();
    }

    #[test]
    fn custom_runbook_cannot_hide_a_command() {
        let command = super::command();
        let is_reserved =
            |name: &str| crate::config::site::RESERVED_NAMES.contains(&name) || opsctl_runbooks::NAMES.contains(&name);
        for sub in command.get_subcommands() {
            assert!(is_reserved(sub.get_name()), "add {} to TAKEN", sub.get_name());
            assert!(sub.get_all_aliases().all(is_reserved), "add the aliases of {} to TAKEN", sub.get_name());
        }
    }

    #[test]
    fn plugin_mode_is_detected_in_the_command_line() {
        let is = |line: &str| super::is_plugin(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        for line in ["opsctl diagnose --format nagios", "opsctl --format=nagios nonsense", "opsctl disk --output nagios=-"] {
            assert!(is(line), "{line}");
        }
        for line in
            ["opsctl diagnose --format json nagios", "opsctl disk --output nagios=/tmp/x", "opsctl disk -- --format nagios"]
        {
            assert!(!is(line), "{line}");
        }
    }
}
