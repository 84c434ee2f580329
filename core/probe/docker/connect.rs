//! Finding the socket of an engine and verifying its API before use.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::ClientVersion;
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::Docker;
use super::process::{Listener, is_in_own_namespace};
use crate::model::EngineState;
use crate::model::address::{last_port, split_scheme};
use crate::probe::io::http;
use crate::probe::{Io, Memo, ProbeError, Redactor, blocking, lag};

/// Timeout of `GET /_ping`; an engine that takes longer is reported as hung.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// API version of the client, and the oldest one with all fields that are read (moby's own minimum).
const CLIENT_API: (usize, usize) = (1, 47);
const MIN_API: (usize, usize) = (1, 40);

/// Listen address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, plain HTTP.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// Parses `unix:///path`, `tcp://host:port`, `http://host:port` or a path, like `DOCKER_HOST`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = split_scheme(text);
        let address = rest.trim_end_matches('/');
        match scheme {
            Some("unix") | None if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            Some("tcp" | "http") if last_port(address).is_some() => Ok(Self::Tcp(address.to_owned())),
            Some(scheme) => Err(format!("{scheme}:// is not a supported endpoint; use unix:///path or tcp://host:port")),
            None => Err("expected unix:///path or tcp://host:port".to_owned()),
        }
    }

    async fn get(&self, path: &str, max_bytes: usize, timeout: Duration) -> Result<http::HttpResponse, http::HttpError> {
        let closed = |e: std::io::Error| http::HttpError::Closed(e.to_string());
        match self {
            Self::Unix(socket) => {
                let stream = match connect_unix(socket, timeout).await {
                    Ok(connected) => connected.map_err(closed)?.0,
                    Err(ProbeError::Timeout { .. }) => return Err(http::HttpError::Timeout),
                    Err(e) => return Err(http::HttpError::Closed(e.to_string())),
                };
                http::get(stream, "docker", path, max_bytes, timeout).await
            }
            Self::Tcp(address) => {
                let stream = lag::timeout(timeout, TcpStream::connect(address))
                    .await
                    .map_err(|_| http::HttpError::Timeout)?
                    .map_err(closed)?;
                http::get(stream, address, path, max_bytes, timeout).await
            }
        }
    }

    /// `GET path` as JSON, for responses that bollard cannot parse from every engine.
    pub(super) async fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<T, ProbeError> {
        const MAX_BODY_BYTES: usize = 64 << 20;
        match self.get(path, MAX_BODY_BYTES, timeout).await {
            Ok(a) if a.status == 200 => serde_json::from_str(&a.body)
                .map_err(|_| ProbeError::failed(subject, format!("{self}{path}"), "not a Docker API response")),
            Ok(a) => Err(ProbeError::failed(subject, format!("{self}{path}"), &format!("HTTP {}", a.status))),
            Err(http::HttpError::Timeout) => {
                Err(ProbeError::Timeout { subject: subject.to_owned(), from: self.to_string(), after: timeout })
            }
            Err(http::HttpError::Closed(e) | http::HttpError::NotHttp(e)) => {
                Err(ProbeError::failed(subject, format!("{self}{path}"), &e))
            }
        }
    }
}

/// Sockets to try without a configured endpoint, in this order: Docker, rootless Docker, Podman, rootless Podman.
#[must_use]
pub fn candidates(runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
    paths.extend(runtime_dir.map(|d| d.join("docker.sock")));
    paths.push(PathBuf::from("/run/podman/podman.sock"));
    paths.extend(runtime_dir.map(|d| d.join("podman/podman.sock")));
    paths
}

/// Whether a socket path is Podman's.
#[must_use]
pub fn is_podman_socket(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Unix(path) if path.to_string_lossy().contains("podman"))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineVersion {
    version: String,
    api_version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

/// Connects, and identifies the listening process. The path may be on a file system that hangs.
#[allow(clippy::disallowed_methods, reason = "inside blocking::run")]
async fn connect_unix(path: &Path, timeout: Duration) -> Result<std::io::Result<(UnixStream, Listener)>, ProbeError> {
    let from = path.display().to_string();
    let (socket, runtime) = (path.to_owned(), tokio::runtime::Handle::current());
    let connected = blocking::run("the engine's socket", &from, timeout, move |io| {
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        let _entered = runtime.enter();
        let stream = UnixStream::from_std(stream)?;
        let listener = listener_of(io, &stream);
        Ok((stream, listener))
    });
    connected.await
}

fn listener_of(io: &Io, stream: &UnixStream) -> Listener {
    let Ok(peer) = stream.peer_cred() else { return Listener::default() };
    // 0 if the peer is in a PID namespace that is not below the own one
    let pid = peer.pid().filter(|pid| *pid > 0);
    Listener { pid, uid: Some(peer.uid()), is_here: pid.is_some_and(|pid| is_in_own_namespace(io, pid)) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Connects, measures the ping and negotiates the API version. The client is returned only if the engine responds. No request
/// takes longer than `limit`, now or later.
pub async fn connect(endpoint: &Endpoint, redactor: Arc<Redactor>, limit: Duration) -> (EngineState, Option<Arc<Docker>>) {
    let ping_timeout = PING_TIMEOUT.min(limit);
    let mut listener = Listener::default();
    if let Endpoint::Unix(path) = endpoint {
        let connected = match connect_unix(path, ping_timeout).await {
            Ok(connected) => connected,
            Err(ProbeError::Timeout { .. }) => return (EngineState::Hung { after_ms: millis(ping_timeout) }, None),
            Err(e) => return (EngineState::Garbage { error: e.to_string() }, None),
        };
        match connected {
            Ok((_, of)) => listener = of,
            Err(e) if e.kind() == ErrorKind::NotFound => return (EngineState::Missing, None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return (EngineState::Denied, None),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => return (EngineState::Refused, None),
            Err(e) => return (EngineState::Garbage { error: e.to_string() }, None),
        }
    }
    let started = Instant::now();
    let ping = endpoint.get("/_ping", 64, ping_timeout).await;
    let latency_ms = millis(started.elapsed());
    match ping {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => return (EngineState::Garbage { error: format!("GET /_ping returned HTTP {}", answer.status) }, None),
        Err(http::HttpError::Timeout) => return (EngineState::Hung { after_ms: latency_ms }, None),
        Err(http::HttpError::Closed(e)) if e.contains("refused") => return (EngineState::Refused, None),
        Err(http::HttpError::Closed(e) | http::HttpError::NotHttp(e)) => return (EngineState::Garbage { error: e }, None),
    }
    let version: EngineVersion = match endpoint.get_json("the engine's version", "/version", ping_timeout).await {
        Ok(version) => version,
        Err(ProbeError::Timeout { .. }) => return (EngineState::Hung { after_ms: latency_ms }, None),
        Err(e) => return (EngineState::Garbage { error: e.to_string() }, None),
    };
    let Some(engine_api) = parse_version(&version.api_version) else {
        return (EngineState::Garbage { error: format!("API version {:?}", version.api_version) }, None);
    };
    if engine_api < MIN_API {
        let error = format!("API version {}, older than 1.40 (Docker 19.03)", version.api_version);
        return (EngineState::Garbage { error }, None);
    }
    let (major_version, minor_version) = engine_api.min(CLIENT_API);
    let spoken = ClientVersion { major_version, minor_version };
    let client = match endpoint {
        Endpoint::Unix(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), 120, &spoken),
        Endpoint::Tcp(address) => bollard::Docker::connect_with_http(&format!("http://{address}"), 120, &spoken),
    };
    match client {
        Ok(client) => {
            let docker = Docker {
                client,
                request_timeout: super::REQUEST_TIMEOUT.min(limit),
                endpoint: endpoint.clone(),
                listener,
                is_podman: version.components.iter().any(|c| c.name.contains("Podman")),
                redactor,
                permits: Semaphore::new(super::PARALLEL_REQUESTS),
                unanswered: std::sync::atomic::AtomicUsize::default(),
                inspected: Memo::default(),
                events: Memo::default(),
                images: Memo::default(),
                disk_usage: Memo::default(),
                settings: Memo::default(),
                networks: Memo::default(),
                output: Memo::default(),
            };
            let api = format!("{major_version}.{minor_version}");
            (EngineState::Answers { version: version.version, api, latency_ms }, Some(Arc::new(docker)))
        }
        Err(e) => (EngineState::Garbage { error: e.to_string() }, None),
    }
}

pub(super) fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_parse_like_docker_host() {
        assert_eq!(Endpoint::parse("unix:///run/d.sock"), Ok(Endpoint::Unix("/run/d.sock".into())));
        assert_eq!(Endpoint::parse("/run/d.sock"), Ok(Endpoint::Unix("/run/d.sock".into())));
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:2375"), Ok(Endpoint::Tcp("127.0.0.1:2375".into())));
        for bad in ["ssh://host", "", "docker", "unix://relative", "tcp://"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tcp_endpoint_has_a_port() {
        assert_eq!(Endpoint::parse("tcp://[::1]:2375/"), Ok(Endpoint::Tcp("[::1]:2375".into())));
        for bad in ["tcp://[::1]", "tcp://host", "tcp://host:docker"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("1.9") < parse_version("1.41"));
        assert_eq!(parse_version("1.41"), Some((1, 41)));
        assert_eq!(parse_version("garbage"), None);
    }
}
