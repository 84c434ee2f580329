//! Finding the socket of an engine and verifying its API before use.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bollard::{BollardRequest, ClientVersion};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::Docker;
use super::process::{Listener, is_in_own_namespace};
use super::secure::TlsHost;
use super::ssh::SshHost;
use super::tcp::TcpHost;
use crate::model::EngineState;
use crate::model::address::{last_port, split_scheme};
use crate::probe::io::confined::{Links, open_below};
use crate::probe::io::http;
use crate::probe::{Io, Memo, ProbeError, Redactor, blocking};

/// Timeout of `GET /_ping`; an engine that takes longer is reported as hung.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// API version of the client, and the oldest one it can use (Docker 1.12): every field that a version lacks is treated as absent.
const CLIENT_API: (usize, usize) = (1, 47);
const MIN_API: (usize, usize) = (1, 24);

/// Time limit of a request of the client for actions, in seconds; each caller has its own, lower one.
const CLIENT_TIMEOUT_S: u64 = 120;

/// Size limit of the answer of `GET /version`, in bytes.
const MAX_VERSION_BYTES: usize = 256 << 10;

/// A byte stream to an engine.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection over any transport.
pub(super) type Stream = Box<dyn Connection>;

/// Listen address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A unix socket below `/run/user/UID` of another user. What listens there is that user, or nothing is sent to it.
    OfUser {
        /// Path of the socket.
        path: PathBuf,
        /// User id.
        uid: u32,
    },
    /// `host:port`, plain HTTP.
    Tcp(Arc<TcpHost>),
    /// HTTP over TLS.
    Tls(Arc<TlsHost>),
    /// `docker system dial-stdio` on another machine.
    Ssh(Arc<SshHost>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) | Self::OfUser { path, .. } => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{}", host.address()),
            Self::Tls(host) => write!(f, "https://{}", host.address()),
            Self::Ssh(host) => write!(f, "{host}"),
        }
    }
}

impl Endpoint {
    /// Parses `unix:///path`, `tcp://host:port`, `https://host:port`, `ssh://[user@]host` or a path, like `DOCKER_HOST`. The files for
    /// TLS are in `DOCKER_CERT_PATH`, or in `~/.docker`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, None)
    }

    /// [`Endpoint::parse`] with the directory of the files for TLS: with it, `tcp://` is encrypted, too.
    pub(super) fn parse_with(text: &str, tls: Option<PathBuf>) -> Result<Self, String> {
        let (scheme, rest) = split_scheme(text);
        let address = rest.trim_end_matches('/');
        let has_port = last_port(address).is_some();
        match scheme {
            Some("unix") | None if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            Some("https") if has_port => Ok(Self::Tls(Arc::new(TlsHost::new(address.to_owned(), tls)))),
            Some("tcp" | "http") if has_port => Ok(match tls {
                Some(_) => Self::Tls(Arc::new(TlsHost::new(address.to_owned(), tls))),
                None => Self::Tcp(Arc::new(TcpHost::new(address.to_owned()))),
            }),
            Some("ssh") => SshHost::parse(rest).map(|host| Self::Ssh(Arc::new(host))),
            Some(scheme) => Err(format!(
                "{scheme}:// is not a supported endpoint; use unix:///path, tcp://host:port, https://host:port or ssh://user@host"
            )),
            None => Err("expected unix:///path, tcp://host:port, https://host:port or ssh://user@host".to_owned()),
        }
    }

    /// Whether the socket is that of another user.
    #[must_use]
    pub fn is_of_user(&self) -> bool {
        self.user().is_some()
    }

    /// Whether it is reached over a network: then nothing on this host is known to belong to it.
    #[must_use]
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Tls(_) | Self::Ssh(_))
    }

    /// A new connection to the engine. Its type is erased: the futures of all checks contain it.
    pub(super) fn open(&self, timeout: Duration) -> BoxFuture<'_, Result<Stream, http::HttpError>> {
        Box::pin(self.open_transport(timeout))
    }

    async fn open_transport(&self, timeout: Duration) -> Result<Stream, http::HttpError> {
        let closed = |e: std::io::Error| http::HttpError::Closed(e.to_string());
        match self {
            Self::Unix(path) | Self::OfUser { path, .. } => match connect_unix(path, self.user(), timeout).await {
                Ok(connected) => Ok(Box::new(connected.map_err(closed)?.0)),
                Err(ProbeError::Timeout { .. }) => Err(http::HttpError::Timeout),
                Err(e) => Err(http::HttpError::Closed(e.to_string())),
            },
            Self::Tls(host) => host.open(timeout).await,
            Self::Ssh(host) => host.open(timeout).await,
            Self::Tcp(host) => Ok(Box::new(host.open(timeout).await?)),
        }
    }

    /// The other user that has to listen, if the socket is that of another user.
    fn user(&self) -> Option<u32> {
        match self {
            Self::OfUser { uid, .. } => Some(*uid),
            _ => None,
        }
    }

    /// Value of the `Host` header.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) | Self::OfUser { .. } | Self::Ssh(_) => "docker",
            Self::Tcp(host) => host.address(),
            Self::Tls(host) => host.address(),
        }
    }

    async fn get(&self, path: &str, max_bytes: usize, timeout: Duration) -> Result<http::HttpResponse, http::HttpError> {
        let stream = self.open(timeout).await?;
        let answer = http::get(stream, self.host(), path, max_bytes, timeout).await;
        match (self, answer) {
            (Self::Ssh(host), Err(error)) => Err(host.explained(error).await),
            (_, answer) => answer,
        }
    }
}

/// Sockets to try without a configured endpoint, in this order: Docker (`docker`), rootless Docker, Podman, rootless Podman.
#[must_use]
pub fn candidates(docker: &Path, runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let mut paths = vec![docker.to_owned()];
    paths.extend(runtime_dir.map(|d| d.join("docker.sock")));
    paths.push(PathBuf::from("/run/podman/podman.sock"));
    paths.extend(runtime_dir.map(|d| d.join("podman/podman.sock")));
    paths
}

/// Whether a socket path is Podman's.
#[must_use]
pub fn is_podman_socket(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Unix(path) | Endpoint::OfUser { path, .. } if path.to_string_lossy().contains("podman"))
}

/// Answer of `GET /version`. Every field may be missing behind a proxy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineVersion {
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    components: Vec<Component>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Component {
    name: String,
}

/// Connects, and identifies the listening process. The path may be on a file system that hangs. With `user`, the path must be a
/// socket of this user without symbolic links, and its listener a process of this user: otherwise nothing is sent.
#[allow(clippy::disallowed_methods, reason = "inside blocking::run")]
async fn connect_unix(
    path: &Path,
    user: Option<u32>,
    timeout: Duration,
) -> Result<std::io::Result<(UnixStream, Listener)>, ProbeError> {
    let from = path.display().to_string();
    let (socket, runtime) = (path.to_owned(), tokio::runtime::Handle::current());
    let connected = blocking::run("the engine's socket", &from, timeout, move |io| {
        let opened = user.map(|uid| open_socket_of(&socket, uid)).transpose()?;
        // the opened socket cannot be replaced by another one
        let socket = opened.as_ref().map_or(socket, |fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        let _entered = runtime.enter();
        let stream = UnixStream::from_std(stream)?;
        let listener = listener_of(io, &stream);
        if user.is_some_and(|uid| listener.uid != Some(uid)) {
            return Err(std::io::Error::other("another user listens on it"));
        }
        Ok((stream, listener))
    });
    connected.await
}

/// A handle of a socket that belongs to this user.
#[allow(clippy::disallowed_methods, reason = "inside blocking::run")]
fn open_socket_of(path: &Path, uid: u32) -> std::io::Result<OwnedFd> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let relative = path.strip_prefix("/").map_err(std::io::Error::other)?;
    let fd = open_below(&root, relative, OFlags::PATH | OFlags::NOFOLLOW, Links::Refused)?;
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != uid {
        return Err(std::io::Error::other("it is no socket of this user"));
    }
    Ok(fd)
}

fn listener_of(io: &Io, stream: &UnixStream) -> Listener {
    let unknown = Listener::default();
    let Ok(peer) = stream.peer_cred() else { return unknown };
    // 0 if the peer is in a PID namespace that is not below the own one
    let pid = peer.pid().filter(|pid| *pid > 0);
    Listener { pid, uid: Some(peer.uid()), is_here: pid.is_some_and(|pid| is_in_own_namespace(io, pid)), ..unknown }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Connects, measures the ping and negotiates the API version. The client is returned only if the engine responds. No request
/// takes longer than `limit`, now or later.
pub async fn connect(endpoint: &Endpoint, redactor: Arc<Redactor>, limit: Duration) -> (EngineState, Option<Arc<Docker>>) {
    match try_connect(endpoint, redactor, limit).await {
        Ok((state, docker)) => (state, Some(Arc::new(docker))),
        Err(state) => (state, None),
    }
}

async fn try_connect(
    endpoint: &Endpoint,
    redactor: Arc<Redactor>,
    limit: Duration,
) -> Result<(EngineState, Docker), EngineState> {
    let ping_timeout = PING_TIMEOUT.min(limit);
    let listener = listener(endpoint, ping_timeout).await?;
    let (ping, latency_ms) = ping(endpoint, ping_timeout).await?;
    let version = version(endpoint, &ping, ping_timeout).await?;
    let (major_version, minor_version) = negotiated(&version)?;
    let spoken = ClientVersion { major_version, minor_version };
    let client = match endpoint {
        Endpoint::Unix(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), CLIENT_TIMEOUT_S, &spoken),
        other => bollard::Docker::connect_with_custom_transport(
            transport(other.clone()),
            Some("http://docker"),
            CLIENT_TIMEOUT_S,
            &spoken,
        ),
    };
    let client = client.map_err(|e| EngineState::Garbage { error: e.to_string() })?;
    let mut docker = Docker::new(endpoint.clone(), client, (major_version, minor_version), redactor);
    docker.request_timeout = super::REQUEST_TIMEOUT.min(limit);
    docker.listener = if let Endpoint::Tcp(host) = endpoint { host.listener() } else { listener };
    docker.is_podman = is_podman(&version, &ping);
    let api = format!("{major_version}.{minor_version}");
    Ok((EngineState::Answers { version: version.version, api, latency_ms }, docker))
}

impl Docker {
    fn new(endpoint: Endpoint, client: bollard::Docker, version: (usize, usize), redactor: Arc<Redactor>) -> Self {
        Self {
            client,
            request_timeout: super::REQUEST_TIMEOUT,
            endpoint,
            api: super::api::Api::new(version),
            listener: Listener::default(),
            is_podman: false,
            redactor,
            permits: Semaphore::new(super::PARALLEL_REQUESTS),
            unanswered: std::sync::atomic::AtomicUsize::default(),
            spent_ms: std::sync::atomic::AtomicU64::default(),
            log_bytes: std::sync::atomic::AtomicUsize::default(),
            inspected: Memo::default(),
            events: Memo::default(),
            event_memory: Memo::default(),
            images: Memo::default(),
            disk_usage: Memo::default(),
            settings: Memo::default(),
            networks: Memo::default(),
            output: Memo::default(),
            peers: OnceLock::new(),
            placement: OnceLock::new(),
        }
    }

    /// A handle without a connection.
    #[cfg(test)]
    pub(super) fn for_test(endpoint: &str) -> Self {
        let endpoint = Endpoint::parse(endpoint).unwrap_or_else(|e| panic!("{e}"));
        let spoken = ClientVersion { major_version: 1, minor_version: 47 };
        let client =
            bollard::Docker::connect_with_custom_transport(transport(endpoint.clone()), Some("http://docker"), 1, &spoken);
        Self::new(endpoint, client.unwrap_or_else(|e| panic!("{e}")), (1, 47), Arc::default())
    }
}

/// The process that listens on a unix socket. That of a TCP socket is known after the first connection.
async fn listener(endpoint: &Endpoint, timeout: Duration) -> Result<Listener, EngineState> {
    let (Endpoint::Unix(path) | Endpoint::OfUser { path, .. }) = endpoint else {
        if let Endpoint::Tcp(host) = endpoint
            && let Err(error) = host.resolved(timeout).await
        {
            return Err(EngineState::Unsupported { error: format!("reading containers from {endpoint}: {error}") });
        }
        return Ok(Listener::default());
    };
    match connect_unix(path, endpoint.user(), timeout).await {
        Ok(Ok((_, listener))) => Ok(listener),
        Ok(Err(e)) => Err(match e.kind() {
            ErrorKind::NotFound => EngineState::Missing,
            ErrorKind::PermissionDenied => EngineState::Denied,
            ErrorKind::ConnectionRefused => EngineState::Refused,
            _ => EngineState::Garbage { error: e.to_string() },
        }),
        Err(ProbeError::Timeout { .. }) => Err(EngineState::Hung { after_ms: millis(timeout) }),
        Err(e) => Err(EngineState::Garbage { error: e.to_string() }),
    }
}

/// The answer of `GET /_ping`, and its time in milliseconds. A proxy may deny it: its status is not judged here.
async fn ping(endpoint: &Endpoint, timeout: Duration) -> Result<(http::HttpResponse, u64), EngineState> {
    let started = Instant::now();
    let answer = endpoint.get("/_ping", 64, timeout).await;
    let latency_ms = millis(started.elapsed());
    match answer {
        Ok(answer) if answer.status == 200 || is_denied(&answer) => Ok((answer, latency_ms)),
        Ok(answer) => Err(EngineState::Garbage { error: format!("GET /_ping returned HTTP {}", answer.status) }),
        Err(http::HttpError::Timeout) => Err(EngineState::Hung { after_ms: latency_ms }),
        Err(http::HttpError::Closed(e)) if e.contains("refused") => Err(EngineState::Refused),
        // a rejected certificate or login says nothing about the engine
        Err(http::HttpError::Closed(e)) if matches!(endpoint, Endpoint::Tls(_) | Endpoint::Ssh(_)) => {
            Err(EngineState::Unsupported { error: format!("reading containers from {endpoint}: {e}") })
        }
        Err(http::HttpError::Closed(e) | http::HttpError::NotHttp(e)) => Err(EngineState::Garbage { error: e }),
    }
}

/// Whether a proxy, or an authorization plugin, denies a request.
fn is_denied(answer: &http::HttpResponse) -> bool {
    matches!(answer.status, 401 | 403)
}

/// The version of the engine; from the headers of the ping if a proxy denies `GET /version`.
async fn version(endpoint: &Endpoint, ping: &http::HttpResponse, timeout: Duration) -> Result<EngineVersion, EngineState> {
    let answer = match endpoint.get("/version", MAX_VERSION_BYTES, timeout).await {
        Ok(answer) => answer,
        Err(http::HttpError::Timeout) => return Err(EngineState::Hung { after_ms: millis(timeout) }),
        Err(http::HttpError::Closed(e) | http::HttpError::NotHttp(e)) => return Err(EngineState::Garbage { error: e }),
    };
    if answer.status == 200 {
        let garbage = || EngineState::Garbage { error: "GET /version: not a Docker API response".to_owned() };
        return serde_json::from_str(&answer.body).map_err(|_| garbage());
    }
    match &ping.api_version {
        Some(api) => Ok(EngineVersion { version: "unknown".to_owned(), api_version: api.clone(), ..EngineVersion::default() }),
        None if is_denied(&answer) => {
            let error = format!(
                "reading containers from {endpoint}: GET /version is denied (HTTP {}); a socket proxy has to permit it, or /_ping",
                answer.status
            );
            Err(EngineState::Unsupported { error })
        }
        None => Err(EngineState::Garbage { error: format!("GET /version returned HTTP {}", answer.status) }),
    }
}

/// The version to use: the lower of the client's and the engine's, unless the engine requires a newer one.
fn negotiated(version: &EngineVersion) -> Result<(usize, usize), EngineState> {
    let Some(engine) = parse_version(&version.api_version) else {
        return Err(EngineState::Garbage { error: format!("API version {:?}", version.api_version) });
    };
    if engine < MIN_API {
        let error = format!("the engine has API version {}, older than 1.24 (Docker 1.12)", version.api_version);
        return Err(EngineState::Unsupported { error });
    }
    let oldest = parse_version(&version.min_api_version).unwrap_or(MIN_API);
    Ok(engine.min(CLIENT_API.max(oldest)))
}

fn is_podman(version: &EngineVersion, ping: &http::HttpResponse) -> bool {
    let by_header = ping.headers.iter().any(|(name, _)| name == "libpod-api-version");
    by_header || version.components.iter().any(|c| c.name.contains("Podman"))
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>>;

/// Requests of bollard over a connection that it cannot open itself; each has a connection of its own.
fn transport(endpoint: Endpoint) -> impl Fn(BollardRequest) -> Answer + Send + Sync + 'static {
    move |request| {
        let endpoint = endpoint.clone();
        Box::pin(async move { send(&endpoint, request).await })
    }
}

async fn send(endpoint: &Endpoint, request: BollardRequest) -> Result<Response<Incoming>, bollard::errors::Error> {
    let failed = |why: String| bollard::errors::Error::from(std::io::Error::other(why));
    let stream = endpoint.open(PING_TIMEOUT).await.map_err(|e| match e {
        http::HttpError::Timeout => bollard::errors::Error::RequestTimeoutError,
        http::HttpError::Closed(why) | http::HttpError::NotHttp(why) => failed(why),
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // ends with the response, or with the streams of an exec
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    parts.uri = target.parse().map_err(|_| failed(format!("invalid request target {target}")))?;
    parts.headers.insert(HOST, HeaderValue::from_str(endpoint.host()).map_err(|e| failed(e.to_string()))?);
    Ok(sender.send_request(Request::from_parts(parts, body)).await?)
}

pub(super) fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Endpoint {
        Endpoint::Tcp(Arc::new(TcpHost::new(address.to_owned())))
    }

    #[test]
    fn endpoints_parse_like_docker_host() {
        assert_eq!(Endpoint::parse("unix:///run/d.sock"), Ok(Endpoint::Unix("/run/d.sock".into())));
        assert_eq!(Endpoint::parse("/run/d.sock"), Ok(Endpoint::Unix("/run/d.sock".into())));
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:2375"), Ok(tcp("127.0.0.1:2375")));
        for bad in ["ssh://-host", "", "docker", "unix://relative", "tcp://", "https://host", "npipe:////./pipe/docker"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tcp_endpoint_has_a_port() {
        assert_eq!(Endpoint::parse("tcp://[::1]:2375/"), Ok(tcp("[::1]:2375")));
        for bad in ["tcp://[::1]", "tcp://host", "tcp://host:docker"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoint_is_displayed_as_it_is_parsed() {
        for text in ["https://db:2376", "ssh://deploy@db:22/run/docker.sock", "tcp://db:2375", "unix:///run/d.sock"] {
            assert_eq!(Endpoint::parse(text).map(|e| e.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn version_is_the_lower_one_unless_the_engine_requires_a_newer_one() {
        let of = |api: &str, min: &str| {
            negotiated(&EngineVersion { api_version: api.into(), min_api_version: min.into(), ..EngineVersion::default() })
        };
        assert_eq!((of("1.41", "1.12"), of("1.52", "1.44")), (Ok((1, 41)), Ok((1, 47))));
        assert_eq!((of("1.24", ""), of("1.60", "1.50")), (Ok((1, 24)), Ok((1, 50))));
        assert!(matches!(of("1.23", ""), Err(EngineState::Unsupported { .. })));
        assert!(matches!(of("", ""), Err(EngineState::Garbage { .. })));
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("1.9") < parse_version("1.41"));
        assert_eq!(parse_version("1.41"), Some((1, 41)));
        assert_eq!(parse_version("garbage"), None);
    }
}
