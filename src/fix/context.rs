//! Paths and policy of a guard on this host.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Engine, FixOptions, Guard, NO_FIXES, Terminal};
use crate::config::{Config, ConfigEnvironment};

/// Policy, state directory and lock of this host.
pub struct GuardContext<'a> {
    config: &'a Config,
    state_dir: PathBuf,
    lock_file: PathBuf,
}

impl<'a> GuardContext<'a> {
    /// From the configuration and the environment of this process.
    #[must_use]
    pub fn of(config: &'a Config) -> Self {
        let environment = ConfigEnvironment::of_process();
        let state_dir = environment.state_dir(config.state_dir.as_deref());
        Self { config, lock_file: environment.lock_file(&state_dir), state_dir }
    }

    /// Directory of the journal and of saved files.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Creates a guard.
    pub fn guard<'g, E: Engine>(&'g self, engine: &'g E, options: FixOptions, out: &'g mut dyn Write) -> Guard<'g, E> {
        Guard {
            engine,
            policy: &self.config.policy,
            state_dir: &self.state_dir,
            lock_file: &self.lock_file,
            signing_key: self.config.signing_key.as_deref(),
            kill_switch: Path::new(NO_FIXES),
            options,
            person: &Terminal,
            out,
        }
    }
}
