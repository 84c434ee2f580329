//! A team's own runbooks: `runbooks.d/*.toml` beside the configuration. `raw` is what a file says, `valid` what it means; what
//! looks and judges is `crate::site`.

mod argv;
mod causes;
mod look;
mod page;
pub(super) mod raw;
#[cfg(test)]
mod tests;
mod valid;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opsctl_core::model::{CheckSpec, Link, Severity, Unit};

pub use causes::TAKEN;
pub use look::{Exit, Look, Source};

use super::parse::parse_as;
use super::problem::{ConfigError, Problem};
use super::schema::runbook_schema;
use super::valid::Known;
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
    let reading = |source| ConfigError::Read { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Site::new()),
        Err(e) => return Err(reading(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(reading)?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e == "toml") && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    read(&paths, known, true)
}

/// Reads these files as if they were a folder; whose they are is asked where they are used.
pub fn files(paths: &[PathBuf], known: &Known) -> Result<Site, ConfigError> {
    read(paths, known, false)
}

fn read(paths: &[PathBuf], known: &Known, used: bool) -> Result<Site, ConfigError> {
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

fn one(path: &Path, used: bool) -> Result<Read, ConfigError> {
    let text = super::text_of(path)?;
    match parse_as::<File>(&text, &runbook_schema()) {
        Ok(file) => {
            let runs = file.check.iter().any(|c| c.command.is_some() || c.fix.is_some());
            if used && runs && rustix::process::geteuid().is_root() {
                nobody_else(path)?;
            }
            Ok(Read { path: path.to_owned(), text, file })
        }
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}

/// What root runs must be root's to say: whoever can write the file, or put another one in its place, would be root.
fn nobody_else(path: &Path) -> Result<(), ConfigError> {
    for place in [path, path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))] {
        let meta = std::fs::metadata(place).map_err(|source| ConfigError::Read { path: place.to_owned(), source })?;
        let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        let why = if meta.uid() != 0 {
            format!("belongs to user {}", meta.uid())
        } else if meta.mode() & 0o022 != 0 && !sticky {
            format!("can be written by others (mode {:o})", meta.mode() & 0o7777)
        } else {
            continue;
        };
        return Err(ConfigError::Unusable {
            path: path.to_owned(),
            why: format!("it says what root runs, and {} {why}: chown root and chmod go-w", place.display()),
        });
    }
    Ok(())
}
