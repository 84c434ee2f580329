//! Faults of the prerequisites of a service, in words.

use opsctl_core::model::{Finding, KeyKind, quantity::bytes};
use opsctl_core::probe::systemd::{Unit, mount_unit};
use serde::{Deserialize, Serialize};

use super::decode;

/// Name of the data directory in texts.
pub(super) const DATA: &str = "data directory";

/// A fault of a prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Fault {
    /// A filesystem of fstab is not mounted.
    NotMounted {
        /// The prerequisite in it: `data directory`, `WorkingDirectory=`.
        of: String,
        /// Its path.
        path: String,
        /// The mountpoint.
        mountpoint: String,
    },
    /// A file or directory.
    Path {
        /// `EnvironmentFile=`, `data directory`.
        of: String,
        /// Its path.
        path: String,
        /// Its state.
        state: PathState,
    },
    /// A user or group does not exist.
    Account {
        /// `User=`, `Group=`.
        of: String,
        /// Its name.
        name: String,
    },
    /// A filesystem has no space left.
    NoSpace {
        /// Its content: `its data directory`.
        holds: String,
        /// The mountpoint.
        mountpoint: String,
        /// `major:minor`.
        dev: String,
        /// Space left in bytes; `None` if it has no inodes left.
        avail: Option<u64>,
    },
    /// A filesystem is mounted read-only.
    ReadOnly {
        /// Its content: `its data directory`.
        holds: String,
        /// The mountpoint.
        mountpoint: String,
        /// `major:minor`.
        dev: String,
    },
    /// The configuration is invalid.
    Configuration {
        /// The command that reports it.
        command: String,
        /// The error.
        error: String,
    },
}

/// State of a path that a service cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PathState {
    /// It does not exist.
    Missing,
    /// It is not a directory.
    NotADirectory,
    /// It is a directory, not a file.
    Directory,
    /// It is not the data directory of a PostgreSQL cluster: it has no file `PG_VERSION`.
    NoCluster,
}

impl Fault {
    /// The fault as a clause.
    pub(super) fn clause(&self) -> String {
        match self {
            Self::NotMounted { of, path, mountpoint } if path == mountpoint => {
                format!("{mountpoint} of fstab, its {of}, is not mounted")
            }
            Self::NotMounted { of, path, mountpoint } => {
                format!("{mountpoint} of fstab, which contains its {of} {path}, is not mounted")
            }
            Self::Path { of, path, state } => match state {
                PathState::Missing => format!("its {of} {path} does not exist"),
                PathState::NotADirectory => format!("its {of} {path} is not a directory"),
                PathState::Directory => format!("its {of} {path} is a directory"),
                PathState::NoCluster => format!("its {of} {path} has no PG_VERSION: it contains no database cluster"),
            },
            Self::Account { of, name } => format!("its {of} {name} does not exist"),
            Self::NoSpace { holds, mountpoint, avail: Some(avail), .. } => {
                format!("{mountpoint}, which contains {holds}, has {} left", bytes(*avail))
            }
            Self::NoSpace { holds, mountpoint, avail: None, .. } => {
                format!("{mountpoint}, which contains {holds}, has no inodes left")
            }
            Self::ReadOnly { holds, mountpoint, .. } => format!("{mountpoint}, which contains {holds}, is read-only"),
            Self::Configuration { command, error } => format!("`{command}` fails: {error}"),
        }
    }

    /// The step before a start.
    fn remedy(&self) -> &'static str {
        match self {
            Self::NotMounted { .. } => "mount it first",
            Self::Path { state: PathState::Missing | PathState::NoCluster, .. } => "restore it first",
            Self::Path { .. } | Self::Configuration { .. } => "correct it first",
            Self::Account { .. } => "create it first",
            Self::NoSpace { .. } => "free space first",
            Self::ReadOnly { .. } => "make it writable first",
        }
    }

    /// The reason why a start is refused.
    pub(super) fn refusal(&self) -> String {
        format!("{}: {}", self.clause(), self.remedy())
    }

    /// The next step; `fragment` is the unit file.
    pub(super) fn hint(&self, fragment: &str) -> String {
        match self {
            Self::NotMounted { mountpoint, .. } => {
                format!("`mount {mountpoint}`; do not start it before: it would write to the disk below the mountpoint")
            }
            Self::Path { of, path, .. } if of == DATA => {
                format!("mount or restore {path} first; do not initialize a new database in its place")
            }
            Self::Path { of, path, .. } => {
                format!("restore {path}, or correct {of} in {fragment}; a restart before that fails again")
            }
            Self::Account { of, name } => {
                format!("create {name}, or correct {of} in {fragment}; a restart before that fails again")
            }
            Self::NoSpace { mountpoint, .. } => {
                format!(
                    "free space on {mountpoint} first, and do not delete files of a database; a restart before that fails again"
                )
            }
            Self::ReadOnly { mountpoint, .. } => {
                format!("find the reason in `dmesg` and in the options of {mountpoint}; a restart before that fails again")
            }
            Self::Configuration { command, .. } => {
                format!("correct the error until `{command}` passes; a restart before that fails again")
            }
        }
    }

    /// The path that it concerns.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::NotMounted { path, .. } | Self::Path { path, .. } => Some(path),
            Self::NoSpace { mountpoint, .. } | Self::ReadOnly { mountpoint, .. } => Some(mountpoint),
            Self::Account { .. } | Self::Configuration { .. } => None,
        }
    }

    /// The mountpoint of a filesystem that is not mounted.
    pub(super) fn missing_mount(&self) -> Option<&str> {
        if let Self::NotMounted { mountpoint, .. } = self { Some(mountpoint) } else { None }
    }

    /// Whether it is the result of the last run: the suffix of its clause, `(217/USER)`.
    pub(super) fn as_result(&self, unit: &Unit) -> Option<String> {
        let (status, name) = decode::set_up_status(unit).unwrap_or_default();
        let of_status = |expected: i64| (status == expected).then(|| format!(" ({status}/{name})"));
        match self {
            Self::Path { of, .. } => match of.as_str() {
                "EnvironmentFile=" => (unit.outcome() == "resources").then(String::new),
                "WorkingDirectory=" => of_status(200),
                "LoadCredential=" => of_status(243),
                of if of.ends_with("Paths=") => of_status(226),
                of if of.starts_with("Exec") => of_status(203),
                _ => None,
            },
            Self::Account { of, .. } if of == "User=" => of_status(217),
            Self::Account { .. } => of_status(216),
            _ => None,
        }
    }

    /// Ties a finding to the filesystem.
    pub(super) fn tied(&self, finding: Finding) -> Finding {
        match self {
            Self::NoSpace { dev, .. } | Self::ReadOnly { dev, .. } => finding.key(KeyKind::Filesystem, dev),
            Self::NotMounted { mountpoint, .. } => finding.needs(mountpoint).needs(mount_unit(mountpoint)),
            _ => finding,
        }
    }
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::systemd::Service;

    use super::*;

    fn failed(status: i64) -> Unit {
        let service = Service { result: "exit-code".into(), exit_code_kind: 1, exit_status: status, ..Service::default() };
        Unit { service: Some(service), ..Unit::default() }
    }

    #[test]
    fn every_fault_has_a_clause_and_a_refusal() {
        let no_space = Fault::NoSpace {
            holds: "its data directory".into(),
            mountpoint: "/data".into(),
            dev: "8:2".into(),
            avail: Some(4096),
        };
        assert_eq!(no_space.refusal(), "/data, which contains its data directory, has 4 KiB left: free space first");
        let account = Fault::Account { of: "User=".into(), name: "app".into() };
        assert_eq!(account.refusal(), "its User= app does not exist: create it first");
        assert_eq!(account.as_result(&failed(217)).as_deref(), Some(" (217/USER)"));
        let configuration = Fault::Configuration { command: "nginx -t".into(), error: "[emerg] unknown directive".into() };
        assert_eq!(configuration.refusal(), "`nginx -t` fails: [emerg] unknown directive: correct it first");
    }
}
