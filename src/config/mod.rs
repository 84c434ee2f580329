//! The configuration: `raw` is what the file says, `valid` is what it means.
//!
//! The first file that is named or exists is used, alone: `--config FILE`, `$OPSCTL_CONFIG`, `/etc/opsctl/config.toml`,
//! `$XDG_CONFIG_HOME/opsctl/config.toml`. Without any, everything has its default. The folder `runbooks.d` beside it (without a file:
//! beside `/etc/opsctl/config.toml`) holds a team's own runbooks ([`site`]).

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

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

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
    if let Some(path) = around.user_config() {
        match read(&path, known) {
            // `sudo -u` keeps another user's HOME: a folder that is not ours holds no configuration of ours
            Err(ConfigError::Read { source, .. }) if absent(source.kind()) || source.kind() == ErrorKind::PermissionDenied => {}
            result => return result,
        }
    }
    Loaded::without_file(&site::load(&site::folder(Path::new(SYSTEM_CONFIG)), known)?)
}

/// Reads one file, and the runbooks beside it.
pub fn read(path: &Path, known: &Known) -> Result<Loaded, ConfigError> {
    let text = text_of(path)?;
    let site = site::load(&site::folder(path), known);
    let read = read_text(path, text, known, site.as_ref().map_or(&[], Vec::as_slice));
    // what the file says about runbooks that could not be read is not held against it
    site.and(read)
}

/// A file as text.
fn text_of(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let not_text = |why: String| ConfigError::Unusable { path: path.to_owned(), why };
    if bytes.len() as u64 > LARGEST {
        return Err(not_text("larger than 1 MiB, which no configuration is".to_owned()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        not_text(format!("line {line} is not UTF-8 text"))
    })
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
