//! The configuration: `raw` is what the file says, `valid` is what it means.
//!
//! The first file that is named or exists is used, alone: `--config FILE`, `$OPSCTL_CONFIG`, `/etc/opsctl/config.toml`,
//! `$XDG_CONFIG_HOME/opsctl/config.toml`. Without any, everything has its default. The folder `runbooks.d` beside it (without a file:
//! beside `/etc/opsctl/config.toml`) holds a team's own runbooks ([`site`]).
//!
//! For root every one of these files is root's alone, with the directories above it ([`trusted`]): a configuration names programs that
//! are run and files that are read and written. One of another user is refused; only the personal file below a HOME that `sudo` kept is
//! left out with a note.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

mod alert;
mod delivery;
mod dirs;
mod endpoint;
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

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use opsctl_core::probe::trusted::{self, TrustError};

pub use alert::Alert;
pub use delivery::{Delivery, Destination, Shape, When};
pub use dirs::{SYSTEM_CONFIG, Surroundings};
pub use endpoint::given as endpoint;
pub use listen::Listen;
pub use names::{did_you_mean, glob, nearest};
pub use parse::parse;
pub use print::{commented_defaults, effective};
pub use problem::{ConfigError, Problem, position};
pub use raw::Raw;
pub use schema::{config_schema, report_schema, runbook_schema};
pub use server::{Resolved, Server, fill};
pub use valid::{Config, Known, Policy, duration, known_code, length, validate};

/// Larger than any configuration a person writes, in bytes.
const LARGEST: u64 = 1 << 20;

/// How long the file system of a HOME that is another user's may take to tell whether a file exists.
const HOME_TIMEOUT: Duration = Duration::from_millis(500);

/// Which files may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Those that decide: this user's and root's.
    Applied,
    /// Any: it is only checked.
    Checked,
}

/// A configuration with the text it was read from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What the file says.
    pub raw: Raw,
    /// The file, empty when there is none.
    pub text: String,
}

impl Loaded {
    /// The configuration of a host without a file.
    #[must_use]
    pub fn defaults() -> Self {
        // the defaults are valid: a test holds that
        Self::without_file(&[]).unwrap_or_else(|_| unreachable!("the empty configuration is valid"))
    }

    fn without_file(site: &[&'static site::Own]) -> Result<Self, ConfigError> {
        let loaded = read_text(Path::new("defaults"), String::new(), &Known::default(), site)?;
        Ok(Self { config: Config { file: None, ..loaded.config }, ..loaded })
    }
}

/// Reads the configuration that applies: `named` is `--config`.
pub fn load(named: Option<&Path>, around: &Surroundings, known: &Known) -> Result<Loaded, ConfigError> {
    // a file somebody named must be there
    if let Some(path) = named.or(around.opsctl_config.as_deref()) {
        return read(path, known);
    }
    let absent = |kind: ErrorKind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory);
    match read(Path::new(SYSTEM_CONFIG), known) {
        Err(ConfigError::Read { source, .. }) if absent(source.kind()) => {}
        result => return result,
    }
    let mut note = None;
    if let Some(path) = around.user_config() {
        match read(&path, known) {
            // `sudo -u` keeps another user's HOME: a folder that is not ours holds no configuration of ours
            Err(ConfigError::Read { source, .. }) if absent(source.kind()) || source.kind() == ErrorKind::PermissionDenied => {}
            // `sudo` with a HOME that it kept
            Err(ConfigError::Untrusted { refusal, .. }) => note = foreign_home(&path, &refusal),
            result => return result,
        }
    }
    let mut loaded = Loaded::without_file(&site::load(&site::folder(Path::new(SYSTEM_CONFIG)), known)?)?;
    loaded.config.notes.extend(note);
    Ok(loaded)
}

/// The note about a personal configuration that is another user's; none when there is no such file.
fn foreign_home(path: &Path, refused: &TrustError) -> Option<String> {
    let file = path.to_owned();
    let exists = trusted::within(HOME_TIMEOUT, move || file.symlink_metadata().is_ok()).unwrap_or(true);
    exists.then(|| format!("the configuration {} is not used: {refused}", path.display()))
}

/// The reason why root would not use a file that is only checked; none when it would.
#[must_use]
pub fn distrust(path: &Path) -> Option<String> {
    trusted::open(path).err().filter(|e| matches!(e, TrustError::Refused { .. })).map(|e| e.to_string())
}

/// Reads one file that is only checked, whoever owns it, and the runbooks beside it.
pub fn check(path: &Path, known: &Known) -> Result<Loaded, ConfigError> {
    read_for(path, known, Use::Checked)
}

/// Reads one file, and the runbooks beside it.
pub fn read(path: &Path, known: &Known) -> Result<Loaded, ConfigError> {
    read_for(path, known, Use::Applied)
}

fn read_for(path: &Path, known: &Known, used: Use) -> Result<Loaded, ConfigError> {
    let text = text_of(path, used)?;
    let site = site::load_for(&site::folder(path), known, used);
    let read = read_text(path, text, known, site.as_ref().map_or(&[], Vec::as_slice));
    // what the file says about runbooks that could not be read is not held against it
    site.and(read)
}

/// A file as text.
fn text_of(path: &Path, used: Use) -> Result<String, ConfigError> {
    let read = if used == Use::Applied { trusted::read } else { trusted::read_untrusted };
    let not_text = |why: String| ConfigError::Unusable { path: path.to_owned(), why };
    let bytes = read(path, LARGEST).map_err(|e| match e {
        TrustError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge => {
            not_text("larger than 1 MiB, which no configuration is".to_owned())
        }
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

pub(crate) fn read_text(path: &Path, text: String, known: &Known, site: &[&'static site::Own]) -> Result<Loaded, ConfigError> {
    let known = known.with(site);
    let checked = parse(&text).and_then(|raw| validate(&raw, &known).map(|config| (raw, config)));
    match checked {
        Ok((raw, mut config)) => {
            config.file = Some(path.to_owned());
            // what the configuration says of owners comes first
            config.owners.extend(site.iter().filter_map(|own| Some((own.id.to_owned(), own.owner.clone()?))));
            config.site = site.to_vec();
            Ok(Loaded { config, raw, text })
        }
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}

#[cfg(test)]
mod tests;
