//! What discovery found on this host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::target::{Kind, Target};

/// Everything a check needs to choose its targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The container engine, if one was found or asked for.
    pub engine: Option<EngineRef>,
    /// All containers, running or not.
    pub containers: Vec<ContainerRef>,
    /// Filesystems worth checking, one per device.
    pub mounts: Vec<MountRef>,
    /// The service manager; none in recordings of a time when it was not looked for.
    #[serde(default)]
    pub systemd: Option<SystemdRef>,
    /// Databases, caches and brokers.
    #[serde(default)]
    pub servers: Vec<ServerRef>,
    /// Certificates: served, on disk, and those that are renewed.
    #[serde(default)]
    pub certificates: Vec<CertificateRef>,
    /// Addresses of the configuration that are asked.
    #[serde(default)]
    pub endpoints: Vec<EndpointRef>,
    /// What could not be discovered, and why.
    pub gaps: Vec<String>,
}

impl Inventory {
    /// The containers that pass `wanted`, as targets. While the engine does not answer it stands for all of them, so that
    /// "could not look" has a row of its own and is not mistaken for "nothing there".
    pub fn container_targets(&self, wanted: impl Fn(&ContainerRef) -> bool) -> Vec<Target> {
        match &self.engine {
            Some(EngineRef { state: EngineState::Answers { .. }, .. }) => self
                .containers
                .iter()
                .filter(|c| wanted(c))
                .map(|c| Target { kind: Kind::Container, name: c.name.clone(), id: c.id.clone() })
                .collect(),
            _ => self.engine_targets(),
        }
    }

    /// The container engine, as a target.
    #[must_use]
    pub fn engine_targets(&self) -> Vec<Target> {
        let engine = self.engine.iter();
        engine.map(|e| Target { kind: Kind::Engine, name: e.name.clone(), id: e.endpoint.clone() }).collect()
    }

    /// The units that pass `wanted`, as targets.
    pub fn unit_targets(&self, wanted: impl Fn(&UnitRef) -> bool) -> Vec<Target> {
        let units = self.systemd.iter().flat_map(|s| &s.units);
        units.filter(|u| wanted(u)).map(|u| Target::named(Kind::Unit, &u.name)).collect()
    }

    /// The servers of a product, as targets.
    #[must_use]
    pub fn server_targets(&self, product: Product) -> Vec<Target> {
        let servers = self.servers.iter().filter(|s| s.product == product);
        servers.map(|s| Target { kind: product.kind(), name: s.name.clone(), id: s.id.clone() }).collect()
    }

    /// The certificates that pass `wanted`, as targets.
    pub fn certificate_targets(&self, wanted: impl Fn(&CertificateSource) -> bool) -> Vec<Target> {
        let certificates = self.certificates.iter().filter(|c| wanted(&c.source));
        certificates.map(|c| Target { kind: Kind::Certificate, name: c.name.clone(), id: c.id.clone() }).collect()
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

    /// The containers that run, as far as the list told.
    pub fn running(&self) -> impl Iterator<Item = &ContainerRef> {
        self.containers.iter().filter(|c| c.state == "running")
    }

    /// The container with this full id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&ContainerRef> {
        self.containers.iter().find(|c| c.id == id)
    }
}

/// A certificate, or the names that one is served for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRef {
    /// The first server name, `host:port`, a path, or the name of a lineage.
    pub name: String,
    /// Unique on this host.
    pub id: String,
    /// The host names it is asked for; none asks without a name.
    pub names: Vec<String>,
    /// Where it is.
    pub source: CertificateSource,
}

/// Where a certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum CertificateSource {
    /// Served by an nginx of this host.
    Nginx {
        /// The server's id.
        server: String,
        /// Its master.
        pid: i32,
        /// Where it listens, as it sees it itself.
        address: String,
        /// Certificate and key files of the configuration, as it sees them.
        files: Vec<(String, String)>,
        /// `ssl_protocols`, if set.
        protocols: Vec<String>,
    },
    /// Served at an address of the configuration.
    Endpoint {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What is said before TLS begins.
        first: Option<StartTls>,
        /// The container it is asked from; none is this host.
        from: Option<String>,
    },
    /// A file.
    File {
        /// Its path, as the process `pid` sees it, or this one.
        path: String,
        /// The key beside it.
        key: Option<String>,
        /// Whose file it is: a server's id.
        server: Option<String>,
        /// That server's process.
        pid: Option<i32>,
        /// It is served, so that how long it lasts is looked at there.
        served: bool,
    },
    /// What certbot renews.
    Lineage {
        /// The process in whose root it is; none is this one.
        pid: Option<i32>,
        /// The server whose root that is.
        server: Option<String>,
        /// Ids of the servers that use it.
        used_by: Vec<String>,
    },
}

/// What is said before TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    /// `SSLRequest` (PostgreSQL's protocol).
    Postgres,
    /// `EHLO`, `STARTTLS` (RFC 3207).
    Smtp,
}

/// An address of the configuration that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRef {
    /// URL without its query, which may hold a token.
    pub url: String,
    /// Unique: the URL, and from where it is asked.
    pub id: String,
    /// What its answer proves: `deep health`, `frontend only`.
    pub proves: Option<String>,
}

/// What a server speaks.
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
}

impl Product {
    /// Whether it is a part of a monitoring system, which is asked over HTTP.
    #[must_use]
    pub fn monitors(self) -> bool {
        use Product::{Alertmanager, Alloy, Grafana, Loki, Prometheus, Promtail};
        matches!(self, Prometheus | Alertmanager | Loki | Alloy | Promtail | Grafana)
    }

    /// What a target of this product is.
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
        }
    }
}

/// What a process of Celery is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CeleryRole {
    /// Takes tasks.
    Worker,
    /// Sends them by the clock.
    Beat,
    /// A worker with a beat in it.
    WorkerWithBeat,
}

impl CeleryRole {
    /// Whether it takes tasks.
    #[must_use]
    pub fn works(self) -> bool {
        self != Self::Beat
    }

    /// Whether it sends tasks by the clock.
    #[must_use]
    pub fn beats(self) -> bool {
        self != Self::Worker
    }
}

/// A database, cache or broker: one that runs, one that should, or one that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRef {
    /// What it speaks.
    pub product: Product,
    /// Its container, its unit, or its address.
    pub name: String,
    /// The same for as long as it is the same installation: it outlives a restart.
    pub id: String,
    /// How it was found: `process 812 (redis-server)`, `image redis:7`, `unit redis.service`, `configuration`.
    pub found_by: String,
    /// Its first process, when it runs here.
    pub process: Option<ServerProcess>,
    /// Full id of the container it is in.
    pub container: Option<String>,
    /// The unit it is.
    pub unit: Option<String>,
    /// Host (or socket folder) and port from the configuration or the libpq environment.
    pub address: Option<(String, u16)>,
    /// Why nothing that it says of itself is used: `belongs to user mallory (uid 1001)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
}

/// The process that tells whether a server is still the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerProcess {
    /// Process id on the host.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl ServerRef {
    /// What makes it this run of this server and no other.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.process {
            Some(process) => format!("{}@{}:{}", self.id, process.pid, process.start_ticks),
            None => self.id.clone(),
        }
    }
}

/// The service manager and the units worth a look of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdRef {
    /// What happened when it was asked.
    pub state: SystemdState,
    /// Services that run or should, timers, and whatever failed or could not be loaded.
    pub units: Vec<UnitRef>,
}

/// What systemd answered at discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemdState {
    /// It answered.
    Answers,
    /// Something else is PID 1.
    NotInit,
    /// It is PID 1, and no system bus is installed to ask it on.
    NoBus,
    /// It did not answer in time.
    Hung,
    /// It could not be reached.
    Failed {
        /// Why.
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
    /// The state within that.
    pub sub: String,
    /// What this host's administrator made of it: `enabled`, `masked`, `local` (has a file of its own), or empty.
    pub file_state: String,
}

impl UnitRef {
    /// What kind of unit it is, by the end of its name: `service`, `timer`, …
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
    /// Why this endpoint: `DOCKER_HOST`, `default socket`, `docker.service is enabled`.
    pub found_by: String,
    /// What happened when it was asked.
    pub state: EngineState,
}

/// What the engine answered at discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// It answered; `latency_ms` is the time of `GET /_ping`.
    Answers {
        /// Engine version, for example `20.10.24`.
        version: String,
        /// API version spoken: the lower of ours and the engine's.
        api: String,
        /// Time of `GET /_ping` in milliseconds.
        latency_ms: u64,
    },
    /// The socket does not exist although the engine is expected.
    Missing,
    /// The socket exists; this user may not open it.
    Denied,
    /// The socket exists and nobody listens.
    Refused,
    /// It accepts and does not answer within the probe's timeout.
    Hung {
        /// How long was waited, in milliseconds.
        after_ms: u64,
    },
    /// Somebody named an endpoint that opsctl cannot speak to.
    Unsupported {
        /// Why not.
        error: String,
    },
    /// It answers something that is not the Docker API.
    Garbage {
        /// What the parser said.
        error: String,
    },
}

/// A container as listed.
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
    /// `host`, a network's name, or `container:<id>` when it lives in another one's network namespace.
    #[serde(default)]
    pub network_mode: String,
    /// What it serves, by its image or its program.
    #[serde(default)]
    pub product: Option<Product>,
    /// What it does for Celery, by its command line.
    #[serde(default)]
    pub celery: Option<CeleryRole>,
    /// Compose project, if any.
    pub project: Option<String>,
    /// Compose service, if any.
    pub service: Option<String>,
    /// Labels that opsctl acts on (`opsctl.*`, `autoheal`, `com.docker.compose.*`); no other label is kept.
    pub labels: BTreeMap<String, String>,
}

/// Whether a container of this network mode has a network of its own: it is in none of the host, of another container or of a namespace
/// that somebody made, and is not without one.
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
