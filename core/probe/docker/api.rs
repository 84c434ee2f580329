//! Requests to the Engine API: read as JSON over connections that are kept open, with typed errors of the engine.
//!
//! Reads do not use bollard's types, which lose a whole response for one value that they do not list.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::runtime::{self, Handle};

use super::connect::parse_version;
use super::{DEGRADED_TIMEOUT, Docker, Endpoint, FOREIGN_BUDGET, MAX_TIMEOUTS};
use crate::model::{Gaps, ends};
use crate::probe::io::http::HttpError;
use crate::probe::{ProbeError, lag};

/// Size limit of a response, in bytes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Size limit of a response of another user's engine, in bytes: that user decides what it contains, and its values take many times
/// that memory.
const MAX_BODY_BYTES_OF_USER: usize = 4 << 20;

/// Limit of a message of the engine, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// Time before a request is repeated that the engine failed to process: a container that vanishes needs a moment.
const REPEAT_DELAY: Duration = Duration::from_millis(50);

type Sender = SendRequest<Empty<Bytes>>;

/// An unsuccessful request to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// A response of the engine, or of a proxy before it, with an error status.
    Status {
        /// HTTP status.
        status: u16,
        /// Its message; empty if it has none.
        message: String,
    },
    /// No response in time.
    Timeout,
    /// No response, or one that is not understood.
    Other(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, message } if message.is_empty() => write!(f, "HTTP {status}"),
            Self::Status { status, message } => write!(f, "{message} (HTTP {status})"),
            Self::Timeout => f.write_str("the engine timed out; the operation may still complete"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ApiError {}

impl From<bollard::errors::Error> for ApiError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Status { status: status_code, message: message_of(&message) }
            }
            Error::RequestTimeoutError => Self::Timeout,
            other => Self::Other(with_sources(&other)),
        }
    }
}

impl From<HttpError> for ApiError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Timeout => Self::Timeout,
            HttpError::Closed(why) | HttpError::NotHttp(why) => Self::Other(why),
        }
    }
}

impl From<hyper::Error> for ApiError {
    fn from(error: hyper::Error) -> Self {
        Self::Other(with_sources(&error))
    }
}

/// The error with all its sources: "Error in the hyper legacy client: client error (Connect)" hides the reason in its source.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    message
}

/// The message in the body of an error: the `message` of Docker, with its `cause` of Podman, or the text of a proxy's page.
pub(super) fn message_of(body: &str) -> String {
    let body = body.trim();
    let message = match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let named = ["message", "cause", "error"].iter().find_map(|name| fields.get(*name)?.as_str());
            named.map_or_else(String::new, str::to_owned)
        }
        _ if body.starts_with('<') => without_tags(body),
        _ => body.to_owned(),
    };
    ends(message.trim(), MAX_MESSAGE_CHARS)
}

fn without_tags(page: &str) -> String {
    let texts = page.split('<').filter_map(|part| part.split_once('>').map(|(_, text)| text.trim()));
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Connections of an engine, its API version, and its answers that could not be read.
pub(super) struct Api {
    /// Major version times 65536 plus minor version; 0 for requests without a version.
    version: AtomicU32,
    /// Unused connections, each with the runtime that reads from it: with another one it would never answer.
    idle: Mutex<Vec<(runtime::Id, Sender)>>,
    gaps: Mutex<Vec<String>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Api {
    /// An API with this version.
    pub(super) fn new(version: (usize, usize)) -> Self {
        Self { version: AtomicU32::new(packed(version)), idle: Mutex::default(), gaps: Mutex::default() }
    }

    /// Its version: `1.47`.
    pub(super) fn version(&self) -> String {
        let version = self.version.load(Ordering::Relaxed);
        format!("{}.{}", version >> 16, version & 0xffff)
    }

    /// The body of `GET path`, which does not contain the version. A request that the engine fails to process is repeated once,
    /// and so is one with an API version that it rejects, with the version that it names.
    pub(super) async fn get(&self, endpoint: &Endpoint, path: &str, timeout: Duration) -> Result<Vec<u8>, ApiError> {
        let first = self.get_once(endpoint, path, timeout).await;
        match &first {
            Err(ApiError::Status { status: 500..=599, .. }) => tokio::time::sleep(REPEAT_DELAY).await,
            Err(ApiError::Status { status: 400, message }) if self.renegotiate(message) => {}
            _ => return first,
        }
        self.get_once(endpoint, path, timeout).await
    }

    async fn get_once(&self, endpoint: &Endpoint, path: &str, timeout: Duration) -> Result<Vec<u8>, ApiError> {
        let path = format!("/v{}{path}", self.version());
        if let Some(sender) = self.take_idle() {
            match self.exchange(sender, endpoint, &path).await {
                // the engine closed the idle connection
                Err(ApiError::Other(_)) => {}
                answer => return answer,
            }
        }
        let stream = endpoint.open(timeout).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // ends when the sender is dropped
        tokio::spawn(async move { drop(connection.await) });
        self.exchange(sender, endpoint, &path).await
    }

    /// An unused connection of this runtime.
    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Handle::current().id();
        let at = idle.iter().rposition(|(runtime, _)| *runtime == own)?;
        Some(idle.swap_remove(at).1)
    }

    async fn exchange(&self, mut sender: Sender, endpoint: &Endpoint, path: &str) -> Result<Vec<u8>, ApiError> {
        let request = hyper::Request::get(path)
            .header(HOST, endpoint.host())
            .header(USER_AGENT, concat!("opsctl/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|e| ApiError::Other(e.to_string()))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let limit = if endpoint.is_of_user() { MAX_BODY_BYTES_OF_USER } else { MAX_BODY_BYTES };
        let mut body = Vec::new();
        let mut frames = response.into_body();
        while let Some(frame) = frames.frame().await {
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                if body.len() + data.len() > limit {
                    return Err(ApiError::Status { status, message: format!("the response exceeds {} MiB", limit >> 20) });
                }
                body.extend_from_slice(data);
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((Handle::current().id(), sender));
        if (200..300).contains(&status) {
            Ok(body)
        } else {
            Err(ApiError::Status { status, message: message_of(&String::from_utf8_lossy(&body)) })
        }
    }

    /// Adopts the version in "client version 1.47 is too new. Maximum supported API version is 1.41", or "… is too old. Minimum
    /// supported API version is 1.52". Returns whether the version changed.
    pub(super) fn renegotiate(&self, message: &str) -> bool {
        let Some((_, named)) = message.split_once("supported API version is ") else { return false };
        let end = named.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(named.len());
        let Some(version) = parse_version(named[..end].trim_end_matches('.')) else { return false };
        self.version.swap(packed(version), Ordering::Relaxed) != packed(version)
    }

    /// Records what could not be read in an answer about several objects.
    pub(super) fn add_gaps(&self, found: impl IntoIterator<Item = String>) {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        for gap in found {
            if !gaps.contains(&gap) {
                gaps.push(gap);
            }
        }
    }

    fn gaps(&self) -> Vec<String> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn packed((major, minor): (usize, usize)) -> u32 {
    let half = |n: usize| u32::from(u16::try_from(n).unwrap_or(u16::MAX));
    half(major) << 16 | half(minor)
}

/// A segment of a path, or a parameter of a query, in percent-encoding (RFC 3986). Ids and image references come from the engine.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        // `/`, `:` and `@` of image references
        if byte.is_ascii_alphanumeric() || b"-_.~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

impl Docker {
    /// Values in lists of this engine that could not be read so far: entries without an id, values of an unexpected shape.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        self.api.gaps()
    }

    /// Records the gaps of an answer about several objects.
    pub(super) fn add_gaps(&self, gaps: Gaps) {
        self.api.add_gaps(gaps.into_sentences().iter().map(|gap| self.redactor.scrub(gap)));
    }

    /// `GET path` as JSON.
    pub(super) async fn read(&self, subject: &str, path: &str) -> Result<Value, ProbeError> {
        self.read_within(|| self.timeout(), subject, path).await
    }

    /// [`Docker::read`] with a specific timeout.
    pub(super) async fn read_within(
        &self,
        timeout: impl Fn() -> Duration,
        subject: &str,
        path: &str,
    ) -> Result<Value, ProbeError> {
        let body = self.read_bytes_within(timeout, subject, path).await?;
        serde_json::from_str(&String::from_utf8_lossy(&body)).map_err(|_| {
            ProbeError::failed(subject, format!("{}{}", self.endpoint, without_query(path)), "not a Docker API response")
        })
    }

    /// `GET path` as text, for a sequence of JSON values.
    pub(super) async fn read_text(&self, subject: &str, path: &str) -> Result<String, ProbeError> {
        let body = self.read_bytes_within(|| self.timeout(), subject, path).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn read_bytes_within(&self, timeout: impl Fn() -> Duration, subject: &str, path: &str) -> Result<Vec<u8>, ProbeError> {
        let get = || self.api.get(&self.endpoint, path, timeout());
        let answer = self.limited(&timeout, get).await;
        self.counted(answer.map_err(|(error, after)| self.error(subject, Some(path), &error, after)))
    }

    /// Sends one request with bollard, limited in time and concurrency, and converts its error.
    pub(super) async fn request<T, F>(&self, subject: &str, request: impl FnOnce() -> F) -> Result<T, ProbeError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let answer = self.request_within(|| self.timeout(), subject, request).await;
        self.counted(answer)
    }

    /// [`Docker::request`] with a specific timeout, which starts once a permit is acquired.
    pub(super) async fn request_within<T, F>(
        &self,
        timeout: impl Fn() -> Duration,
        subject: &str,
        request: impl FnOnce() -> F,
    ) -> Result<T, ProbeError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let answer = self.limited(&timeout, request).await;
        answer.map_err(|(error, after)| self.error(subject, None, &error, after))
    }

    /// The error has the timeout of the request.
    async fn limited<T, E, F>(
        &self,
        timeout: impl Fn() -> Duration,
        request: impl FnOnce() -> F,
    ) -> Result<T, (ApiError, Duration)>
    where
        F: Future<Output = Result<T, E>>,
        ApiError: From<E>,
    {
        // never closed, so acquiring cannot fail
        let _permit = self.permits.acquire().await;
        let timeout = timeout();
        let spent = Duration::from_millis(self.spent_ms.load(Ordering::Relaxed));
        if spent >= FOREIGN_BUDGET && self.foreign_user().is_some() {
            return Err((ApiError::Timeout, timeout));
        }
        let started = Instant::now();
        // created only now: thousands may wait for a permit, and a request takes kilobytes
        let answer = lag::timeout(timeout, Box::pin(request())).await;
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.spent_ms.fetch_add(took, Ordering::Relaxed);
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err((ApiError::from(e), timeout)),
            Err(_) => Err((ApiError::Timeout, timeout)),
        }
    }

    /// Timeout of the next request.
    fn timeout(&self) -> Duration {
        if self.unanswered.load(Ordering::Relaxed) >= MAX_TIMEOUTS { DEGRADED_TIMEOUT } else { self.request_timeout }
    }

    fn counted<T>(&self, answer: Result<T, ProbeError>) -> Result<T, ProbeError> {
        if matches!(answer, Err(ProbeError::Timeout { .. })) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// The error of a request about `subject`; without a path it is about one container.
    fn error(&self, subject: &str, path: Option<&str>, error: &ApiError, after: Duration) -> ProbeError {
        let from = self.endpoint.to_string();
        let request = path.map(without_query);
        let is_about_one = request.is_none_or(|path| path.starts_with("/containers/") || path.starts_with("/images/"))
            && request != Some("/containers/json");
        match error {
            ApiError::Status { status: 404, .. } if is_about_one => ProbeError::Skip(format!("{subject} no longer exists")),
            ApiError::Status { status: 409 | 500.., message } if is_about_one && is_removal(message) => {
                ProbeError::Skip(format!("{subject} is being removed"))
            }
            // a proxy (tecnativa/docker-socket-proxy) or an authorization plugin
            ApiError::Status { status: status @ (401 | 403), .. } => {
                let request = request.map_or_else(|| "the request".to_owned(), |path| format!("GET {}", short_ids(path)));
                let needs = format!("permission for {request}, which the engine denies (HTTP {status})");
                ProbeError::Denied { subject: subject.to_owned(), from, needs }
            }
            ApiError::Timeout => ProbeError::Timeout { subject: subject.to_owned(), from, after },
            other => ProbeError::failed(subject, from, &self.redactor.scrub(&other.to_string())),
        }
    }
}

/// Whether the engine reports that a container is removed at the same time.
fn is_removal(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no such container", "no container with", "is being removed", "marked for removal", "removal of container"]
        .iter()
        .any(|sign| message.contains(sign))
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// A path with ids of 12 digits.
fn short_ids(path: &str) -> String {
    let short = |part: &str| if part.len() == 64 { part.chars().take(12).collect() } else { part.to_owned() };
    path.split('/').map(short).collect::<Vec<String>>().join("/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::VecDeque;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// An engine with prepared answers.
    struct FakeEngine {
        docker: Docker,
        seen: Arc<Mutex<Seen>>,
        _directory: tempfile::TempDir,
    }

    #[derive(Default)]
    struct Seen {
        answers: VecDeque<(u16, String)>,
        paths: Vec<String>,
        connections: usize,
    }

    impl FakeEngine {
        /// Returns these answers in turn; closes each connection after `per_connection` of them.
        fn new(answers: &[(u16, &str)], per_connection: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("engine.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
            let seen = Arc::new(Mutex::new(Seen { answers, ..Seen::default() }));
            let shared = seen.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    shared.lock().unwrap().connections += 1;
                    tokio::spawn(serve(stream, shared.clone(), per_connection));
                }
            });
            Self { docker: Docker::for_test(&format!("unix://{}", socket.display())), seen, _directory: directory }
        }

        fn paths(&self) -> Vec<String> {
            self.seen.lock().unwrap().paths.clone()
        }
    }

    async fn serve(mut stream: UnixStream, seen: Arc<Mutex<Seen>>, requests: usize) {
        for _ in 0..requests {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                request.push(byte);
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let answer = {
                let mut seen = seen.lock().unwrap();
                seen.paths.push(text.split(' ').nth(1).unwrap_or_default().to_owned());
                seen.answers.pop_front()
            };
            let Some((status, body)) = answer else { return };
            let response = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connection_is_kept_open() {
        let engine = FakeEngine::new(&[(200, "[]"), (200, "[]"), (404, "{}")], 9);
        assert!(engine.docker.read("networks", "/networks").await.is_ok());
        assert!(engine.docker.read("networks", "/networks").await.is_ok());
        assert!(engine.docker.read("networks", "/networks").await.is_err());
        assert_eq!(engine.seen.lock().unwrap().connections, 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connection_closed_by_the_engine_is_replaced() {
        let engine = FakeEngine::new(&[(200, "[]"), (200, "[1]")], 1);
        assert_eq!(engine.docker.read("networks", "/networks").await, Ok(serde_json::json!([])));
        assert_eq!(engine.docker.read("networks", "/networks").await, Ok(serde_json::json!([1])));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn engine_of_another_user_reports_no_events_of_this_host_and_hides_no_networks() {
        use super::super::Placement;
        let stop = |id: &str| format!(r#"{{"Type":"container","Action":"stop","Actor":{{"ID":"{id}"}},"time":1796032800}}"#);
        let own = FakeEngine::new(&[(200, ""), (200, r#"[{"Name":"app"}]"#)], 9);
        let claims = format!("{}\n{}", stop("a"), stop("b"));
        let other = FakeEngine::new(&[(200, claims.as_str()), (403, "denied")], 9);
        other.docker.place(Placement { user: Some("mallory".into()), ..Placement::default() });
        own.docker.join(vec![(Arc::new(other.docker), vec!["b".to_owned()])]);
        let events = own.docker.events().await.unwrap();
        assert_eq!(events.iter().map(|event| event.container.as_str()).collect::<Vec<_>>(), ["b"]);
        let networks = own.docker.networks().await.unwrap();
        assert_eq!(networks.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["app"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn response_of_another_users_engine_has_a_lower_limit() {
        let body = format!("[\"{}\"]", "x".repeat(MAX_BODY_BYTES_OF_USER));
        let engine = FakeEngine::new(&[(200, body.as_str()), (200, body.as_str())], 9);
        assert!(engine.docker.read("networks", "/networks").await.is_ok());
        let Endpoint::Unix(path) = engine.docker.endpoint.clone() else { panic!("a socket") };
        let uid = rustix::process::geteuid().as_raw();
        let api = Api::new((1, 47));
        let error = api.get(&Endpoint::OfUser { path, uid }, "/networks", Duration::from_secs(9)).await.unwrap_err();
        assert!(error.to_string().contains("exceeds 4 MiB"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn denied_endpoint_is_named() {
        let page = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>";
        let engine = FakeEngine::new(&[(403, page)], 9);
        let error = engine.docker.read("networks", "/networks?filters=x").await.unwrap_err();
        assert!(matches!(error, ProbeError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("GET /networks, which the engine denies (HTTP 403)"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn container_that_vanished_is_skipped() {
        let engine = FakeEngine::new(&[(404, r#"{"message":"No such container: a"}"#)], 9);
        let read = engine.docker.read("container a", "/containers/a/json").await;
        assert_eq!(read, Err(ProbeError::Skip("container a no longer exists".to_owned())));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn missing_endpoint_is_a_failure() {
        let engine = FakeEngine::new(&[(404, r#"{"message":"page not found"}"#)], 9);
        let error = engine.docker.read("networks", "/networks").await.unwrap_err();
        assert!(matches!(&error, ProbeError::Failed { why, .. } if why == "page not found (HTTP 404)"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn server_error_is_repeated_once() {
        let engine = FakeEngine::new(&[(500, r#"{"message":"layer does not exist"}"#), (200, "{}")], 9);
        assert!(engine.docker.read("container a", "/containers/a/json").await.is_ok());
        assert_eq!(engine.paths().len(), 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn repeated_server_error_has_the_message_of_the_engine() {
        let failed = (500, r#"{"message":"layer does not exist"}"#);
        let engine = FakeEngine::new(&[failed, failed, failed], 9);
        let error = engine.docker.read("container a", "/containers/a/json").await.unwrap_err();
        assert!(error.to_string().ends_with("layer does not exist (HTTP 500)"), "{error}");
        assert_eq!(engine.paths().len(), 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn server_error_about_a_removed_container_is_skipped() {
        let failed = (500, r#"{"cause":"no such container","message":"no container with ID a found: no such container"}"#);
        let engine = FakeEngine::new(&[failed, failed], 9);
        let read = engine.docker.read("container a", "/containers/a/json").await;
        assert!(matches!(read, Err(ProbeError::Skip(_))), "{read:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn rejected_version_is_negotiated_again() {
        let too_new = r#"{"message":"client version 1.47 is too new. Maximum supported API version is 1.41"}"#;
        let engine = FakeEngine::new(&[(400, too_new), (200, "[]"), (200, "[]")], 9);
        assert!(engine.docker.read("networks", "/networks").await.is_ok());
        assert!(engine.docker.read("networks", "/networks").await.is_ok());
        assert_eq!(engine.paths(), ["/v1.47/networks", "/v1.41/networks", "/v1.41/networks"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn response_that_is_not_json_is_a_failure() {
        let engine = FakeEngine::new(&[(200, "<html>")], 9);
        let error = engine.docker.read("networks", "/networks").await.unwrap_err();
        assert!(error.to_string().ends_with("not a Docker API response"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn odd_container_costs_only_itself() {
        let list = r#"[{"Id":"a","Names":["/a"],"State":"stopping"},7,{"Id":"b","Names":["/b"],"State":"exited"}]"#;
        let engine = FakeEngine::new(&[(200, list)], 9);
        let names: Vec<String> = engine.docker.list().await.unwrap().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(engine.docker.gaps(), ["list of containers: [1] is 7, not an object"]);
    }

    #[test]
    fn message_is_found_in_every_body() {
        for (body, message) in [
            (r#"{"message":"No such container: a"}"#, "No such container: a"),
            (r#"{"cause":"no such container","message":"no container with name a","response":404}"#, "no container with name a"),
            ("client version 1.2 is too old\n", "client version 1.2 is too old"),
            (
                "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n",
                "403 Forbidden Request forbidden by administrative rules.",
            ),
            ("", ""),
            ("[]", "[]"),
        ] {
            assert_eq!(message_of(body), message);
        }
    }

    #[test]
    fn rejected_version_is_replaced_by_the_supported_one() {
        let api = Api::new((1, 47));
        assert!(api.renegotiate("client version 1.47 is too new. Maximum supported API version is 1.41"));
        assert_eq!(api.version(), "1.41");
        assert!(!api.renegotiate("client version 1.47 is too new. Maximum supported API version is 1.41"));
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client";
        assert!(api.renegotiate(old));
        assert_eq!(api.version(), "1.44");
        assert!(!api.renegotiate("invalid reference format"));
    }

    #[test]
    fn ids_and_references_are_encoded() {
        assert_eq!(encoded("registry:5000/a/b@sha256:0f"), "registry:5000/a/b@sha256:0f");
        assert_eq!(encoded("a b?c#d%\n"), "a%20b%3Fc%23d%25%0A");
    }

    #[test]
    fn removal_is_told_apart_from_other_conflicts() {
        assert!(is_removal("No such container: 0f"));
        assert!(is_removal("container 0f is marked for removal and cannot be started"));
        assert!(!is_removal("container state improper"));
    }
}
