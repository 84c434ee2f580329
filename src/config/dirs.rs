//! Paths of the configuration and of the state directory.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Environment of the paths; read once, so that tests need not change their own environment.
#[derive(Debug, Clone, Default)]
pub struct ConfigEnvironment {
    /// Effective user is root.
    pub root: bool,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`.
    pub xdg_config: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state: Option<PathBuf>,
    /// `$OPSCTL_CONFIG`.
    pub opsctl_config: Option<PathBuf>,
    /// `$OPSCTL_STATE_DIR`.
    pub opsctl_state_dir: Option<PathBuf>,
}

impl ConfigEnvironment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let set = |name| env::var_os(name).filter(|v: &OsString| !v.is_empty()).map(PathBuf::from);
        // XDG base directory specification: relative paths are ignored
        let absolute = |name| set(name).filter(|p| p.is_absolute());
        Self {
            root: rustix::process::geteuid().is_root(),
            home: absolute("HOME"),
            xdg_config: absolute("XDG_CONFIG_HOME"),
            xdg_state: absolute("XDG_STATE_HOME"),
            opsctl_config: set("OPSCTL_CONFIG"),
            opsctl_state_dir: absolute("OPSCTL_STATE_DIR"),
        }
    }

    /// The configuration file of the user.
    #[must_use]
    pub fn user_config(&self) -> Option<PathBuf> {
        let base = self.xdg_config.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(base.join("opsctl/config.toml"))
    }

    /// Default path of `opsctl config init`.
    #[must_use]
    pub fn default_config(&self) -> PathBuf {
        if self.root { SYSTEM_CONFIG.into() } else { self.user_config().unwrap_or_else(|| SYSTEM_CONFIG.into()) }
    }

    /// Journal, history and saved files: `[paths] state_dir`, else `$OPSCTL_STATE_DIR`, else the default of this user.
    #[must_use]
    pub fn state_dir(&self, configured: Option<&Path>) -> PathBuf {
        if let Some(dir) = configured.or(self.opsctl_state_dir.as_deref()) {
            return dir.to_owned();
        }
        if self.root {
            return "/var/lib/opsctl".into();
        }
        let base = self.xdg_state.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        base.map_or_else(|| "/var/lib/opsctl".into(), |b| b.join("opsctl"))
    }

    /// The lock against concurrent changes to this host.
    #[must_use]
    pub fn lock_file(&self, state_dir: &Path) -> PathBuf {
        // tests run concurrently; a release build has one lock per host
        #[cfg(debug_assertions)]
        if let Some(path) = env::var_os("OPSCTL_LOCK_FILE") {
            return path.into();
        }
        if self.root { "/run/opsctl.lock".into() } else { state_dir.join("lock") }
    }
}

/// The administrator's configuration file.
pub const SYSTEM_CONFIG: &str = "/etc/opsctl/config.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_directory_per_user() {
        let root = ConfigEnvironment { root: true, home: Some("/root".into()), ..Default::default() };
        assert_eq!(root.state_dir(None), Path::new("/var/lib/opsctl"));
        assert_eq!(root.state_dir(Some(Path::new("/srv/o"))), Path::new("/srv/o"));
        let user = ConfigEnvironment { home: Some("/home/a".into()), ..Default::default() };
        assert_eq!(user.state_dir(None), Path::new("/home/a/.local/state/opsctl"));
        assert_eq!(user.default_config(), Path::new("/home/a/.config/opsctl/config.toml"));
        let xdg = ConfigEnvironment { xdg_state: Some("/s".into()), opsctl_state_dir: None, ..user.clone() };
        assert_eq!(xdg.state_dir(None), Path::new("/s/opsctl"));
        let configured = ConfigEnvironment { opsctl_state_dir: Some("/t".into()), ..xdg };
        assert_eq!(configured.state_dir(None), Path::new("/t"));
    }
}
