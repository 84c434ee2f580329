//! What may cause what. Links are data, declared by the runbook that owns the effect or the cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::Confidence;

/// What two findings can share. A link holds only between findings that share a key of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// The same container (full id).
    Container,
    /// The same TCP port of the same container (full id, `:port`).
    Port,
    /// The same filesystem (`major:minor`).
    Filesystem,
    /// The same container engine.
    Engine,
    /// Something restarts this container (full id) from outside the engine because of its health status.
    Restarter,
    /// The same systemd unit (full name).
    Unit,
    /// The same database server, broker or cache (its target's id).
    Server,
    /// The same backend of a PostgreSQL server (pid @ start).
    Backend,
    /// The same queue of the same broker.
    Queue,
    /// The same nginx (its target's id), for what goes wrong behind it.
    Upstream,
    /// The same certificate file or lineage (path as its server sees it, with the server's id in front).
    Certificate,
    /// The same interface of this host.
    Interface,
    /// The same peer (`host:port`).
    Address,
    /// The same server of the monitoring, which is out of service (its target's id).
    Silent,
    /// The same server, and what is refused when it is written to (its target's id).
    Writes,
    /// Whoever has no file descriptors left: full id of the container, or name of the unit.
    Descriptors,
    /// What programs of this machine look up by name (`host`), or those of one container (its full id).
    Names,
    /// The machine as a whole: what is short for all is short for each.
    Host,
    /// The finding that a team's own runbook names as a cause: code and name of its subject. Every finding has this key.
    Named,
}

/// One thing a finding shares with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// What kind of thing.
    pub kind: KeyKind,
    /// Which one.
    pub value: String,
}

/// What ties a finding to the runbooks that name it as a cause.
#[must_use]
pub fn named(code: &str, subject: &str) -> Key {
    Key { kind: KeyKind::Named, value: format!("{code} {subject}") }
}

/// `cause` explains `effect` when both are open and share a key of kind `tie`.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Code of the cause.
    pub cause: &'static str,
    /// Code of the effect.
    pub effect: &'static str,
    /// What must be the same object for the link to hold.
    pub tie: KeyKind,
    /// Confirmed when the tie proves the mechanism; likely when it only fits.
    pub confidence: Confidence,
    /// The mechanism: reads after "because".
    pub because: &'static str,
    /// The effect can be treated while the cause is open: the cause lets it come back and does not hinder the cure.
    pub treatable: bool,
}

impl Link {
    /// A link that the tie proves.
    #[must_use]
    pub const fn confirmed(cause: &'static str, effect: &'static str, tie: KeyKind, because: &'static str) -> Self {
        Self { cause, effect, tie, confidence: Confidence::Confirmed, because, treatable: false }
    }

    /// A link that only fits.
    #[must_use]
    pub const fn likely(cause: &'static str, effect: &'static str, tie: KeyKind, because: &'static str) -> Self {
        Self { cause, effect, tie, confidence: Confidence::Likely, because, treatable: false }
    }

    /// Says that the effect can be treated while the cause is open.
    #[must_use]
    pub const fn treatable(mut self) -> Self {
        self.treatable = true;
        self
    }
}

/// A root cause and what it explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Id of the root finding.
    pub root: String,
    /// Ids of all findings it explains, directly or through others.
    pub explains: Vec<String>,
    /// The mechanisms, one per explained finding, in the same order.
    pub because: Vec<String>,
    /// Likely when any step of the explanation is only likely.
    pub confidence: Confidence,
}
