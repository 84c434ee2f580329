//! A team's own runbooks: `runbooks.d/*.toml` beside the configuration. `raw` is what a file says, `valid` what it means; what
//! looks and judges is `crate::site`.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

mod argv;
mod causes;
mod look;
mod page;
pub(super) mod raw;
#[cfg(test)]
mod tests;
mod valid;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opsctl_core::model::{CheckSpec, Link, Severity, Unit};
use opsctl_core::probe::trusted::{self, TrustError};

pub use causes::TAKEN;
pub use look::{Exit, Look, Source};

use super::parse::parse_as;
use super::problem::{ConfigError, Problem};
use super::schema::runbook_schema;
use super::valid::Known;
use super::{Use, unreadable};
use raw::File;

/// All runbooks of a team, in the order of their files. Loaded once per process and kept until its end: what a built-in runbook
/// says of itself is `'static`, and these are the same to all that follows.
pub type Site = Vec<&'static Own>;

/// One runbook.
#[derive(Debug, PartialEq)]
pub struct Own {
    /// Its name: subcommand and prefix of its codes.
    pub id: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// Its page, as a built-in runbook has one.
    pub doc: &'static str,
    /// The file it is written in.
    pub file: PathBuf,
    /// Who owns it.
    pub owner: Option<String>,
    /// Its checks.
    pub checks: Vec<OwnCheck>,
    /// What may cause what it finds.
    pub links: &'static [&'static [Link]],
}

/// One check.
#[derive(Debug, PartialEq)]
pub struct OwnCheck {
    /// The runbook.
    pub runbook: &'static str,
    /// What it is. It has one code, of the same name.
    pub spec: &'static CheckSpec,
    /// What is looked at, and what is right.
    pub look: Look,
    /// How bad it is that it fails.
    pub severity: Severity,
    /// Limits of its number.
    pub limits: Limits,
    /// What its number counts.
    pub unit: Unit,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Findings that cause it: code and name of the subject.
    pub causes: Vec<(String, String)>,
    /// What helps.
    pub fix: Option<OwnFix>,
}

/// From where on a number is too much or too little.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// A larger one is a warning.
    pub warn_above: Option<f64>,
    /// A larger one is critical.
    pub crit_above: Option<f64>,
    /// A smaller one is a warning.
    pub warn_below: Option<f64>,
    /// A smaller one is critical.
    pub crit_below: Option<f64>,
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.warn_above.or(self.crit_above).or(self.warn_below).or(self.crit_below).is_some()
    }
}

/// A fix in argv form.
#[derive(Debug, PartialEq)]
pub struct OwnFix {
    /// Name of the program and its arguments.
    pub argv: Vec<String>,
    /// What takes it back; empty when nothing does.
    pub undo: Vec<String>,
    /// Where both are run.
    pub cwd: Option<String>,
    /// How long the object is interrupted, for people.
    pub downtime: String,
    /// Who else feels it.
    pub affects: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// How long to wait for the check to be well again.
    pub verify_within: Duration,
}

/// A file that could be read.
struct Read {
    path: PathBuf,
    text: String,
    file: File,
}

impl Read {
    fn invalid(self, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by_key(|p| p.span.start);
        ConfigError::Invalid { path: self.path, text: self.text, problems }
    }
}

/// Where the runbooks that go with a configuration file are.
#[must_use]
pub fn folder(config: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join("runbooks.d")
}

/// Reads all files of a folder that end in `.toml`, in the order of their names; a folder that is not there holds none. The error
/// tells everything that is wrong with any of them.
pub fn load(folder: &Path, known: &Known) -> Result<Site, ConfigError> {
    load_for(folder, known, Use::Applied)
}

pub(super) fn load_for(folder: &Path, known: &Known, used: Use) -> Result<Site, ConfigError> {
    let names = match names(folder, used) {
        Ok(names) => names,
        Err(e) if e.is_absent() => return Ok(Site::new()),
        Err(e) => return Err(unreadable(folder, e)),
    };
    let hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".");
    let paths = names.into_iter().filter(|name| !hidden(name)).map(|name| folder.join(name));
    let paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    read(&paths, known, used)
}

/// The names of a folder, sorted.
fn names(folder: &Path, used: Use) -> Result<Vec<OsString>, TrustError> {
    if used == Use::Applied {
        return trusted::directory(folder)?.names();
    }
    let failed = |source| TrustError::Io { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut names = entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Reads these files as if they were a folder, whoever owns them: they are only checked.
pub fn files(paths: &[PathBuf], known: &Known) -> Result<Site, ConfigError> {
    read(paths, known, Use::Checked)
}

fn read(paths: &[PathBuf], known: &Known, used: Use) -> Result<Site, ConfigError> {
    let mut errors = Vec::new();
    let mut read = Vec::new();
    for path in paths {
        match one(path, used) {
            Ok(file) => read.push(file),
            Err(e) => errors.push(e),
        }
    }
    let mut names = causes::Names::new(known);
    let mut problems = names.learn(read.iter().map(|r| &r.file));
    let mut site = Site::new();
    for (file, wrong) in read.iter().zip(&mut problems) {
        match valid::validate(&file.file, &file.path, &names) {
            // kept until the process ends: see [`Site`]
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

fn one(path: &Path, used: Use) -> Result<Read, ConfigError> {
    let text = super::text_of(path, used)?;
    match parse_as::<File>(&text, &runbook_schema()) {
        Ok(file) => Ok(Read { path: path.to_owned(), text, file }),
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}
