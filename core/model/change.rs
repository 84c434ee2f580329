//! What was changed on a host, when and by whom.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The machine was started.
    Boot,
    /// A certificate was renewed or its file written.
    Certificate,
    /// The wall clock was set.
    Clock,
    /// A configuration file was written.
    Config,
    /// A container was made, started, stopped or removed.
    Container,
    /// Somebody noted it: a deployment, work on a database.
    Note,
    /// opsctl itself: a fix, an undo, a waiver.
    Opsctl,
    /// A package was installed, upgraded or removed.
    Package,
    /// Somebody ran a program as another user.
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

/// What a change that may matter to everything concerns.
pub const EVERYTHING: &str = "*";

/// Something that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// What kind of change.
    pub kind: ChangeKind,
    /// What was changed: `container:web`, `package:nginx`, a path, `host`.
    pub subject: String,
    /// What happened to it: a lowercase phrase.
    pub what: String,
    /// Who did it, where that is known.
    #[serde(default)]
    pub by: Option<String>,
    /// Whose findings it may have to do with: objects as findings name them (`container:web`, `unit:nginx.service`), `server:ID`,
    /// `etc:NAME` for what is configured below `/etc/NAME`, `runbook:ID`, `engine`, or `*` for everything.
    #[serde(default)]
    pub concerns: Vec<String>,
}

impl Change {
    /// A change that concerns its subject, by nobody known.
    pub fn new(at: Timestamp, kind: ChangeKind, subject: impl Into<String>, what: impl Into<String>) -> Self {
        let subject = subject.into();
        Self { at, kind, concerns: vec![subject.clone()], subject, what: what.into(), by: None }
    }

    /// Says who did it.
    #[must_use]
    pub fn by(mut self, who: Option<impl Into<String>>) -> Self {
        self.by = who.map(Into::into);
        self
    }

    /// Adds something it concerns, once.
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
    pub fn says(&self) -> String {
        let by = self.by.as_ref().map(|b| format!(" (by {b})")).unwrap_or_default();
        format!("{} {}{by}", self.subject, self.what)
    }
}

/// The changes of a host within some time, and what could not be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// From when on was looked.
    pub since: Timestamp,
    /// What was changed, oldest first.
    pub changes: Vec<Change>,
    /// What could not be looked at, and why.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What this host does not have.
    #[serde(default)]
    pub absent: Vec<String>,
}
