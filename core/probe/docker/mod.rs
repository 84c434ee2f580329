//! The container engine: Docker, or Podman with its Docker API.

mod api;
mod compose;
mod connect;
mod container;
mod contexts;
#[cfg(test)]
mod corpus;
mod daemon;
mod daemon_config;
mod disk_usage;
mod events;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod health_test;
pub mod image_files;
mod inspect;
mod layers;
mod locate;
mod logs;
mod network;
mod peers;
mod process;
pub mod run;
mod secure;
mod ssh;
mod stop_mark;
mod swarm;
mod tcp;
mod users;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::io::clock;
use super::systemd::Systemd;
use super::{Memo, ProbeError, Redactor, blocking};
use crate::model::address::Address;
use crate::model::{ContainerRef, Gaps, Pick};
use inspect::Inspection;
use process::{Claim, Proof};

pub use api::ApiError;
pub use compose::{dependants, depends_on};
pub use connect::{Endpoint, candidates, connect, is_podman_socket};
pub use container::{Container, Health, HealthEntry, HealthTest, LogConfig, Mount, PortMap, RestartPolicy, State, parse_time};
pub(super) use daemon::configuration;
pub use daemon::{Daemon, daemon, main_process};
pub use disk_usage::{DiskUsage, UsedImage};
pub use events::{Event, EventMemory};
pub use layers::ContainerFiles;
pub use locate::{Engines, Located, locate};
pub use network::Network;
pub use peers::Placement;
pub use process::Listener;
pub use users::{UserEngines, podman_without_socket, user_engines};

/// Docker's embedded name server, in every container of a user-defined network.
pub const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Timeout of a request. `docker ps` and `inspect` can hang on the lock of one container (moby#36661), so each request has its
/// own limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeouts after which the engine counts as degraded: further requests have only [`DEGRADED_TIMEOUT`], otherwise hundreds of
/// containers would take the whole run. A long-running exec inside a container does not count.
const MAX_TIMEOUTS: usize = 16;

/// Time of all requests to the engine of another user together; further ones fail at once. Checks of the other engines read its
/// containers too, 16 at a time, so that it delays them by a second at most (judgement).
const FOREIGN_BUDGET: Duration = Duration::from_secs(16);

/// Timeout of a request to a degraded engine, many times the latency of a healthy one.
const DEGRADED_TIMEOUT: Duration = Duration::from_millis(100);

/// Timeout of reading the process of a container.
const PROOF_TIMEOUT: Duration = Duration::from_secs(1);

/// Concurrent requests: enough to hide latency, few enough not to overload a busy engine.
const PARALLEL_REQUESTS: usize = 16;

/// A client of the engine. Reads are shared within a run.
#[derive(Debug)]
pub struct Docker {
    client: bollard::Docker,
    /// Timeout of a request.
    request_timeout: Duration,
    endpoint: Endpoint,
    api: api::Api,
    listener: Listener,
    is_podman: bool,
    redactor: Arc<Redactor>,
    permits: Semaphore,
    /// Requests that timed out.
    unanswered: AtomicUsize,
    /// Milliseconds that its requests have taken together.
    spent_ms: AtomicU64,
    /// Bytes of the logs that were read.
    log_bytes: AtomicUsize,
    inspected: Memo<String, Result<Arc<Inspected>, ProbeError>>,
    events: Memo<(), Result<Arc<Vec<Event>>, ProbeError>>,
    event_memory: Memo<(), Result<Arc<EventMemory>, ProbeError>>,
    images: Memo<String, Result<Option<Image>, ProbeError>>,
    disk_usage: Memo<(), Result<Arc<DiskUsage>, ProbeError>>,
    settings: Memo<(), Result<Arc<EngineSettings>, ProbeError>>,
    networks: Memo<(), Result<Arc<Vec<Network>>, ProbeError>>,
    output: Memo<String, Result<Arc<ContainerLog>, ProbeError>>,
    /// Other engines, which are used through this handle.
    peers: OnceLock<peers::Peers>,
    placement: OnceLock<Placement>,
}

/// Settings of the engine (`GET /info`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    /// Data directory with images, containers and volumes; empty if not reported.
    pub data_root: String,
    /// Containers keep running while the engine restarts.
    pub live_restore: bool,
    /// It runs as an ordinary user, in its own network namespace.
    pub rootless: bool,
    /// Processor architecture of its machine: `x86_64`; with Podman `amd64`. Empty if not reported.
    pub architecture: String,
    /// Networks from which it assigns subnets, each with the prefix length of a subnet (`default-address-pools`); empty for its
    /// own ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address_pools: Vec<(String, u8)>,
}

/// An image of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// Processor architecture (`amd64`, `arm64`); empty if the image does not name one.
    pub architecture: String,
    /// `ENV`, which may contain secrets.
    pub(super) environment: Vec<String>,
}

/// Output of a container since a given time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLog {
    /// Its standard output; all output if it has a terminal.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// The output was truncated.
    pub cut: bool,
}

/// Size limit of a container's log, in bytes.
const MAX_LOG_BYTES: usize = 32 << 20;

/// Limit of listed containers of another user's engine.
const MAX_LISTED_OF_USER: usize = 1000;

/// Size limit of a program's output, in bytes.
const MAX_EXEC_OUTPUT_BYTES: usize = 1 << 20;

/// Result of a program run inside a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecResult {
    /// Its exit code, if the engine reports it.
    pub code: Option<i64>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Result of `inspect`. The environment and the arguments contain secrets; they are neither printed nor kept.
struct Inspected {
    container: Arc<Container>,
    environment: Vec<String>,
    arguments: Vec<String>,
    working_directory: String,
}

impl std::fmt::Debug for Inspected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.container.fmt(f)
    }
}

impl Docker {
    /// The bollard client, for actions of the guard. Probes do not use it.
    #[must_use]
    pub fn client(&self) -> &bollard::Docker {
        &self.client
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The process that listens on the endpoint.
    #[must_use]
    pub fn listener(&self) -> Listener {
        self.listener
    }

    /// Whether the engine is Podman, also behind Docker's socket (package podman-docker).
    #[must_use]
    pub fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// All containers, running or not.
    pub async fn list(&self) -> Result<Vec<ContainerRef>, ProbeError> {
        let list = self.read("the list of containers", "/containers/json?all=true").await?;
        let gaps = Gaps::new("list of containers");
        let limit = if self.endpoint.is_of_user() { MAX_LISTED_OF_USER } else { usize::MAX };
        let listed: Vec<swarm::Listed> = Pick::new(&list, &gaps).items().iter().filter_map(inspect::listed).take(limit).collect();
        self.add_gaps(gaps);
        let containers = swarm::without_history(listed, clock::now()).into_iter().map(|c| c.container);
        Ok(containers.inspect(|c| self.redactor.register_name(&c.name)).collect())
    }

    /// One container. Returns [`ProbeError::Skip`] if it was removed between list and inspect.
    pub async fn inspect(&self, id: &str) -> Result<Arc<Container>, ProbeError> {
        Ok(self.inspected(id).await?.container.clone())
    }

    async fn inspected(&self, id: &str) -> Result<Arc<Inspected>, ProbeError> {
        let engine = self.of(id);
        engine.inspected.get(id.to_owned(), || async { engine.inspect_proven(id).await.map(Arc::new) }).await
    }

    /// One container, read again even if it was read before in this run: for a second sample.
    pub async fn inspect_now(&self, id: &str) -> Result<Arc<Container>, ProbeError> {
        Ok(self.of(id).inspect_proven(id).await?.container)
    }

    async fn inspect_proven(&self, id: &str) -> Result<Inspected, ProbeError> {
        let mut inspected = self.inspect_unproven(id).await?;
        let mut proof = self.prove(&inspected.container).await;
        if proof == Proof::Missing && self.listener.is_here {
            // it exited in between, or the engine has not noticed yet
            inspected = self.inspect_unproven(id).await?;
            proof = self.prove(&inspected.container).await;
        }
        if proof != Proof::Proven {
            inspected.container.state.pid = 0;
            inspected.container.pid_unproven = proof == Proof::Unproven || !self.listener.is_here;
        }
        let Inspection { mut container, environment, arguments, working_directory } = inspected;
        self.confine(&mut container);
        Ok(Inspected { container: Arc::new(container), environment, arguments, working_directory })
    }

    /// Whether the PID reported for a container is one of its processes on this host; also proven for a container without a
    /// process.
    async fn prove(&self, container: &Container) -> Proof {
        if container.state.pid == 0 {
            return Proof::Proven;
        }
        let Ok(pid) = i32::try_from(container.state.pid) else { return Proof::Unproven };
        let claim = Claim { id: container.id.clone(), pid, started_at: container.state.started_at };
        let listener = self.listener;
        let proving =
            blocking::run("a container's process", "/proc", PROOF_TIMEOUT, move |io| process::prove(io, &claim, listener));
        proving.await.unwrap_or(Proof::Unproven)
    }

    async fn inspect_unproven(&self, id: &str) -> Result<Inspection, ProbeError> {
        let subject = format!("container {}", id.get(..12).unwrap_or(id));
        let response = self.read(&subject, &format!("/containers/{}/json", api::encoded(id))).await?;
        let mut inspection = inspect::inspection(&response, &self.redactor)
            .map_err(|why| ProbeError::failed(subject, self.endpoint.to_string(), &self.redactor.scrub(&why)))?;
        self.redactor.learn_environment(inspection.environment.iter().map(String::as_str));
        for gap in &mut inspection.container.gaps {
            *gap = self.redactor.scrub(gap);
        }
        Ok(inspection)
    }

    /// The environment of a container. Only for logins to the servers that run in it.
    pub(super) async fn environment(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        Ok(self.inspected(id).await?.environment.clone())
    }

    /// Its arguments, for the same purpose.
    pub(super) async fn arguments(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        Ok(self.inspected(id).await?.arguments.clone())
    }

    /// The directory in which its program is started; empty for the root directory.
    pub(super) async fn working_directory(&self, id: &str) -> Result<String, ProbeError> {
        Ok(self.inspected(id).await?.working_directory.clone())
    }

    /// Runs a program inside a container as `user` (`uid:gid` there) with `environment` (`NAME=value`) in addition to the
    /// container's own, for facts that only its own tools report.
    pub async fn exec(
        &self,
        id: &str,
        user: &str,
        argv: &[&str],
        environment: &[String],
        timeout: Duration,
    ) -> Result<ExecResult, ProbeError> {
        let subject = format!("`{}` in container {}", argv.join(" "), id.get(..12).unwrap_or(id));
        let options = ExecConfig {
            cmd: Some(argv.iter().map(|a| (*a).to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(user.to_owned()),
            env: Some(environment.to_vec()),
            privileged: Some(false),
            ..ExecConfig::default()
        };
        let engine = self.of(id);
        let read = || async {
            let exec = engine.client.create_exec(id, options).await?;
            let mut executed = ExecResult::default();
            if let StartExecResults::Attached { mut output, .. } = engine.client.start_exec(&exec.id, None).await? {
                while let Some(piece) = output.next().await {
                    let piece = piece?;
                    let into = match piece {
                        bollard::container::LogOutput::StdErr { .. } => &mut executed.stderr,
                        _ => &mut executed.stdout,
                    };
                    into.push_str(&String::from_utf8_lossy(piece.into_bytes().as_ref()));
                    if executed.stdout.len() + executed.stderr.len() > MAX_EXEC_OUTPUT_BYTES {
                        break;
                    }
                }
            }
            executed.code = engine.client.inspect_exec(&exec.id).await?.exit_code;
            Ok::<_, bollard::errors::Error>(executed)
        };
        engine.request_within(|| timeout, &subject, read).await
    }

    /// Whether the environment of a container contains one of these hosts: `CACHE_HOST=cache`, `redis://:secret@cache:6379/0`.
    pub async fn names_host(&self, id: &str, hosts: &[&str]) -> bool {
        let Ok(environment) = self.environment(id).await else { return false };
        let values = environment.iter().filter_map(|e| Some(e.split_once('=')?.1));
        values.into_iter().any(|value| value.split([',', ';', ' ']).any(|part| hosts.contains(&Address::parse(part).host())))
    }

    /// Whether a network has no egress (`--internal`). Old engines give its containers a default route nevertheless.
    pub async fn is_internal(&self, network: &str) -> Result<bool, ProbeError> {
        Ok(self.networks().await?.iter().any(|n| n.name == network && n.internal))
    }

    /// The id of the image that a reference points to, or `None` if it points to none.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>, ProbeError> {
        Ok(self.image(reference).await?.map(|image| image.id).filter(|id| !id.is_empty()))
    }

    /// The image that a reference or an id points to, or `None` if it points to none.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, ProbeError> {
        self.images
            .get(reference.to_owned(), || async {
                let path = format!("/images/{}/json", api::encoded(reference));
                match self.read(&format!("image {reference}"), &path).await {
                    Ok(image) => {
                        let gaps = Gaps::default();
                        let image = Pick::new(&image, &gaps);
                        let text = |name: &str| image.text(name).unwrap_or_default();
                        let environment = image.get("Config").texts("Env");
                        Ok(Some(Image { id: inspect::image_id(&text("Id")), architecture: text("Architecture"), environment }))
                    }
                    Err(ProbeError::Skip(_)) => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .await
    }

    /// The last `lines` lines of a container's log, each at most 500 characters, oldest first.
    pub async fn log_tail(&self, id: &str, lines: u16) -> Result<Vec<String>, ProbeError> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string());
        let subject = format!("the log of container {}", id.get(..12).unwrap_or(id));
        let read = || async {
            let mut text = Vec::new();
            let mut stream = self.of(id).client.logs(id, Some(options.build()));
            while let Some(chunk) = stream.next().await {
                text.extend_from_slice(chunk?.as_ref());
                // a single line can be megabytes long
                if text.len() > 1 << 20 {
                    break;
                }
            }
            Ok::<_, bollard::errors::Error>(text)
        };
        let text = self.of(id).request(&subject, read).await?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(|l| l.trim_end().chars().take(500).collect::<String>())
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// Output of a container since `since`, at most the last `max_lines` lines: the engine finds the end of a long log
    /// immediately, but earlier parts only by reading it. Read once per run: later calls return the same log, regardless of
    /// `since`.
    pub async fn log_since(&self, id: &str, since: jiff::Timestamp, max_lines: u32) -> Result<Arc<ContainerLog>, ProbeError> {
        self.output.get(id.to_owned(), || async { self.log_since_now(id, since, max_lines).await.map(Arc::new) }).await
    }

    /// [`Docker::log_since`], read again for every call.
    pub async fn log_since_now(&self, id: &str, since: jiff::Timestamp, max_lines: u32) -> Result<ContainerLog, ProbeError> {
        let since = i32::try_from(since.as_second()).unwrap_or(0);
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).since(since).tail(&max_lines.to_string()).build();
        let subject = format!("the log of container {}", id.get(..12).unwrap_or(id));
        let engine = self.of(id);
        let read = || async {
            let mut log = ContainerLog::default();
            let mut stream = engine.client.logs(id, Some(options));
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                let into = match piece {
                    bollard::container::LogOutput::StdErr { .. } => &mut log.stderr,
                    _ => &mut log.stdout,
                };
                let bytes = piece.into_bytes();
                into.extend_from_slice(bytes.as_ref());
                let all = engine.log_bytes.fetch_add(bytes.len(), Ordering::Relaxed).saturating_add(bytes.len());
                // the logs are kept for the run: those of another user's engine have one limit together
                let exhausted = engine.endpoint.is_of_user() && all > MAX_LOG_BYTES;
                if exhausted || log.stdout.len() + log.stderr.len() > MAX_LOG_BYTES {
                    log.cut = true;
                    break;
                }
            }
            Ok::<_, bollard::errors::Error>(log)
        };
        engine.request(&subject, read).await
    }

    /// Paths that a container has added to its writable layer. The engine walks the layer for this, so call it only for a
    /// container selected by the user.
    pub async fn added_files(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        let subject = format!("the files of container {}", id.get(..12).unwrap_or(id));
        let changes = self.of(id).read(&subject, &format!("/containers/{}/changes", api::encoded(id))).await?;
        let gaps = Gaps::default();
        // kinds: 0 modified, 1 added, 2 deleted (moby api/types/container)
        let added = |change: &Pick<'_>| if change.int("Kind") == Some(1) { change.text("Path") } else { None };
        Ok(Pick::new(&changes, &gaps).items().iter().filter_map(added).collect())
    }

    /// Events of the last hour: an engine keeps at most 256 since its own start (moby daemon/events).
    pub async fn events(&self) -> Result<Arc<Vec<Event>>, ProbeError> {
        self.events.get((), || async { self.all_events(events::an_hour_ago()).await.map(Arc::new) }).await
    }

    /// All events that this engine has, for an end of a container without a reason in those of the last hour. Other engines have their
    /// own: see [`Docker::of`].
    pub async fn event_memory(&self, systemd: Option<&Systemd>) -> Result<Arc<EventMemory>, ProbeError> {
        self.event_memory.get((), || async { events::memory(self, systemd).await.map(Arc::new) }).await
    }

    /// Events since then; the engine keeps as many as documented at [`Docker::events`].
    pub async fn events_since(&self, since: jiff::Timestamp) -> Result<Vec<Event>, ProbeError> {
        self.all_events(since).await
    }

    /// The directory in which the engine keeps images, containers and volumes, if that is on this host.
    pub async fn data_root(&self) -> Result<String, ProbeError> {
        if !self.is_local() {
            return Err(ProbeError::Skip("the data directory of the engine is not that of this host's engine".to_owned()));
        }
        let missing = || ProbeError::failed("the engine's data directory", self.endpoint.to_string(), "not reported");
        let root = self.settings().await?.data_root.clone();
        if root.is_empty() { Err(missing()) } else { Ok(root) }
    }

    /// Settings of the engine.
    pub async fn settings(&self) -> Result<Arc<EngineSettings>, ProbeError> {
        let read = || async {
            let info = self.read("the engine's settings", "/info").await?;
            let gaps = Gaps::new("settings of the engine");
            let settings = engine_settings(&Pick::new(&info, &gaps));
            self.add_gaps(gaps);
            Ok(Arc::new(settings))
        };
        self.settings.get((), read).await
    }

    /// The networks of all engines, sorted by name; those of this engine first among equal names.
    pub async fn networks(&self) -> Result<Arc<Vec<Network>>, ProbeError> {
        let own = self.own_networks().await?;
        if self.engines().count() == 1 {
            return Ok(own);
        }
        let mut all = (*own).clone();
        for engine in self.engines().skip(1) {
            match engine.own_networks().await {
                Ok(networks) => all.extend(networks.iter().cloned()),
                Err(e) if engine.is_local() => return Err(e),
                // another user must not decide whether the networks of this host are known
                Err(e) => self.api.add_gaps([e.to_string()]),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Arc::new(all))
    }

    /// `GET /system/df`: slow on large hosts, so it has a longer timeout.
    pub async fn disk_usage(&self) -> Result<Arc<DiskUsage>, ProbeError> {
        self.disk_usage.get((), || async { disk_usage::read(self).await.map(Arc::new) }).await
    }
}

/// The settings in `GET /info`.
fn engine_settings(info: &Pick<'_>) -> EngineSettings {
    let text = |name: &str| info.text(name).unwrap_or_default();
    let pool = |pool: &Pick<'_>| {
        let size = pool.int("Size").and_then(|size| u8::try_from(size).ok())?;
        Some((pool.text("Base")?, size))
    };
    let rootless = |option: &String| option.split(',').any(|part| matches!(part.trim(), "name=rootless" | "rootless"));
    EngineSettings {
        data_root: text("DockerRootDir"),
        live_restore: info.flag("LiveRestoreEnabled").unwrap_or(false),
        rootless: info.texts("SecurityOptions").iter().any(rootless) || info.flag("Rootless").unwrap_or(false),
        architecture: text("Architecture"),
        address_pools: info.list("DefaultAddressPools").iter().filter_map(pool).collect(),
    }
}
