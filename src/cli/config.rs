//! `opsctl config`: write, check and show the configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use opsctl_core::model::{printable, quantity};
use opsctl_core::probe::Redactor;

use super::exit;
use crate::config::{self, ConfigEnvironment, ConfigError, KnownNames};
use crate::output::{self, Access};

/// Write, check and show the configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Subcommand
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a commented file with all keys and their defaults
    Init {
        /// File to write; `-` for standard output. Default: the file that opsctl reads
        file: Option<PathBuf>,
        /// Replace a file that exists
        #[arg(long)]
        force: bool,
    },
    /// Validate a file and the runbooks beside it (exit code 78 if they are invalid)
    Check {
        /// File to validate; also a file in runbooks.d. Default: the file that opsctl reads
        file: Option<PathBuf>,
    },
    /// Show the effective values and the line that set each of them
    Show,
    /// Print the JSON Schema of the configuration
    Schema {
        /// Print the JSON Schema of the report instead
        #[arg(long, conflicts_with = "runbook")]
        report: bool,
        /// Print the JSON Schema of a site runbook (`runbooks.d/*.toml`) instead
        #[arg(long)]
        runbook: bool,
    },
}

/// Runs the subcommand; `named` is `--config`.
pub fn exec(args: &Args, named: Option<&Path>) -> anyhow::Result<u8> {
    let environment = ConfigEnvironment::of_process();
    let mut out = std::io::stdout().lock();
    match &args.command {
        Command::Init { file, force } => {
            let path = file.clone().or_else(|| named.map(Path::to_owned)).unwrap_or_else(|| environment.default_config());
            if path == Path::new("-") {
                out.write_all(config::commented_defaults().as_bytes())?;
                return Ok(0);
            }
            if !write_new(&path, &config::commented_defaults(), *force)? {
                print_error(&format!("{} exists; --force replaces it", path.display()))?;
                return Ok(exit::USAGE);
            }
            writeln!(out, "wrote {}", path.display())?;
        }
        Command::Check { file: Some(path) } if path.parent().and_then(Path::file_name).is_some_and(|n| n == "runbooks.d") => {
            match config::site::files(std::slice::from_ref(path), &KnownNames::registry()) {
                Ok(site) => site.iter().try_for_each(|own| writeln!(out, "{}", valid_line(own)))?,
                Err(e) => {
                    print_error(&e.to_string())?;
                    return Ok(exit::CONFIG);
                }
            }
        }
        Command::Check { file } => {
            match file.as_deref().map_or_else(|| load(named, &environment), |path| config::check(path, &KnownNames::registry())) {
                Ok(loaded) => {
                    match &loaded.config.file {
                        Some(path) => writeln!(out, "{}: ok", path.display())?,
                        None => writeln!(out, "no configuration file; all values are defaults")?,
                    }
                    let refused = file
                        .as_deref()
                        .and_then(|path| Some(format!("{} would not be used: {}", path.display(), config::distrust(path)?)));
                    refused.iter().chain(&loaded.config.notes).try_for_each(|note| print_error(&format!("note: {note}")))?;
                    loaded.config.site.iter().try_for_each(|own| writeln!(out, "{}", valid_line(own)))?;
                }
                Err(e) => {
                    print_error(&e.to_string())?;
                    return Ok(exit::CONFIG);
                }
            }
        }
        Command::Show => {
            let loaded = load(named, &environment)?;
            match &loaded.config.file {
                Some(path) => writeln!(out, "# from {}", path.display())?,
                None => writeln!(out, "# no configuration file; all values are defaults")?,
            }
            loaded.config.notes.iter().try_for_each(|note| writeln!(out, "# {}", printable(note)))?;
            out.write_all(Redactor::default().scrub(&config::effective(&loaded.raw, &loaded.text)).as_bytes())?;
        }
        Command::Schema { report, runbook } => {
            let schema = match (report, runbook) {
                (true, _) => config::report_schema(),
                (_, true) => config::runbook_schema(),
                // an invalid file is edited with the help of the schema
                _ => load(named, &environment)
                    .map_or_else(|_| config::config_schema(), |loaded| config::config_schema_in_force(&loaded.config.runbooks)),
            };
            writeln!(out, "{schema:#}")?;
        }
    }
    Ok(0)
}

fn load(named: Option<&Path>, environment: &ConfigEnvironment) -> Result<config::Loaded, ConfigError> {
    config::load(named, environment, &KnownNames::registry())
}

/// The line for a valid site runbook.
fn valid_line(own: &config::site::SiteRunbook) -> String {
    format!("{}: ok, {} with {}", own.file.display(), own.id, quantity::count(own.checks.len(), "check"))
}

fn print_error(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stderr().lock(), "{text}")
}

/// Writes the file with mode 0600, as it may contain passwords. False if it exists and `force` is not set.
fn write_new(path: &Path, text: &str, force: bool) -> anyhow::Result<bool> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        output::create_directories(dir, 0o755).with_context(|| format!("creating {}", dir.display()))?;
    }
    let bytes = text.as_bytes().to_vec();
    let written = if force {
        output::write(path, bytes, Access::Private).map(|()| true)
    } else {
        output::write_new(path, bytes, Access::Private)
    };
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn existing_file_is_kept_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.toml");
        assert!(write_new(&path, "a", false).unwrap());
        assert!(!write_new(&path, "b", false).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a");
        assert!(write_new(&path, "c", true).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
