//! Roles: the meaning of an open finding for all that depend on its object.
//!
//! The code of a cause declares its [`Impact`]s, the code of an effect its [`DependsOn`]s. A finding explains another if an effect of
//! the one and a dependency of the other have the same role and share a key of the same kind. Mechanisms that no role covers are
//! [`super::Link`]s.

use std::fmt;

use super::finding::Confidence;
use super::link::KeyKind;

/// The meaning of an open finding for all that depend on its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It does not run.
    Down,
    /// It runs, but does not respond as a server.
    Unresponsive,
    /// It accepts no further clients, or lets them wait.
    Exhausted,
    /// It responds, but rejects writes.
    RejectsWrites,
    /// It has too little processor time or memory to respond in time.
    Starved,
    /// Its filesystem takes no more data: full, without inodes or read-only.
    NoRoom,
    /// It has no free file descriptors.
    NoDescriptors,
    /// It is in none of the networks of its clients.
    Detached,
    /// Its port has no listener that its clients reach.
    PortClosed,
    /// Packets to it or from it are dropped.
    PacketsDropped,
    /// Names cannot be resolved.
    NamesBroken,
    /// The clock is wrong.
    ClockWrong,
    /// Clients reject its certificate.
    CertificateRejected,
    /// It has the file from before the file was replaced.
    OldFile,
}

impl Role {
    /// All roles, in the order of the matrix.
    pub const ALL: &[Self] = &[
        Self::Down,
        Self::Unresponsive,
        Self::Exhausted,
        Self::RejectsWrites,
        Self::Starved,
        Self::NoRoom,
        Self::NoDescriptors,
        Self::Detached,
        Self::PortClosed,
        Self::PacketsDropped,
        Self::NamesBroken,
        Self::ClockWrong,
        Self::CertificateRejected,
        Self::OldFile,
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Unresponsive => "unresponsive",
            Self::Exhausted => "exhausted",
            Self::RejectsWrites => "rejects writes",
            Self::Starved => "starved",
            Self::NoRoom => "no room",
            Self::NoDescriptors => "no descriptors",
            Self::Detached => "detached",
            Self::PortClosed => "port closed",
            Self::PacketsDropped => "packets dropped",
            Self::NamesBroken => "names broken",
            Self::ClockWrong => "clock wrong",
            Self::CertificateRejected => "certificate rejected",
            Self::OldFile => "old file",
        })
    }
}

/// A role that a finding has for the objects that share its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impact {
    /// Its role.
    pub role: Role,
    /// Kind of the key by which others depend on its object.
    pub key: KeyKind,
    /// The state of its object, after a possessive: "container is paused". A whole clause for the keys of the host.
    pub state: &'static str,
    /// Likely if the key does not prove the mechanism.
    pub confidence: Confidence,
}

impl Impact {
    /// An impact with a key that proves the mechanism.
    #[must_use]
    pub const fn confirmed(role: Role, key: KeyKind, state: &'static str) -> Self {
        Self { role, key, state, confidence: Confidence::Confirmed }
    }

    /// An impact with a key that does not prove the mechanism.
    #[must_use]
    pub const fn likely(role: Role, key: KeyKind, state: &'static str) -> Self {
        Self { role, key, state, confidence: Confidence::Likely }
    }
}

/// A role of other findings that explains a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DependsOn {
    /// The explaining role.
    pub role: Role,
    /// Kind of the key that both share.
    pub key: KeyKind,
    /// Possessive of the object it depends on, before [`Impact::state`]: "its", "the upstream's". Empty for the keys of the host.
    pub possessive: &'static str,
    /// Likely if the key does not prove the mechanism.
    pub confidence: Confidence,
    /// The finding can be fixed while the cause is open.
    pub treatable: bool,
}

impl DependsOn {
    /// A dependency with a key that proves the mechanism.
    #[must_use]
    pub const fn confirmed(role: Role, key: KeyKind, possessive: &'static str) -> Self {
        Self { role, key, possessive, confidence: Confidence::Confirmed, treatable: false }
    }

    /// A dependency with a key that does not prove the mechanism.
    #[must_use]
    pub const fn likely(role: Role, key: KeyKind, possessive: &'static str) -> Self {
        Self { role, key, possessive, confidence: Confidence::Likely, treatable: false }
    }

    /// Marks the finding as fixable while the cause is open.
    #[must_use]
    pub const fn treatable(mut self) -> Self {
        self.treatable = true;
        self
    }
}
