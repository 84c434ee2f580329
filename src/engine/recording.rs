//! A recording: all evidence of one run, with secrets removed. `--replay` reads it.

#![allow(clippy::disallowed_methods, reason = "a file that the command line names, opened by the watched main thread")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use opsctl_core::model::{Changes, HostInfo, Inventory, Record};
use opsctl_core::probe::io::clock;
use serde::{Deserialize, Serialize};

use super::Selection;
use crate::output::{self, Access};

/// Schema version of recordings; other versions are rejected.
pub const RECORDING_SCHEMA_VERSION: u32 = 1;

/// Limit of a recording in bytes; one of a host with thousands of containers is far smaller.
const MAX_RECORDING_BYTES: u64 = 256 << 20;

/// The evidence of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    /// [`RECORDING_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the opsctl that recorded it.
    pub opsctl: String,
    /// Host.
    pub host: HostInfo,
    /// Start of the run.
    pub started_at: Timestamp,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// Discovered targets.
    pub inventory: Inventory,
    /// Evidence.
    pub records: Vec<Record>,
    /// Earlier changes, read only if there are findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// The part common to all versions.
#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    schema_version: serde_json::Value,
}

/// Errors of reading and writing recordings.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Read error.
    #[error("reading the recording {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Write error.
    #[error("writing the recording {path}: {source}")]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Too large.
    #[error("the recording {path} is larger than 256 MiB; is it a recording?")]
    TooLarge {
        /// File.
        path: PathBuf,
    },
    /// Not a recording.
    #[error("the recording {path} is not one that `opsctl record` wrote: {source}")]
    Parse {
        /// File.
        path: PathBuf,
        /// Parse error.
        source: serde_json::Error,
    },
    /// Unsupported version.
    #[error("the recording {path} has schema version {found}; this opsctl reads {RECORDING_SCHEMA_VERSION}")]
    Version {
        /// File.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Recording {
    /// A recording without evidence.
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
        if size > MAX_RECORDING_BYTES {
            return Err(RecordingError::TooLarge { path: path.to_owned() });
        }
        let mut text = String::new();
        // a FIFO has no size
        fs::File::open(path).and_then(|file| file.take(MAX_RECORDING_BYTES).read_to_string(&mut text)).map_err(io)?;
        let parse = |source| RecordingError::Parse { path: path.to_owned(), source };
        // the version first: a newer schema would otherwise be reported as a broken file
        match serde_json::from_str::<Versioned>(&text).map_err(parse)?.schema_version.as_u64() {
            Some(found) if found != u64::from(RECORDING_SCHEMA_VERSION) => {
                Err(RecordingError::Version { path: path.to_owned(), found })
            }
            _ => serde_json::from_str(&text).map_err(parse),
        }
    }

    /// Only the records of a selection.
    #[must_use]
    pub fn narrowed(mut self, selection: &Selection) -> Self {
        let selection = selection.with_mountpoints(&self.inventory);
        self.records.retain(|r| {
            let runbook = r.check.split('.').next().unwrap_or_default();
            selection.runs(runbook, &r.check) && selection.targets(&r.target)
        });
        self
    }

    /// Writes it atomically, readable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), RecordingError> {
        let io = |source| RecordingError::Write { path: path.to_owned(), source };
        let mut bytes = serde_json::to_vec(self).map_err(|e| io(e.into()))?;
        bytes.push(b'\n');
        output::write(path, bytes, Access::Private).map_err(io)
    }
}
