//! Causal links between findings. Most follow from the roles of their codes ([`super::role`]); the others are declared by the runbook of
//! the effect or of the cause.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::code::Code;
use super::finding::Confidence;
use super::role::{DependsOn, Impact, Role};
use super::runbook::Runbook;
use super::verdict::Severity;

/// Kind of a shared key. A link applies only between findings that share a key of its kind.
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
    /// An external program restarts this container (full id) because of its health status.
    Restarter,
    /// The same systemd unit (full name).
    Unit,
    /// An object that others need: a container (full id) or a systemd unit (full name). The cause has it as its own key, the effect among its
    /// needs ([`super::Finding::needs`]).
    Requirement,
    /// The same database server, broker or cache (its target's id).
    Server,
    /// The same backend of a PostgreSQL server (pid @ start).
    Backend,
    /// The same queue of the same broker.
    Queue,
    /// The same nginx (its target's id), for faults of its upstreams.
    Upstream,
    /// The same kind of line in the error log of an nginx (its target's id, `:kind`).
    ErrorLog,
    /// The same certificate file or lineage (path below the root of its server, prefixed with the server's id).
    Certificate,
    /// The same interface of this host.
    Interface,
    /// The same peer (`host:port`).
    Address,
    /// The same monitoring server, which is out of service (its target's id).
    Silent,
    /// The same server, for faults that reject writes (its target's id).
    Writes,
    /// The same server, for settings that a client changed (its target's id).
    Altered,
    /// The same exhausted file descriptors: full id of the container, or name of the unit.
    Descriptors,
    /// Name resolution of programs on this machine (`host`) or in one container (its full id).
    Names,
    /// The same bind mount of a container (full id, `:destination`).
    BindMount,
    /// The machine as a whole (`host`): a shortage affects all objects. Also a limit that the programs of a user share (`inotify`,
    /// `processes`).
    Host,
    /// The finding that a site runbook names as a cause: code and name of its subject. Every finding has this key.
    Named,
}

/// A key that a finding shares with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Kind of the key.
    pub kind: KeyKind,
    /// Value.
    pub value: String,
}

/// The key that ties a finding to the runbooks that name it as a cause.
#[must_use]
pub fn named(code: &str, subject: &str) -> Key {
    Key { kind: KeyKind::Named, value: format!("{code} {subject}") }
}

/// `cause` explains `effect` when both are open and share a key of kind `tie`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Code of the cause.
    pub cause: &'static str,
    /// Code of the effect.
    pub effect: &'static str,
    /// Kind of the key that both must share.
    pub tie: KeyKind,
    /// Confirmed if the tie proves the mechanism; likely otherwise.
    pub confidence: Confidence,
    /// The mechanism: completes a sentence after "because".
    pub because: Cow<'static, str>,
    /// The effect can be fixed while the cause is open: the cause may make it recur, but does not prevent the fix.
    pub treatable: bool,
}

impl Link {
    /// A link with a tie that proves the mechanism.
    #[must_use]
    pub const fn confirmed(cause: &'static str, effect: &'static str, tie: KeyKind, because: &'static str) -> Self {
        Self { cause, effect, tie, confidence: Confidence::Confirmed, because: Cow::Borrowed(because), treatable: false }
    }

    /// A link with a tie that does not prove the mechanism.
    #[must_use]
    pub const fn likely(cause: &'static str, effect: &'static str, tie: KeyKind, because: &'static str) -> Self {
        Self { cause, effect, tie, confidence: Confidence::Likely, because: Cow::Borrowed(because), treatable: false }
    }

    fn of_roles(cause: &Code, state: &Impact, effect: &Code, dependency: &DependsOn) -> Self {
        let confirmed = state.confidence == Confidence::Confirmed && dependency.confidence == Confidence::Confirmed;
        let because = if dependency.possessive.is_empty() {
            Cow::Borrowed(state.state)
        } else {
            Cow::Owned(format!("{} {}", dependency.possessive, state.state))
        };
        Self {
            cause: cause.id,
            effect: effect.id,
            tie: state.key,
            confidence: if confirmed { Confidence::Confirmed } else { Confidence::Likely },
            because,
            treatable: dependency.treatable,
        }
    }

    /// Marks the effect as fixable while the cause is open.
    #[must_use]
    pub const fn treatable(mut self) -> Self {
        self.treatable = true;
        self
    }
}

/// All links between the findings of these runbooks: the declared ones, and those that follow from the roles of their codes.
#[must_use]
pub fn links(runbooks: &[Runbook]) -> Vec<Link> {
    let codes: Vec<&'static Code> = runbooks.iter().flat_map(Runbook::codes).collect();
    let mut links: Vec<Link> = runbooks.iter().flat_map(|r| r.links.iter().copied().flatten()).cloned().collect();
    let declared: HashSet<(&str, &str, KeyKind)> = links.iter().map(|l| (l.cause, l.effect, l.tie)).collect();
    let mut causes: HashMap<(Role, KeyKind), Vec<(&'static Code, &'static Impact)>> = HashMap::new();
    for code in codes.iter().filter(|c| is_fault(c)) {
        for effect in code.impacts {
            causes.entry((effect.role, effect.key)).or_default().push((code, effect));
        }
    }
    for code in codes.iter().filter(|c| is_fault(c)) {
        for dependency in code.dependencies() {
            for (cause, effect) in causes.get(&(dependency.role, dependency.key)).into_iter().flatten() {
                if (cause.id != code.id || effect.key == KeyKind::Requirement)
                    && !declared.contains(&(cause.id, code.id, effect.key))
                {
                    links.push(Link::of_roles(cause, effect, code, dependency));
                }
            }
        }
    }
    links
}

/// Info findings neither explain nor are explained.
fn is_fault(code: &Code) -> bool {
    code.severities.iter().any(|s| *s > Severity::Info)
}

/// A root cause and the findings it explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Id of the root finding.
    pub root: String,
    /// Ids of all findings it explains, directly or transitively.
    pub explains: Vec<String>,
    /// The mechanisms, one per explained finding, in the same order.
    pub because: Vec<String>,
    /// Likely when any step of the explanation is only likely.
    pub confidence: Confidence,
}
