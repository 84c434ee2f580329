//! The configuration: `raw` is the content of the file, `valid` the validated values.
//!
//! Only the first of these files is used: `--config FILE`, `$OPSCTL_CONFIG`, `/etc/opsctl/config.toml`,
//! `$XDG_CONFIG_HOME/opsctl/config.toml`. Without a file, all values are defaults. The directory `runbooks.d` beside it (without a file:
//! beside `/etc/opsctl/config.toml`) contains site runbooks ([`site`]).
//!
//! For root, only root may be able to write these files and the directories above them ([`trusted`]): a configuration names programs that
//! are run and files that are read and written. Files of another user are rejected; only the personal file in a HOME kept by `sudo`, and
//! for other users a file of the host that only root can read, are skipped with a note.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

mod alert;
mod delivery;
mod dirs;
mod endpoint;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod listen;
mod names;
mod parse;
mod print;
mod problem;
mod raw;
mod schema;
mod server;
pub mod site;
mod valid;
pub mod waiver;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use opsctl_core::probe::io::trusted;
use opsctl_core::probe::io::trusted::TrustError;

pub use alert::Alert;
pub use delivery::{Delivery, Destination, Occasion, WebhookFormat};
pub use dirs::{ConfigEnvironment, SYSTEM_CONFIG};
pub use endpoint::from_argument as endpoint;
pub use listen::Listen;
pub use names::{did_you_mean, glob, nearest};
pub use parse::parse;
pub use print::{commented_defaults, effective};
pub use problem::{ConfigError, ValidationError, position};
pub use raw::Raw;
pub use schema::{config_schema, config_schema_in_force, report_schema, runbook_schema};
pub use server::{Resolved, Server, fill};
pub use valid::{Config, KnownNames, Policy, duration, known_code, length, validate};

/// Limit of a configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Time limit of checking whether a file exists, possibly in the HOME of another user.
const EXISTS_TIMEOUT: Duration = Duration::from_millis(500);

/// Use of a file, which determines the ownership checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Its values apply: it must belong to this user or root.
    Applied,
    /// It is only validated: any owner.
    Checked,
}

/// A configuration with its source text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Validated values.
    pub config: Config,
    /// Content of the file.
    pub raw: Raw,
    /// Text of the file; empty without a file.
    pub text: String,
}

impl Loaded {
    /// The configuration of a host without a file.
    #[must_use]
    pub fn defaults() -> Self {
        // the defaults are valid, as a test verifies
        Self::without_file(&[]).unwrap_or_else(|_| unreachable!("the empty configuration is valid"))
    }

    fn without_file(site: &[&'static site::SiteRunbook]) -> Result<Self, ConfigError> {
        let loaded = read_text(Path::new("defaults"), String::new(), &KnownNames::default(), site)?;
        Ok(Self { config: Config { file: None, ..loaded.config }, ..loaded })
    }
}

/// Loads the configuration: `named` is `--config`.
pub fn load(named: Option<&Path>, environment: &ConfigEnvironment, known: &KnownNames) -> Result<Loaded, ConfigError> {
    // an explicitly named file must exist
    if let Some(path) = named.or(environment.opsctl_config.as_deref()) {
        return read(path, known);
    }
    let absent = |kind: ErrorKind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory);
    let denied = |kind: ErrorKind| kind == ErrorKind::PermissionDenied && !environment.root;
    let system = Path::new(SYSTEM_CONFIG);
    let mut note = None;
    match read(system, known) {
        Err(ConfigError::Read { source, .. }) if absent(source.kind()) => {}
        // in a user namespace `/` belongs to a user outside of it; without a file nothing has to be trusted
        Err(ConfigError::Untrusted { .. }) if !exists(system) => {}
        // the package makes it readable by root only
        Err(ConfigError::Read { source, .. }) if denied(source.kind()) => note = Some(unreadable_note(system)),
        result => return result,
    }
    if let Some(path) = environment.user_config() {
        match read(&path, known) {
            // `sudo -u` keeps the HOME of another user: its configuration does not apply to this user
            Err(ConfigError::Read { source, .. }) if absent(source.kind()) || source.kind() == ErrorKind::PermissionDenied => {}
            // `sudo` with the HOME of another user
            Err(ConfigError::Untrusted { refusal, .. }) => note = foreign_home(&path, &refusal).or(note),
            Ok(mut loaded) => {
                loaded.config.notes.extend(note);
                return Ok(loaded);
            }
            result => return result,
        }
    }
    let directory = site::directory(system);
    let site = match site::load(&directory, known) {
        Err(ConfigError::Untrusted { .. }) if !exists(&directory) => Vec::new(),
        Err(ConfigError::Read { source, .. }) if denied(source.kind()) => {
            note = note.or_else(|| Some(unreadable_note(&directory)));
            Vec::new()
        }
        result => result?,
    };
    let mut loaded = Loaded::without_file(&site)?;
    loaded.config.notes.extend(note);
    Ok(loaded)
}

/// The note about a configuration of the host that only root can read.
fn unreadable_note(path: &Path) -> String {
    format!("the configuration {} is not used: permission denied; needs root", path.display())
}

/// Whether an entry of this name exists; true if that is unknown.
fn exists(path: &Path) -> bool {
    let path = path.to_owned();
    let found = trusted::within(EXISTS_TIMEOUT, move || path.symlink_metadata().map_err(|e| e.kind()));
    !matches!(found, Some(Err(ErrorKind::NotFound | ErrorKind::NotADirectory)))
}

/// The note about a personal configuration of another user, if it exists.
fn foreign_home(path: &Path, refused: &TrustError) -> Option<String> {
    exists(path).then(|| format!("the configuration {} is not used: {refused}", path.display()))
}

/// The reason why root would not use a file that is only validated, if any.
#[must_use]
pub fn distrust(path: &Path) -> Option<String> {
    trusted::open(path).err().filter(|e| matches!(e, TrustError::Refused { .. })).map(|e| e.to_string())
}

/// Reads one file for validation only, with any owner, and the runbooks beside it.
pub fn check(path: &Path, known: &KnownNames) -> Result<Loaded, ConfigError> {
    read_for(path, known, Use::Checked)
}

/// Reads one file, and the runbooks beside it.
pub fn read(path: &Path, known: &KnownNames) -> Result<Loaded, ConfigError> {
    read_for(path, known, Use::Applied)
}

fn read_for(path: &Path, known: &KnownNames, used: Use) -> Result<Loaded, ConfigError> {
    let text = text_of(path, used)?;
    let site = site::load_for(&site::directory(path), known, used);
    let read = read_text(path, text, known, site.as_ref().map_or(&[], Vec::as_slice));
    // errors of the file that refer to unreadable runbooks are not reported
    site.and(read)
}

/// A file as text.
fn text_of(path: &Path, used: Use) -> Result<String, ConfigError> {
    let read = if used == Use::Applied { trusted::read } else { trusted::read_untrusted };
    let not_text = |why: String| ConfigError::Unusable { path: path.to_owned(), why };
    let bytes = read(path, MAX_CONFIG_BYTES).map_err(|e| match e {
        TrustError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge => not_text("larger than 1 MiB".to_owned()),
        e => unreadable(path, e),
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        not_text(format!("line {line} is not UTF-8 text"))
    })
}

/// A file or directory that cannot or must not be read.
fn unreadable(path: &Path, error: TrustError) -> ConfigError {
    let path = path.to_owned();
    match error {
        TrustError::Io { source, .. } => ConfigError::Read { path, source },
        refusal @ TrustError::Refused { .. } => ConfigError::Untrusted { path, refusal },
    }
}

pub(crate) fn read_text(
    path: &Path,
    text: String,
    known: &KnownNames,
    site: &[&'static site::SiteRunbook],
) -> Result<Loaded, ConfigError> {
    let known = known.with(site);
    let checked = parse(&text).and_then(|raw| validate(&raw, &known).map(|config| (raw, config)));
    match checked {
        Ok((raw, mut config)) => {
            config.file = Some(path.to_owned());
            // owners of the configuration take precedence
            config.owners.extend(site.iter().filter_map(|own| Some((own.id.to_owned(), own.owner.clone()?))));
            config.site = site.to_vec();
            Ok(Loaded { config, raw, text })
        }
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}

#[cfg(test)]
mod tests;
