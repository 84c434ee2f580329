//! Objects: the targets of checks and the subjects of findings.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::link::{Key, KeyKind};

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
    /// A Grafana Tempo, named likewise.
    Tempo,
    /// A Grafana Mimir, named likewise.
    Mimir,
    /// A MinIO, named likewise.
    Minio,
    /// A blackbox exporter, named likewise.
    Blackbox,
    /// A cAdvisor, named likewise.
    Cadvisor,
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
            Self::Tempo => "tempo",
            Self::Mimir => "mimir",
            Self::Minio => "minio",
            Self::Blackbox => "blackbox",
            Self::Cadvisor => "cadvisor",
            Self::Certificate => "certificate",
            Self::Endpoint => "endpoint",
            Self::Interface => "interface",
            Self::Service => "service",
        })
    }
}

/// A thing that is checked or reported: the target of a check, the subject of a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its display name.
    pub name: String,
    /// Its immutable identity: full container id, `major:minor` of a mount, pid; the name if there is no better one. The
    /// identity of one instance continues with `@` and its start: container id @ `StartedAt`, pid @ start time.
    // `id` in recordings and journals of 0.1.0
    #[serde(rename = "identity", alias = "id")]
    pub id: String,
}

impl Object {
    /// An object with an identity of its own.
    pub fn new(kind: Kind, name: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind, name: name.into(), id: id.into() }
    }

    /// An object with its name as identity.
    pub fn named(kind: Kind, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { kind, id: name.clone(), name }
    }

    /// The machine itself, also for findings without a single affected object.
    #[must_use]
    pub fn host() -> Self {
        Self::named(Kind::Host, "host")
    }

    /// One instance of the object, by its start or another mark that changes with each instance.
    #[must_use]
    pub fn instance(mut self, mark: impl fmt::Display) -> Self {
        self.id = format!("{}@{mark}", self.id);
        self
    }

    /// The identity without the instance, which is the same before and after a restart.
    #[must_use]
    pub fn lasting_id(&self) -> &str {
        self.id.split('@').next().unwrap_or_default()
    }

    /// The keys of the object itself, which tie all findings about it. A server has more, which its checks add.
    #[must_use]
    pub fn natural_keys(&self) -> Vec<Key> {
        let (kinds, value): (&[KeyKind], &str) = match self.kind {
            Kind::Container => (&[KeyKind::Container, KeyKind::Requirement], self.lasting_id()),
            // `major:minor`; an entry of fstab without a mounted filesystem has none
            Kind::Mount if self.lasting_id().contains(':') => (&[KeyKind::Filesystem], self.lasting_id()),
            Kind::Unit => (&[KeyKind::Unit, KeyKind::Requirement], self.name.as_str()),
            Kind::Interface => (&[KeyKind::Interface], self.name.as_str()),
            _ => return Vec::new(),
        };
        kinds.iter().map(|kind| Key { kind: *kind, value: value.to_owned() }).collect()
    }

    /// Whether `word` on the command line selects this object: its name, `kind:name`, at least 12 leading digits of a container
    /// id, or the name of a service without its suffix.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        self.name == word
            || self.to_string() == word
            || (self.kind == Kind::Container && word.len() >= 12 && self.id.starts_with(word))
            || self.name.strip_suffix(".service") == Some(word)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Host { f.write_str("host") } else { write!(f, "{}:{}", self.kind, self.name) }
    }
}
