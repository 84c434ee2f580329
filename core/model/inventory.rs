//! Result of discovery on this host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::object::{Kind, Object};

/// All data a check needs to select its targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The container engine, if one was found or configured.
    pub engine: Option<EngineRef>,
    /// Further container engines: Podman beside Docker, and those of other users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_engines: Vec<EngineRef>,
    /// All containers, running or not.
    pub containers: Vec<ContainerRef>,
    /// Filesystems to check, one per device.
    pub mounts: Vec<MountRef>,
    /// The service manager; `None` in recordings from before it was discovered.
    #[serde(default)]
    pub systemd: Option<SystemdRef>,
    /// Databases, caches and brokers.
    #[serde(default)]
    pub servers: Vec<ServerRef>,
    /// Certificates: served, on disk, and renewed ones.
    #[serde(default)]
    pub certificates: Vec<CertificateRef>,
    /// Configured addresses to probe.
    #[serde(default)]
    pub endpoints: Vec<EndpointRef>,
    /// The application container in which opsctl runs: the processes, sockets, files and settings of this host are not visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<String>,
    /// Objects that could not be discovered, with the reason.
    pub gaps: Vec<String>,
}

impl Inventory {
    /// The containers that match `accept`, as targets. While the engine does not respond, the engine is the target instead, so
    /// that "could not read" has a row and is not mistaken for "no containers".
    pub fn container_targets(&self, accept: impl Fn(&ContainerRef) -> bool) -> Vec<Object> {
        match &self.engine {
            Some(EngineRef { state: EngineState::Answers { .. }, .. }) => self
                .containers
                .iter()
                .filter(|c| accept(c))
                .map(|c| Object::new(Kind::Container, c.name.clone(), c.id.clone()))
                .collect(),
            _ => self.engine_targets(),
        }
    }

    /// The container engine, as a target.
    #[must_use]
    pub fn engine_targets(&self) -> Vec<Object> {
        let engine = self.engine.iter();
        engine.map(|e| Object::new(Kind::Engine, e.name.clone(), e.endpoint.clone())).collect()
    }

    /// All container engines.
    pub fn engines(&self) -> impl Iterator<Item = &EngineRef> {
        self.engine.iter().chain(&self.more_engines)
    }

    /// The units that match `accept`, as targets.
    pub fn unit_targets(&self, accept: impl Fn(&UnitRef) -> bool) -> Vec<Object> {
        let units = self.systemd.iter().flat_map(|s| &s.units);
        units.filter(|u| accept(u)).map(|u| Object::named(Kind::Unit, &u.name)).collect()
    }

    /// The servers of a product, as targets.
    #[must_use]
    pub fn server_targets(&self, product: Product) -> Vec<Object> {
        let servers = self.servers.iter().filter(|s| s.product == product);
        servers.map(ServerRef::object).collect()
    }

    /// The certificates that match `accept`, as targets.
    pub fn certificate_targets(&self, accept: impl Fn(&CertificateSource) -> bool) -> Vec<Object> {
        let certificates = self.certificates.iter().filter(|c| accept(&c.source));
        certificates.map(|c| Object::new(Kind::Certificate, c.name.clone(), c.id.clone())).collect()
    }

    /// The certificate with this id.
    #[must_use]
    pub fn certificate(&self, id: &str) -> Option<&CertificateRef> {
        self.certificates.iter().find(|c| c.id == id)
    }

    /// The server with this id.
    #[must_use]
    pub fn server(&self, id: &str) -> Option<&ServerRef> {
        self.servers.iter().find(|s| s.id == id)
    }

    /// The running containers, according to the container list.
    pub fn running(&self) -> impl Iterator<Item = &ContainerRef> {
        self.containers.iter().filter(|c| c.state == "running")
    }

    /// The container with this full id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&ContainerRef> {
        self.containers.iter().find(|c| c.id == id)
    }
}

/// A certificate, or the server names it is served for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRef {
    /// The first server name, `host:port`, a path, or the name of a lineage.
    pub name: String,
    /// Unique on this host.
    pub id: String,
    /// Server names (SNI) to request it with; empty for a request without SNI.
    pub names: Vec<String>,
    /// Source of the certificate.
    pub source: CertificateSource,
}

/// Source of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum CertificateSource {
    /// Served by an nginx on this host.
    Nginx {
        /// Id of the server.
        server: String,
        /// PID of the master.
        pid: i32,
        /// Listen address in the network namespace of the server.
        address: String,
        /// Certificate and key files of the configuration, as paths below the root of the server.
        files: Vec<(String, String)>,
        /// `ssl_protocols`, if set.
        protocols: Vec<String>,
    },
    /// Served at a configured address.
    Endpoint {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Protocol exchange before TLS.
        first: Option<StartTls>,
        /// The container from which to connect, or `None` for this host.
        from: Option<String>,
    },
    /// A file.
    File {
        /// Path below the root of process `pid`, or of this process.
        path: String,
        /// Path of the key file.
        key: Option<String>,
        /// Id of the server it belongs to.
        server: Option<String>,
        /// PID of that server.
        pid: Option<i32>,
        /// The certificate is also served; its expiry is checked at the served one.
        served: bool,
    },
    /// Lineage of certbot.
    Lineage {
        /// The process with the root that contains it, or `None` for this process.
        pid: Option<i32>,
        /// Id of the server with that root.
        server: Option<String>,
        /// Ids of the servers that use it.
        used_by: Vec<String>,
    },
}

/// Protocol exchange before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    /// `SSLRequest` (PostgreSQL's protocol).
    Postgres,
    /// `EHLO`, `STARTTLS` (RFC 3207).
    Smtp,
}

/// A configured address to probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRef {
    /// URL without its query, which may hold a token.
    pub url: String,
    /// Unique: the URL and the place it is requested from.
    pub id: String,
    /// Scope of a successful response: `deep health`, `frontend only`.
    pub proves: Option<String>,
}

/// Product of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// PostgreSQL.
    Postgres,
    /// PgBouncer.
    Pgbouncer,
    /// Redis, Valkey, KeyDB, Dragonfly.
    Redis,
    /// RabbitMQ.
    Rabbitmq,
    /// nginx, OpenResty.
    Nginx,
    /// Prometheus, also as an agent.
    Prometheus,
    /// Alertmanager.
    Alertmanager,
    /// Loki.
    Loki,
    /// Grafana Alloy.
    Alloy,
    /// Promtail.
    Promtail,
    /// Grafana.
    Grafana,
    /// Grafana Tempo.
    Tempo,
    /// Grafana Mimir.
    Mimir,
    /// MinIO.
    Minio,
    /// Prometheus's blackbox exporter.
    Blackbox,
    /// cAdvisor.
    Cadvisor,
}

impl Product {
    /// Whether the product is a component of a monitoring system, which is queried over HTTP.
    #[must_use]
    pub fn monitors(self) -> bool {
        use Product::{Nginx, Pgbouncer, Postgres, Rabbitmq, Redis};
        !matches!(self, Postgres | Pgbouncer | Redis | Rabbitmq | Nginx)
    }

    /// Target kind of this product.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Postgres => Kind::Postgres,
            Self::Pgbouncer => Kind::Pgbouncer,
            Self::Redis => Kind::Redis,
            Self::Rabbitmq => Kind::Rabbitmq,
            Self::Nginx => Kind::Nginx,
            Self::Prometheus => Kind::Prometheus,
            Self::Alertmanager => Kind::Alertmanager,
            Self::Loki => Kind::Loki,
            Self::Alloy => Kind::Alloy,
            Self::Promtail => Kind::Promtail,
            Self::Grafana => Kind::Grafana,
            Self::Tempo => Kind::Tempo,
            Self::Mimir => Kind::Mimir,
            Self::Minio => Kind::Minio,
            Self::Blackbox => Kind::Blackbox,
            Self::Cadvisor => Kind::Cadvisor,
        }
    }
}

/// Role of a Celery process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CeleryRole {
    /// Executes tasks.
    Worker,
    /// Schedules periodic tasks.
    Beat,
    /// A worker with an embedded beat.
    WorkerWithBeat,
}

impl CeleryRole {
    /// Whether the role executes tasks.
    #[must_use]
    pub fn works(self) -> bool {
        self != Self::Beat
    }

    /// Whether the role schedules periodic tasks.
    #[must_use]
    pub fn beats(self) -> bool {
        self != Self::Worker
    }
}

/// A database, cache or broker: running, expected to run, or configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRef {
    /// Its product.
    pub product: Product,
    /// Its container, its unit, or its address.
    pub name: String,
    /// Id of the installation: it does not change on restart.
    pub id: String,
    /// Source of discovery: `process 812 (redis-server)`, `image redis:7`, `unit redis.service`, `configuration`.
    pub found_by: String,
    /// Its first process, if it runs on this host.
    pub process: Option<ServerProcess>,
    /// Full id of its container.
    pub container: Option<String>,
    /// Its unit.
    pub unit: Option<String>,
    /// Host (or socket directory) and port from the configuration or the libpq environment.
    pub address: Option<(String, u16)>,
    /// Reason why data from the server is not used: `belongs to user mallory (uid 1001)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
}

/// The process that identifies a run of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerProcess {
    /// Process id on the host.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl ServerRef {
    /// The server as an object.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::new(self.product.kind(), &self.name, &self.id)
    }

    /// Identity of this run of this server.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.process {
            Some(process) => format!("{}@{}:{}", self.id, process.pid, process.start_ticks),
            None => self.id.clone(),
        }
    }
}

/// The service manager and the units to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdRef {
    /// State of the manager.
    pub state: SystemdState,
    /// Services that run or are enabled, timers, and all units that failed or could not be loaded.
    pub units: Vec<UnitRef>,
}

/// State of systemd at discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemdState {
    /// It responds.
    Answers,
    /// PID 1 is not systemd.
    NotInit,
    /// It is PID 1, but no system bus is installed to query it on.
    NoBus,
    /// It did not respond in time.
    Hung,
    /// It could not be reached.
    Failed {
        /// Reason.
        error: String,
    },
}

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRef {
    /// Full name: `nginx.service`.
    pub name: String,
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// Substate.
    pub sub: String,
    /// State set by the administrator of this host: `enabled`, `masked`, `local` (has its own unit file), or empty; `installed`
    /// for essential timers that are not enabled.
    pub file_state: String,
}

impl UnitRef {
    /// Unit type, the suffix of its name: `service`, `timer`, …
    #[must_use]
    pub fn kind(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

/// A container engine endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRef {
    /// `docker` or `podman`.
    pub name: String,
    /// `unix:///var/run/docker.sock` or `tcp://…`, without credentials.
    pub endpoint: String,
    /// Source of discovery: `DOCKER_HOST`, `default socket`, `docker.service is enabled`.
    pub found_by: String,
    /// State of the engine.
    pub state: EngineState,
}

/// State of the engine at discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// It responds; `latency_ms` is the time of `GET /_ping`.
    Answers {
        /// Engine version, for example `20.10.24`.
        version: String,
        /// API version in use: the lower of the engine's and the client's.
        api: String,
        /// Time of `GET /_ping` in milliseconds.
        latency_ms: u64,
    },
    /// The socket does not exist although an engine is expected.
    Missing,
    /// The socket exists; this user is not permitted to open it.
    Denied,
    /// The socket exists without a listener: connection refused.
    Refused,
    /// It accepts connections and does not respond within the timeout of the probe.
    Hung {
        /// Waiting time in milliseconds.
        after_ms: u64,
    },
    /// The configured endpoint is not supported.
    Unsupported {
        /// Reason.
        error: String,
    },
    /// The response is not from the Docker API.
    Garbage {
        /// Error from the parser.
        error: String,
    },
}

/// An entry of the container list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRef {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Image reference as given at creation.
    pub image: String,
    /// `running`, `exited`, …
    pub state: String,
    /// `host`, the name of a network, or `container:<id>` for a shared network namespace.
    #[serde(default)]
    pub network_mode: String,
    /// Its product, by image or program.
    #[serde(default)]
    pub product: Option<Product>,
    /// Its Celery role, by its command line.
    #[serde(default)]
    pub celery: Option<CeleryRole>,
    /// Compose project, if any.
    pub project: Option<String>,
    /// Compose service, if any.
    pub service: Option<String>,
    /// Labels that opsctl uses (`opsctl.*`, `autoheal`, `com.docker.compose.*`, `com.docker.swarm.*`); other labels are not kept.
    pub labels: BTreeMap<String, String>,
}

/// Whether a container with this network mode has its own network: it does not share the one of the host, of another container or
/// of a named namespace, and is not without one.
#[must_use]
pub fn has_own_network(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:") && !mode.starts_with("ns:")
}

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRef {
    /// `major:minor`.
    pub dev: String,
    /// Shortest mountpoint of that device.
    pub mountpoint: String,
    /// `ext4`, `xfs`, `nfs4`, …
    pub fstype: String,
    /// Mount source, without credentials.
    pub source: String,
    /// Options of the superblock: `ro` here means the filesystem itself is read-only.
    pub super_options: Vec<String>,
    /// Options of this mount.
    pub mount_options: Vec<String>,
}
