//! The container engine: Docker, or Podman speaking its API.

mod compose;
mod connect;
mod container;
mod daemon;
mod disk_usage;
mod events;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod health_test;
mod locate;
mod network;
mod process;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::{ContainerSummary, ExecConfig};
use bollard::query_parameters::{InspectContainerOptions, LogsOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::{Memo, ProbeError, Redactor, blocking, lag};
use crate::model::ContainerRef;
use process::{Claim, Proof};

pub use compose::{dependants, depends_on};
pub use connect::{Endpoint, candidates, connect, is_podman_socket};
pub use container::{Container, Health, HealthEntry, HealthTest, LogConfig, Mount, PortMap, RestartPolicy, State, parse_time};
pub(super) use daemon::configuration;
pub use daemon::{Daemon, daemon};
pub use disk_usage::{DiskUsage, UsedImage};
pub use events::Event;
pub use locate::{Located, locate};
pub use network::Network;
pub use process::Listener;

/// Docker's own name server, in every container of a network that somebody made.
pub const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// How long one request may take at most. `docker ps` and `inspect` can hang on one container's lock (moby#36661): each request has its own limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// An engine that has not answered this many requests in time is ill: each further one has only [`HASTE`], or hundreds of containers
/// would take the whole run. A program that runs long inside a container is not the engine's fault, and does not count.
const ILL: usize = 16;

/// Many times what a healthy engine takes to answer.
const HASTE: Duration = Duration::from_millis(100);

/// How long reading the process of a container may take.
const PROOF_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests under way at once: enough to hide latency, few enough not to disturb a busy engine.
const PARALLEL_REQUESTS: usize = 16;

/// A connected engine. Reads are shared within a run.
#[derive(Debug)]
pub struct Docker {
    client: bollard::Docker,
    /// How long one request may take.
    request_timeout: Duration,
    endpoint: Endpoint,
    listener: Listener,
    is_podman: bool,
    redactor: Arc<Redactor>,
    permits: Semaphore,
    /// Requests that were not answered in time.
    unanswered: AtomicUsize,
    inspected: Memo<String, Result<Arc<Inspected>, ProbeError>>,
    events: Memo<(), Result<Arc<Vec<Event>>, ProbeError>>,
    image_ids: Memo<String, Result<Option<String>, ProbeError>>,
    disk_usage: Memo<(), Result<Arc<DiskUsage>, ProbeError>>,
    settings: Memo<(), Result<Arc<EngineSettings>, ProbeError>>,
    networks: Memo<(), Result<Arc<Vec<Network>>, ProbeError>>,
    output: Memo<String, Result<Arc<ContainerLog>, ProbeError>>,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    /// Where images, containers and volumes are; empty when it does not say.
    pub data_root: String,
    /// Containers outlive a restart of the engine.
    pub live_restore: bool,
    /// It runs as an ordinary user, in a network namespace of its own.
    pub rootless: bool,
}

/// What a container printed since a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLog {
    /// Its standard output; everything when it has a terminal.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// There was more than was read.
    pub cut: bool,
}

/// What is read of a container's output at most, in bytes.
const MOST_OUTPUT: usize = 32 << 20;

/// What is read of a program's output, in bytes.
const LARGEST_OUTPUT: usize = 1 << 20;

/// How a program inside a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code, when the engine knows it.
    pub code: Option<i64>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// What one look at a container tells. What it is started with holds secrets: that is neither printed nor kept.
struct Inspected {
    container: Arc<Container>,
    environment: Vec<String>,
    arguments: Vec<String>,
}

/// The same before the container's process is proven.
struct Looked {
    container: Container,
    environment: Vec<String>,
    arguments: Vec<String>,
}

impl std::fmt::Debug for Inspected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.container.fmt(f)
    }
}

/// The host in `host`, `host:port`, `scheme://user:password@host:port/path`.
fn host_in(value: &str) -> &str {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(':').next().unwrap_or_default()
}

impl Docker {
    /// The client itself, for the actions of the guard. Probes do not use it.
    #[must_use]
    pub fn client(&self) -> &bollard::Docker {
        &self.client
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The process that listens there.
    #[must_use]
    pub fn listener(&self) -> Listener {
        self.listener
    }

    /// Whether it is Podman, also behind Docker's socket (the package podman-docker).
    #[must_use]
    pub fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// All containers, running or not.
    pub async fn list(&self) -> Result<Vec<ContainerRef>, ProbeError> {
        // with an end: the client library keeps what comes, and what does not end fills the memory
        let path = format!("/v{}/containers/json?all=true", self.client.client_version());
        let list: Vec<ContainerSummary> = self.endpoint.get_json("the list of containers", &path, self.request_timeout).await?;
        Ok(list.into_iter().filter_map(container::reference).inspect(|c| self.redactor.know_name(&c.name)).collect())
    }

    /// One container. `Ok(None)`-like absence is [`ProbeError::Skip`]: it vanished between list and inspect.
    pub async fn inspect(&self, id: &str) -> Result<Arc<Container>, ProbeError> {
        Ok(self.inspected(id).await?.container.clone())
    }

    async fn inspected(&self, id: &str) -> Result<Arc<Inspected>, ProbeError> {
        self.inspected.get(id.to_owned(), || async { self.look(id).await.map(Arc::new) }).await
    }

    /// One container, read again even if this run has read it before: for a second sample.
    pub async fn inspect_now(&self, id: &str) -> Result<Arc<Container>, ProbeError> {
        Ok(self.look(id).await?.container)
    }

    async fn look(&self, id: &str) -> Result<Inspected, ProbeError> {
        let mut inspected = self.look_once(id).await?;
        let mut proof = self.prove(&inspected.container).await;
        if proof == Proof::Missing && self.listener.is_here {
            // it ended in between, or the engine has not noticed that it did
            inspected = self.look_once(id).await?;
            proof = self.prove(&inspected.container).await;
        }
        if proof != Proof::Proven {
            inspected.container.state.pid = 0;
            inspected.container.pid_unproven = proof == Proof::Unproven || !self.listener.is_here;
        }
        let Looked { container, environment, arguments } = inspected;
        Ok(Inspected { container: Arc::new(container), environment, arguments })
    }

    /// Whether the process number of a container is that of a process of it here; proven also without one.
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

    async fn look_once(&self, id: &str) -> Result<Looked, ProbeError> {
        let what = format!("container {}", id.get(..12).unwrap_or(id));
        let response = self.ask(&what, || self.client.inspect_container(id, None::<InspectContainerOptions>)).await?;
        let environment = response.config.as_ref().and_then(|c| c.env.clone()).unwrap_or_default();
        self.redactor.learn_environment(environment.iter().map(String::as_str));
        let arguments = response.args.clone().unwrap_or_default();
        Ok(Looked { container: container::facts(response, &self.redactor), environment, arguments })
    }

    /// The environment a container is started with. For logging in to what runs in it, and for nothing else.
    pub(super) async fn environment(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        Ok(self.inspected(id).await?.environment.clone())
    }

    /// Its arguments, for the same.
    pub(super) async fn arguments(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        Ok(self.inspected(id).await?.arguments.clone())
    }

    /// Runs a program inside a container as `user` (`uid:gid` there) with `environment` (`NAME=value`) besides the container's own: for
    /// facts that only its own tools report.
    pub async fn exec(
        &self,
        id: &str,
        user: &str,
        argv: &[&str],
        environment: &[String],
        patience: Duration,
    ) -> Result<Executed, ProbeError> {
        let what = format!("`{}` in container {}", argv.join(" "), id.get(..12).unwrap_or(id));
        let options = ExecConfig {
            cmd: Some(argv.iter().map(|a| (*a).to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(user.to_owned()),
            env: Some(environment.to_vec()),
            privileged: Some(false),
            ..ExecConfig::default()
        };
        let read = || async {
            let exec = self.client.create_exec(id, options).await?;
            let mut executed = Executed::default();
            if let StartExecResults::Attached { mut output, .. } = self.client.start_exec(&exec.id, None).await? {
                while let Some(piece) = output.next().await {
                    let piece = piece?;
                    let into = match piece {
                        bollard::container::LogOutput::StdErr { .. } => &mut executed.stderr,
                        _ => &mut executed.stdout,
                    };
                    into.push_str(&String::from_utf8_lossy(piece.into_bytes().as_ref()));
                    if executed.stdout.len() + executed.stderr.len() > LARGEST_OUTPUT {
                        break;
                    }
                }
            }
            executed.code = self.client.inspect_exec(&exec.id).await?.exit_code;
            Ok::<_, bollard::errors::Error>(executed)
        };
        self.ask_for(|| patience, &what, read).await
    }

    /// Whether the environment of a container names one of these as a host: `CACHE_HOST=cache`, `redis://:secret@cache:6379/0`.
    pub async fn names_host(&self, id: &str, hosts: &[&str]) -> bool {
        let Ok(environment) = self.environment(id).await else { return false };
        let values = environment.iter().filter_map(|e| Some(e.split_once('=')?.1));
        values.into_iter().any(|value| value.split([',', ';', ' ']).any(|part| hosts.contains(&host_in(part))))
    }

    /// Whether a network was made without a way out (`--internal`). Old engines give its containers a default route all the same.
    pub async fn is_internal(&self, network: &str) -> Result<bool, ProbeError> {
        Ok(self.networks().await?.iter().any(|n| n.name == network && n.internal))
    }

    /// The id of the image a reference points to now; none when it points to nothing.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>, ProbeError> {
        self.image_ids
            .get(reference.to_owned(), || async {
                match self.ask(&format!("image {reference}"), || self.client.inspect_image(reference)).await {
                    Ok(image) => Ok(image.id),
                    Err(ProbeError::Skip(_)) => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .await
    }

    /// The last `lines` lines of a container's log, each at most 500 characters, oldest first.
    /// With `until` (seconds since the epoch) the last lines before that moment: the log of the previous run.
    pub async fn log_tail(&self, id: &str, lines: u16, until: Option<i64>) -> Result<Vec<String>, ProbeError> {
        let mut options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string());
        if let Some(until) = until.and_then(|t| i32::try_from(t).ok()) {
            options = options.until(until);
        }
        let what = format!("the log of container {}", id.get(..12).unwrap_or(id));
        let read = || async {
            let mut text = Vec::new();
            let mut stream = self.client.logs(id, Some(options.build()));
            while let Some(chunk) = stream.next().await {
                text.extend_from_slice(chunk?.as_ref());
                // a single line can be megabytes long
                if text.len() > 1 << 20 {
                    break;
                }
            }
            Ok::<_, bollard::errors::Error>(text)
        };
        let text = self.ask(&what, read).await?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(|l| l.trim_end().chars().take(500).collect::<String>())
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// What a container printed since `since`, the last `most` lines at most: the engine finds the end of a long log at once, and
    /// what lies before only by reading it. Read once per run: whoever asks next gets the same, whatever their `since`.
    pub async fn log_since(&self, id: &str, since: jiff::Timestamp, most: u32) -> Result<Arc<ContainerLog>, ProbeError> {
        self.output.get(id.to_owned(), || async { self.log_since_now(id, since, most).await.map(Arc::new) }).await
    }

    /// [`Docker::log_since`], read for this question alone.
    pub async fn log_since_now(&self, id: &str, since: jiff::Timestamp, most: u32) -> Result<ContainerLog, ProbeError> {
        let since = i32::try_from(since.as_second()).unwrap_or(0);
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).since(since).tail(&most.to_string()).build();
        let what = format!("the log of container {}", id.get(..12).unwrap_or(id));
        let read = || async {
            let mut log = ContainerLog::default();
            let mut stream = self.client.logs(id, Some(options));
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                let into = match piece {
                    bollard::container::LogOutput::StdErr { .. } => &mut log.stderr,
                    _ => &mut log.stdout,
                };
                into.extend_from_slice(piece.into_bytes().as_ref());
                if log.stdout.len() + log.stderr.len() > MOST_OUTPUT {
                    log.cut = true;
                    break;
                }
            }
            Ok::<_, bollard::errors::Error>(log)
        };
        self.ask(&what, read).await
    }

    /// Paths a container has added to its own writable layer. The engine walks the layer for this: only for a container that was
    /// asked about.
    pub async fn added_files(&self, id: &str) -> Result<Vec<String>, ProbeError> {
        let what = format!("the files of container {}", id.get(..12).unwrap_or(id));
        let changes = self.ask(&what, || self.client.container_changes(id)).await?;
        let added = |c: &bollard::models::FilesystemChange| c.kind == bollard::models::ChangeType::_1;
        Ok(changes.unwrap_or_default().into_iter().filter(added).map(|c| c.path).collect())
    }

    /// What the engine remembers of the last hour: at most 256 events since its own start (moby daemon/events).
    pub async fn events(&self) -> Result<Arc<Vec<Event>>, ProbeError> {
        self.events.get((), || async { events::recent(self).await.map(Arc::new) }).await
    }

    /// What the engine remembers since then; it remembers no more than [`Docker::events`] says.
    pub async fn events_since(&self, since: jiff::Timestamp) -> Result<Vec<Event>, ProbeError> {
        events::since(self, since).await
    }

    /// The folder the engine keeps images, containers and volumes in.
    pub async fn data_root(&self) -> Result<String, ProbeError> {
        let missing = || ProbeError::failed("the engine's data folder", self.endpoint.to_string(), "it does not say");
        let root = self.settings().await?.data_root.clone();
        if root.is_empty() { Err(missing()) } else { Ok(root) }
    }

    /// What the engine says of itself.
    pub async fn settings(&self) -> Result<Arc<EngineSettings>, ProbeError> {
        let read = || async {
            let info = self.ask("the engine's settings", || self.client.info()).await?;
            Ok(Arc::new(EngineSettings {
                data_root: info.docker_root_dir.unwrap_or_default(),
                live_restore: info.live_restore_enabled.unwrap_or(false),
                rootless: info.security_options.unwrap_or_default().iter().any(|o| o == "name=rootless"),
            }))
        };
        self.settings.get((), read).await
    }

    /// Its networks, sorted by name.
    pub async fn networks(&self) -> Result<Arc<Vec<Network>>, ProbeError> {
        self.networks.get((), || async { network::list(self).await.map(Arc::new) }).await
    }

    /// `GET /system/df`: slow on large hosts, so it has a longer limit of its own.
    pub async fn disk_usage(&self) -> Result<Arc<DiskUsage>, ProbeError> {
        self.disk_usage.get((), || async { disk_usage::read(&self.endpoint).await.map(Arc::new) }).await
    }

    /// One request: bounded in time and in number, its error made ours.
    async fn ask<T, F>(&self, what: &str, request: impl FnOnce() -> F) -> Result<T, ProbeError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let patience = || if self.unanswered.load(Ordering::Relaxed) >= ILL { HASTE } else { self.request_timeout };
        let answer = self.ask_for(patience, what, request).await;
        if matches!(answer, Err(ProbeError::Timeout { .. })) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// [`Docker::ask`] with a patience of its own, which counts from when it is its turn.
    async fn ask_for<T, F>(
        &self,
        patience: impl FnOnce() -> Duration,
        what: &str,
        request: impl FnOnce() -> F,
    ) -> Result<T, ProbeError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        // never closed, so acquiring cannot fail
        let _permit = self.permits.acquire().await;
        let patience = patience();
        // made only now: thousands wait for their turn, and a request takes kilobytes
        match lag::timeout(patience, Box::pin(request())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(self.error(what, &e)),
            Err(_) => Err(ProbeError::Timeout { what: what.to_owned(), from: self.endpoint.to_string(), after: patience }),
        }
    }

    fn error(&self, what: &str, error: &bollard::errors::Error) -> ProbeError {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code: 404, .. } => ProbeError::Skip(format!("{what} is gone")),
            Error::DockerResponseServerError { status_code, message } => {
                ProbeError::failed(what, self.endpoint.to_string(), &format!("{} (HTTP {status_code})", message.trim()))
            }
            Error::RequestTimeoutError => {
                ProbeError::Timeout { what: what.to_owned(), from: self.endpoint.to_string(), after: self.request_timeout }
            }
            other => ProbeError::failed(what, self.endpoint.to_string(), &root_message(other)),
        }
    }
}

/// The innermost message: "Error in the hyper legacy client: client error (Connect)" hides the reason one level down.
fn root_message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    message
}
