//! Changes to a host: time, kind, subject and author.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The machine was started.
    Boot,
    /// A certificate was renewed, or its file was written.
    Certificate,
    /// The wall clock was set.
    Clock,
    /// A configuration file was written.
    Config,
    /// A container was created, started, stopped or removed.
    Container,
    /// A recorded note: a deployment, work on a database.
    Note,
    /// opsctl itself: a fix, an undo, a waiver.
    Opsctl,
    /// A package was installed, upgraded or removed.
    Package,
    /// A program was run as another user with `sudo`.
    Sudo,
    /// A unit was started, restarted or stopped.
    Unit,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Boot => "boot",
            Self::Certificate => "certificate",
            Self::Clock => "clock",
            Self::Config => "config",
            Self::Container => "container",
            Self::Note => "note",
            Self::Opsctl => "opsctl",
            Self::Package => "package",
            Self::Sudo => "sudo",
            Self::Unit => "unit",
        })
    }
}

/// Entry of [`Change::concerns`] for changes that may affect every object.
pub const EVERYTHING: &str = "*";

/// A change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Time of the change.
    pub at: Timestamp,
    /// Kind of the change.
    pub kind: ChangeKind,
    /// Changed object: `container:web`, `package:nginx`, a path, `host`.
    pub subject: String,
    /// Description: a lowercase phrase.
    pub what: String,
    /// Author, if known.
    #[serde(default)]
    pub by: Option<String>,
    /// Findings that the change may explain: objects as in findings (`container:web`, `unit:nginx.service`), `server:ID`,
    /// `etc:NAME` for everything configured below `/etc/NAME`, `runbook:ID`, `engine`, or `*` for everything.
    #[serde(default)]
    pub concerns: Vec<String>,
}

impl Change {
    /// A change that concerns its subject, without an author.
    pub fn new(at: Timestamp, kind: ChangeKind, subject: impl Into<String>, description: impl Into<String>) -> Self {
        let subject = subject.into();
        Self { at, kind, concerns: vec![subject.clone()], subject, what: description.into(), by: None }
    }

    /// Sets the author.
    #[must_use]
    pub fn by(mut self, author: Option<impl Into<String>>) -> Self {
        self.by = author.map(Into::into);
        self
    }

    /// Adds an entry to `concerns` unless it is present.
    #[must_use]
    pub fn concerning(mut self, object: impl Into<String>) -> Self {
        let object = object.into();
        if !self.concerns.contains(&object) {
            self.concerns.push(object);
        }
        self
    }

    /// One line without the time: `container:web recreated from image shop:2, before shop:1 (by alice)`.
    #[must_use]
    pub fn summary(&self) -> String {
        let by = self.by.as_ref().map(|b| format!(" (by {b})")).unwrap_or_default();
        format!("{} {}{by}", self.subject, self.what)
    }
}

/// The changes of a host since a given time, and the sources that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Start of the period.
    pub since: Timestamp,
    /// The changes, oldest first.
    pub changes: Vec<Change>,
    /// Sources that could not be read, with the reason.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// Sources that do not exist on this host.
    #[serde(default)]
    pub absent: Vec<String>,
}
