//! Site runbooks: `runbooks.d/*.toml` beside the configuration. `raw` is the content of a file, `valid` the validated values;
//! `crate::site` probes and judges.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

mod argv;
mod causes;
mod documentation;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod probe;
pub(super) mod raw;
#[cfg(test)]
mod tests;
mod valid;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opsctl_core::model::{CheckSpec, Limits, Link, Severity, Unit};
use opsctl_core::probe::io::trusted;
use opsctl_core::probe::io::trusted::TrustError;

pub use causes::RESERVED_NAMES;
pub use probe::{Exit, SiteProbe, Source};

use super::parse::parse_as;
use super::problem::{ConfigError, ValidationError};
use super::schema::runbook_schema;
use super::valid::KnownNames;
use super::{Use, unreadable};
use raw::File;

/// All site runbooks, in the order of their files. Loaded once per process and never freed: the texts of built-in runbooks are
/// `'static`, and site runbooks are used in the same way.
pub type Site = Vec<&'static SiteRunbook>;

/// One runbook.
#[derive(Debug, PartialEq)]
pub struct SiteRunbook {
    /// Name: subcommand and prefix of its codes.
    pub id: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// Its documentation, in the form of `RUNBOOK.md`.
    pub doc: &'static str,
    /// Its file.
    pub file: PathBuf,
    /// Its owner.
    pub owner: Option<String>,
    /// Its checks.
    pub checks: Vec<SiteCheck>,
    /// Possible causes of its findings.
    pub links: &'static [&'static [Link]],
}

/// One check.
#[derive(Debug, PartialEq)]
pub struct SiteCheck {
    /// The runbook.
    pub runbook: &'static str,
    /// Specification with one code of the same name.
    pub spec: &'static CheckSpec,
    /// Probe and expected result.
    pub probe: SiteProbe,
    /// Severity of a failure.
    pub severity: Severity,
    /// Limits of its number.
    pub limits: Bounds,
    /// Unit of its number.
    pub unit: Unit,
    /// Time limit of the probe.
    pub timeout: Duration,
    /// Findings that cause it: code and name of the subject.
    pub causes: Vec<(String, String)>,
    /// Fix.
    pub fix: Option<SiteFix>,
}

/// Upper and lower limits of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Exceeded by larger numbers.
    pub upper: Limits,
    /// Exceeded by smaller numbers.
    pub lower: Limits,
}

impl Bounds {
    /// Whether any limit is set.
    #[must_use]
    pub fn any(&self) -> bool {
        self.upper.is_set() || self.lower.is_set()
    }

    /// The severity of a number, and the limit it exceeds; the upper limits come first.
    #[must_use]
    pub fn exceeded(&self, value: f64) -> Option<(Severity, f64)> {
        let both = [self.upper.exceeded(value), self.lower.exceeded(value)];
        both.into_iter().flatten().reduce(|worst, one| if one.0 > worst.0 { one } else { worst })
    }

    /// The limits for plots, which show one side: the upper ones if set.
    #[must_use]
    pub fn shown(&self) -> Limits {
        if self.upper.is_set() { self.upper } else { self.lower }
    }
}

/// A fix in argv form.
#[derive(Debug, PartialEq)]
pub struct SiteFix {
    /// Name of the program and its arguments.
    pub argv: Vec<String>,
    /// Command that reverts it; empty if it cannot be reverted.
    pub undo: Vec<String>,
    /// Working directory of both.
    pub cwd: Option<String>,
    /// Duration of the interruption, as text.
    pub downtime: String,
    /// Other affected objects.
    pub affects: Vec<String>,
    /// Time limit.
    pub timeout: Duration,
    /// Time to wait for the check to pass.
    pub verify_within: Duration,
}

/// A file that could be read.
struct ParsedFile {
    path: PathBuf,
    text: String,
    file: File,
}

impl ParsedFile {
    fn invalid(self, mut problems: Vec<ValidationError>) -> ConfigError {
        problems.sort_by_key(|p| p.span.start);
        ConfigError::Invalid { path: self.path, text: self.text, problems }
    }
}

/// The directory of the runbooks of a configuration file.
#[must_use]
pub fn directory(config: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join("runbooks.d")
}

/// Reads all `.toml` files of a directory, in the order of their names; a missing directory contains none. The error lists the
/// problems of all files.
pub fn load(directory: &Path, known: &KnownNames) -> Result<Site, ConfigError> {
    load_for(directory, known, Use::Applied)
}

pub(super) fn load_for(directory: &Path, known: &KnownNames, used: Use) -> Result<Site, ConfigError> {
    let names = match names(directory, used) {
        Ok(names) => names,
        Err(e) if e.is_absent() => return Ok(Site::new()),
        Err(e) => return Err(unreadable(directory, e)),
    };
    let hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".");
    let paths = names.into_iter().filter(|name| !hidden(name)).map(|name| directory.join(name));
    let paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    read(&paths, known, used)
}

/// The names in a directory, sorted.
fn names(directory: &Path, used: Use) -> Result<Vec<OsString>, TrustError> {
    if used == Use::Applied {
        return trusted::directory(directory)?.names();
    }
    let failed = |source| TrustError::Io { path: directory.to_owned(), source };
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let mut names = entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Reads these files like those of a directory, with any owner: they are only validated.
pub fn files(paths: &[PathBuf], known: &KnownNames) -> Result<Site, ConfigError> {
    read(paths, known, Use::Checked)
}

fn read(paths: &[PathBuf], known: &KnownNames, used: Use) -> Result<Site, ConfigError> {
    let mut errors = Vec::new();
    let mut read = Vec::new();
    for path in paths {
        match parse_file(path, used) {
            Ok(file) => read.push(file),
            Err(e) => errors.push(e),
        }
    }
    let mut names = causes::Names::new(known);
    let mut problems = names.learn(read.iter().map(|r| &r.file));
    let mut site = Site::new();
    for (file, wrong) in read.iter().zip(&mut problems) {
        match valid::validate(&file.file, &file.path, &names) {
            // never freed: see [`Site`]
            Ok(own) => site.push(Box::leak(Box::new(own))),
            Err(more) => wrong.extend(more),
        }
    }
    let broken = read.into_iter().zip(problems).filter(|(_, wrong)| !wrong.is_empty());
    errors.extend(broken.map(|(file, wrong)| file.invalid(wrong)));
    match errors.len() {
        0 => Ok(site),
        1 => Err(errors.remove(0)),
        _ => Err(ConfigError::Several(errors)),
    }
}

fn parse_file(path: &Path, used: Use) -> Result<ParsedFile, ConfigError> {
    let text = super::text_of(path, used)?;
    match parse_as::<File>(&text, &runbook_schema()) {
        Ok(file) => Ok(ParsedFile { path: path.to_owned(), text, file }),
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}
