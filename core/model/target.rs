//! Targets of checks and subjects of findings.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The machine itself.
    Host,
    /// A container engine; named `docker` or `podman`.
    Engine,
    /// A container, by name.
    Container,
    /// A filesystem, by mountpoint.
    Mount,
    /// A process, by pid.
    Process,
    /// A systemd unit, by full name.
    Unit,
    /// A PostgreSQL server, by its container, unit or address.
    Postgres,
    /// A PgBouncer in front of one, named likewise.
    Pgbouncer,
    /// A server that speaks the Redis protocol, named likewise.
    Redis,
    /// A RabbitMQ node, named likewise.
    Rabbitmq,
    /// The use of a broker by Celery, by the broker's name.
    Celery,
    /// A queue of a broker, by its own name.
    Queue,
    /// An nginx, by its container, unit or address.
    Nginx,
    /// A Prometheus, by its container, unit or address.
    Prometheus,
    /// An Alertmanager, named likewise.
    Alertmanager,
    /// A Loki, named likewise.
    Loki,
    /// A Grafana Alloy, named likewise.
    Alloy,
    /// A Promtail, named likewise.
    Promtail,
    /// A Grafana, named likewise.
    Grafana,
    /// A certificate, by the server name it is served for, or by its path.
    Certificate,
    /// A configured address to probe, by its URL.
    Endpoint,
    /// A network interface, by name.
    Interface,
    /// A service that a site runbook monitors, by the runbook's name.
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Engine => "engine",
            Self::Container => "container",
            Self::Mount => "mount",
            Self::Process => "process",
            Self::Unit => "unit",
            Self::Postgres => "postgres",
            Self::Pgbouncer => "pgbouncer",
            Self::Redis => "redis",
            Self::Rabbitmq => "rabbitmq",
            Self::Celery => "celery",
            Self::Queue => "queue",
            Self::Nginx => "nginx",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
            Self::Loki => "loki",
            Self::Alloy => "alloy",
            Self::Promtail => "promtail",
            Self::Grafana => "grafana",
            Self::Certificate => "certificate",
            Self::Endpoint => "endpoint",
            Self::Interface => "interface",
            Self::Service => "service",
        })
    }
}

/// The object of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its display name.
    pub name: String,
    /// Its identifier for queries: full container id, `major:minor` of a mount; the name if there is no better one.
    pub id: String,
}

impl Target {
    /// A target with its name as identity.
    pub fn named(kind: Kind, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { kind, id: name.clone(), name }
    }

    /// The machine itself.
    #[must_use]
    pub fn host() -> Self {
        Self::named(Kind::Host, "host")
    }

    /// Whether `word` on the command line selects this target: its name, `kind:name`, at least 12 leading digits of a container
    /// id, or the name of a service without its suffix.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        self.name == word
            || self.to_string() == word
            || (self.kind == Kind::Container && word.len() >= 12 && self.id.starts_with(word))
            || self.name.strip_suffix(".service") == Some(word)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Host { f.write_str("host") } else { write!(f, "{}:{}", self.kind, self.name) }
    }
}

/// The subject of a finding, by immutable identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its display name.
    pub name: String,
    /// Immutable identity: container id @ `StartedAt`, `major:minor` @ mountpoint, pid @ start time.
    pub identity: String,
}

impl Subject {
    /// The machine itself, for findings without a single affected object.
    #[must_use]
    pub fn host() -> Self {
        Self { kind: Kind::Host, name: "host".to_owned(), identity: "host".to_owned() }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Host { f.write_str("host") } else { write!(f, "{}:{}", self.kind, self.name) }
    }
}
