//! A recorded host: all evidence of one run, with secrets removed. `--replay` starts from it.

#![allow(clippy::disallowed_methods, reason = "a file that the command line names, opened by the watched main thread")]

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use opsctl_core::model::{Changes, HostInfo, Inventory, Record};
use opsctl_core::probe::clock;
use serde::{Deserialize, Serialize};

use super::Selection;
use crate::output::{self, Access};

/// Version of the recording's shape; another one is refused.
pub const RECORDING_SCHEMA_VERSION: u32 = 1;

/// The largest recording read back: a host with thousands of containers stays far below.
const LARGEST: u64 = 256 << 20;

/// Everything a run brought back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    /// [`RECORDING_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the opsctl that recorded it.
    pub opsctl: String,
    /// Which host.
    pub host: HostInfo,
    /// When.
    pub started_at: Timestamp,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// What was found.
    pub inventory: Inventory,
    /// What was read.
    pub records: Vec<Record>,
    /// What was changed before, read only when something was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// What every version of a recording says.
#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    schema_version: serde_json::Value,
}

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error("reading the recording {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Writing it.
    #[error("writing the recording {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Too large to be one.
    #[error("the recording {path} is larger than 256 MiB; is it a recording?")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Not a recording.
    #[error("the recording {path} is not one that `opsctl record` wrote: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What serde said.
        source: serde_json::Error,
    },
    /// Of another version.
    #[error("the recording {path} has schema version {found}; this opsctl reads {RECORDING_SCHEMA_VERSION}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Recording {
    /// One of a run that read nothing.
    pub(super) fn of_nothing(inventory: Inventory) -> Self {
        Self {
            schema_version: RECORDING_SCHEMA_VERSION,
            opsctl: env!("CARGO_PKG_VERSION").to_owned(),
            host: HostInfo::default(),
            started_at: clock::now(),
            duration_ms: 0,
            inventory,
            records: Vec::new(),
            changes: None,
        }
    }

    /// Reads a recording.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let io = |source| RecordingError::Read { path: path.to_owned(), source };
        let size = fs::metadata(path).map_err(io)?.len();
        if size > LARGEST {
            return Err(RecordingError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(io)?;
        let parse = |source| RecordingError::Parse { path: path.to_owned(), source };
        // the version first: a newer shape would otherwise be reported as a broken file
        match serde_json::from_str::<Versioned>(&text).map_err(parse)?.schema_version.as_u64() {
            Some(found) if found != u64::from(RECORDING_SCHEMA_VERSION) => {
                Err(RecordingError::Version { path: path.to_owned(), found })
            }
            _ => serde_json::from_str(&text).map_err(parse),
        }
    }

    /// Only what a selection asks for.
    #[must_use]
    pub fn narrowed(mut self, selection: &Selection) -> Self {
        let selection = selection.with_mountpoints(&self.inventory);
        self.records.retain(|r| {
            let runbook = r.check.split('.').next().unwrap_or_default();
            selection.runs(runbook, &r.check) && selection.targets(&r.target)
        });
        self
    }

    /// Writes it, whole or not at all, readable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), RecordingError> {
        let io = |source| RecordingError::Write { path: path.to_owned(), source };
        let mut bytes = serde_json::to_vec(self).map_err(|e| io(e.into()))?;
        bytes.push(b'\n');
        output::write(path, bytes, Access::Private).map_err(io)
    }
}
