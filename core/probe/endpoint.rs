//! Configured endpoints: requests to them and their results.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::address::{join, with_brackets};
use crate::model::quantity;
use crate::probe::io::http;
use crate::probe::io::http::{HttpError, HttpResponse};
use crate::probe::names;
use crate::probe::network::netns;
use crate::probe::network::netns::ConnectError;
use crate::probe::proc::owner::may_serve_any;
use crate::probe::servers::Stream;
use crate::probe::servers::Trust;
use crate::probe::servers::served_by;
use crate::probe::{Memo, ProbeCx, ProbeError, blocking, lag};

/// Size limit in bytes of the response body that is searched for expected text.
const MAX_BODY_BYTES: usize = 256 << 10;

/// An endpoint of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id in the inventory.
    pub id: String,
    /// URL without its query.
    pub url: String,
    /// `http`, `https`, `tcp`; for `smtp` and `postgres` only the certificate is requested.
    pub scheme: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path with the query. A query may contain a token: it is sent but not displayed.
    pub path: String,
    /// The container that requests are sent from, or `None` for this host.
    pub from: Option<String>,
    /// The service that a successful response proves to be available.
    pub proves: Option<String>,
    /// The expected response.
    pub expect: Expect,
    /// Latency limit in milliseconds.
    pub latency_ms: Option<u64>,
    /// The address to connect to, if it is not resolved from the host name.
    pub address: Option<String>,
    /// Request headers; their values may be secret.
    pub headers: Vec<(String, String)>,
}

impl Endpoint {
    /// Whether requests are sent to it; for other schemes only the certificate is checked.
    #[must_use]
    pub fn is_queried(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https" | "tcp")
    }

    /// The host, with the port unless it is the default: the `Host` header and the subject of the certificate.
    #[must_use]
    pub fn authority(&self) -> String {
        let default_port = match self.scheme.as_str() {
            "http" => 80,
            "smtp" => 25,
            "postgres" => 5432,
            _ => 443,
        };
        if self.port == default_port { with_brackets(&self.host).into_owned() } else { join(&self.host, self.port) }
    }
}

/// An expected response.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// Accepted status codes; if empty, 200 to 399.
    pub status: Vec<u16>,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// Required values of a JSON body, by JSON pointer (RFC 6901).
    pub json: BTreeMap<String, String>,
    /// Texts that the body must not contain: those of an error page with a success status.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Texts that headers must contain, by header name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Result of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum EndpointResult {
    /// A response was received.
    Answered {
        /// Status code.
        status: u16,
        /// Difference from the expected response, if any.
        wrong: Option<String>,
        /// Duration in milliseconds.
        took_ms: u64,
        /// The beginning of the body of an unexpected response.
        body: String,
        /// Target of a redirect.
        location: Option<String>,
    },
    /// A TCP connection was established and stayed open.
    Connected {
        /// Duration in milliseconds.
        took_ms: u64,
    },
    /// Connection refused: no listener.
    Refused,
    /// The request timed out.
    Timeout,
    /// The connection was closed without a response.
    Closed,
    /// The response is not HTTP.
    NotHttp,
    /// The TLS handshake failed, with the reason.
    Tls(String),
    /// The name does not resolve, or there is no route, with the reason.
    Unreachable(String),
}

impl EndpointResult {
    /// Whether the result is as expected.
    #[must_use]
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Connected { .. } | Self::Answered { wrong: None, .. })
    }
}

/// The configured endpoints, and the first results of a run, shared by all checks that compare endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    configured: Vec<Endpoint>,
    first: Memo<String, Result<EndpointResult, ProbeError>>,
    /// End of the probes of this run.
    until: Option<Instant>,
}

impl Endpoints {
    /// These endpoints, without results.
    #[must_use]
    pub fn new(configured: Vec<Endpoint>) -> Self {
        Self { configured, first: Memo::default(), until: None }
    }

    /// The same with the end of the probes of this run: a slow response is waited for until then.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }
}

impl ProbeCx {
    /// The configured endpoints, with the expected responses.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shared.get::<Endpoints>().configured
    }

    /// Time until the end of the probes of this run; `None` if it has no deadline.
    #[must_use]
    pub fn time_for_endpoints(&self) -> Option<Duration> {
        let until = self.shared.get::<Endpoints>().until?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}

/// The first result of this run; the request is sent once.
pub async fn first(cx: &ProbeCx, endpoint: &Endpoint, connect: Duration, answer: Duration) -> Result<EndpointResult, ProbeError> {
    let first = &cx.shared.get::<Endpoints>().first;
    first.get(endpoint.id.clone(), || Box::pin(request(cx, endpoint, connect, answer))).await
}

/// Sends a request and returns its result.
pub async fn request(
    cx: &ProbeCx,
    endpoint: &Endpoint,
    connect: Duration,
    answer: Duration,
) -> Result<EndpointResult, ProbeError> {
    let pid = match &endpoint.from {
        Some(name) => Some(cx.pid_of(name).await?),
        None => None,
    };
    let started = Instant::now();
    let took = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // the name, the connection and the response share one time limit
    let left = || answer.saturating_sub(started.elapsed()).max(MIN_STEP);
    let host = endpoint.address.as_ref().unwrap_or(&endpoint.host);
    let lookup = lag::timeout(answer, Box::pin(names::addresses_of(pid, host, endpoint.port)));
    let addresses = match lookup.await.unwrap_or_else(|_| Ok(Err(unresolved(host, answer))))? {
        Ok(addresses) => tried(&addresses),
        Err(why) => return Ok(EndpointResult::Unreachable(why)),
    };
    let stream = match connect_to(pid, &addresses, connect.min(left())).await? {
        Ok(stream) => stream,
        Err(failed) => return Ok(failed),
    };
    // headers may contain a token: over plain HTTP they are sent only to a service of this host or of a container, not to a
    // user's program
    let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?))).ok();
    if let Some((peer, own)) = ends.filter(|_| endpoint.scheme == "http" && !endpoint.headers.is_empty() && pid.is_none()) {
        let proven =
            blocking::run("the peer of a connection", &endpoint.url, connect, move |io| served_by(io, peer, own, &may_serve_any));
        if let Err(why) = proven.await? {
            return Err(ProbeError::failed("an answer", endpoint.url.clone(), &why));
        }
    }
    let mut stream = Stream::Tcp(stream);
    if endpoint.scheme == "tcp" {
        return Ok(stays_open(stream, took()).await);
    }
    if endpoint.scheme == "https" {
        // the tls runbook checks the certificate; headers may contain a token, so they require a verified certificate
        let verified = Trust::Verified { authorities: None, name: true };
        let trust = if endpoint.headers.is_empty() { Trust::Encrypted } else { verified };
        let secured = lag::timeout(left(), crate::probe::servers::over_tls(stream, &endpoint.host, &trust)).await;
        stream = match secured {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Ok(EndpointResult::Tls(e.to_string())),
            Err(_) => return Ok(EndpointResult::Timeout),
        };
    }
    Ok(match http::get_with(stream, &endpoint.authority(), &endpoint.path, &endpoint.headers, MAX_BODY_BYTES, left()).await {
        Ok(got) => {
            let wrong = endpoint.expect.wrong(&got);
            let body = if wrong.is_some() { got.body.chars().take(160).collect() } else { String::new() };
            EndpointResult::Answered {
                status: got.status,
                wrong,
                took_ms: took(),
                body,
                location: got.location.map(|l| without_query(&l)),
            }
        }
        Err(HttpError::Timeout) => EndpointResult::Timeout,
        Err(HttpError::Closed(_)) => EndpointResult::Closed,
        Err(HttpError::NotHttp(_)) => EndpointResult::NotHttp,
    })
}

/// Smallest time limit of one step of a request.
const MIN_STEP: Duration = Duration::from_millis(100);

fn unresolved(host: &str, after: Duration) -> String {
    format!("looking up {host}: no answer in {}", quantity::duration(after.try_into().unwrap_or_default()))
}

/// Limit of addresses of one name to which a connection is attempted.
const MAX_TRIED_ADDRESSES: usize = 3;

/// The first address of each family, which clients try first (RFC 8305), and others up to the limit.
fn tried(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let other = addresses.iter().position(|a| addresses.first().is_some_and(|first| first.is_ipv4() != a.is_ipv4()));
    let mut sorted: Vec<SocketAddr> = addresses.first().copied().into_iter().chain(other.map(|at| addresses[at])).collect();
    sorted.extend(addresses.iter().copied().enumerate().filter(|(at, _)| *at > 0 && Some(*at) != other).map(|(_, a)| a));
    sorted.truncate(MAX_TRIED_ADDRESSES);
    sorted
}

/// Connects to the first address that accepts, as clients do: a name may have an IPv6 address without a route. The error is the most
/// specific result about the service.
async fn connect_to(
    pid: Option<i32>,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, EndpointResult>, ProbeError> {
    let mut failed = EndpointResult::Unreachable("it has no address".to_owned());
    let rank = |result: &EndpointResult| match result {
        EndpointResult::Refused => 2,
        EndpointResult::Timeout => 1,
        _ => 0,
    };
    for address in addresses {
        let result = match netns::connect_as(pid, *address, timeout).await? {
            Ok(stream) => return Ok(Ok(stream)),
            Err(ConnectError::Refused) => EndpointResult::Refused,
            Err(ConnectError::Timeout) => EndpointResult::Timeout,
            Err(ConnectError::Other(why)) => EndpointResult::Unreachable(why),
        };
        if rank(&result) > rank(&failed) || rank(&failed) == 0 {
            failed = result;
        }
    }
    Ok(Err(failed))
}

/// Whether a connection stays open: docker-proxy accepts connections to a port without a listener, and closes them immediately.
async fn stays_open(mut stream: Stream, took_ms: u64) -> EndpointResult {
    use tokio::io::AsyncReadExt;
    let mut byte = [0; 1];
    match tokio::time::timeout(Duration::from_millis(300), stream.read(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => EndpointResult::Closed,
        // the server sends first, or waits for the client
        Ok(Ok(_)) | Err(_) => EndpointResult::Connected { took_ms },
    }
}

pub(in crate::probe) fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

impl Expect {
    /// The difference between a response and the expected one.
    #[must_use]
    pub fn wrong(&self, answer: &HttpResponse) -> Option<String> {
        let status = answer.status;
        if self.status.is_empty() {
            if !(200..400).contains(&status) {
                return Some(format!("status {status}"));
            }
        } else if !self.status.contains(&status) {
            let expected: Vec<String> = self.status.iter().map(ToString::to_string).collect();
            return Some(format!("status {status} instead of {}", expected.join(" or ")));
        }
        if answer.broken_off {
            return Some(format!("status {status} with a truncated body"));
        }
        if let Some(text) = &self.body
            && !answer.body.contains(text.as_str())
        {
            let part = if answer.truncated { " in its beginning" } else { "" };
            return Some(format!("status {status} without the text `{text}`{part}"));
        }
        if let Some(text) = self.lacks.iter().find(|t| answer.body.contains(t.as_str())) {
            return Some(format!("status {status} with the text `{text}`"));
        }
        for (name, expected) in &self.headers {
            let mut found =
                answer.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).peekable();
            if found.peek().is_none() {
                return Some(format!("status {status} without the header {name}"));
            }
            if !found.any(|value| value.contains(expected.as_str())) {
                return Some(format!("status {status} without `{expected}` in the header {name}"));
            }
        }
        if self.json.is_empty() {
            return None;
        }
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&answer.body) else {
            return Some(format!("status {status} without JSON"));
        };
        self.json.iter().find_map(|(pointer, expected)| {
            let found = json.pointer(pointer).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            match found {
                Some(found) if found == *expected => None,
                Some(found) => Some(format!(
                    "status {status} with {pointer} = {} instead of {expected}",
                    found.chars().take(60).collect::<String>()
                )),
                None => Some(format!("status {status} without {pointer} in its JSON")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn authority_of_an_ipv6_address_has_brackets() {
        let of = |scheme: &str, host: &str, port| {
            Endpoint { scheme: scheme.into(), host: host.into(), port, ..Endpoint::default() }.authority()
        };
        assert_eq!((of("https", "::1", 443), of("https", "::1", 8443)), ("[::1]".into(), "[::1]:8443".into()));
        assert_eq!((of("http", "web", 80), of("http", "web", 81)), ("web".into(), "web:81".into()));
    }

    #[test]
    fn addresses_of_both_families_are_tried_first() {
        let tried = |all: &[&str]| -> Vec<String> {
            super::tried(&all.iter().filter_map(|a| a.parse().ok()).collect::<Vec<_>>()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(tried(&["[::1]:80", "[::2]:80", "[::3]:80", "10.0.0.1:80"]), ["[::1]:80", "10.0.0.1:80", "[::2]:80"]);
        assert_eq!(tried(&["10.0.0.1:80", "10.0.0.2:80"]), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert!(tried(&[]).is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn address_without_listener_is_followed_by_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = SocketAddr::new("::1".parse().unwrap(), open.port());
        let limit = Duration::from_secs(2);
        assert!(connect_to(None, &[closed, open], limit).await.unwrap().is_ok());
        drop(listener);
        assert_eq!(connect_to(None, &[open], limit).await.unwrap().unwrap_err(), EndpointResult::Refused);
    }

    fn answer(status: u16, body: &str) -> HttpResponse {
        let headers = vec![("content-type".to_owned(), "text/html; charset=utf-8".to_owned())];
        HttpResponse {
            status,
            body: body.to_owned(),
            location: None,
            server: None,
            api_version: None,
            date: None,
            truncated: false,
            headers,
            broken_off: false,
        }
    }

    #[test]
    fn response_mismatches() {
        let wrong = |e: &Expect, status, body| e.wrong(&answer(status, body));
        let any = Expect::default();
        assert_eq!((wrong(&any, 204, ""), wrong(&any, 302, "")), (None, None));
        assert_eq!(wrong(&any, 404, ""), Some("status 404".to_owned()));
        let only = Expect { status: vec![200, 401], ..Expect::default() };
        assert_eq!((wrong(&only, 401, ""), wrong(&only, 302, "")), (None, Some("status 302 instead of 200 or 401".to_owned())));
        let text = Expect { body: Some("Welcome".into()), ..Expect::default() };
        assert_eq!(wrong(&text, 200, "<h1>Welcome</h1>"), None);
        assert_eq!(wrong(&text, 200, "not found"), Some("status 200 without the text `Welcome`".to_owned()));
        let json = Expect { json: [("/db/ok".to_owned(), "true".to_owned())].into(), ..Expect::default() };
        assert_eq!(wrong(&json, 200, r#"{"db":{"ok":true}}"#), None);
        assert_eq!(wrong(&json, 200, r#"{"db":{"ok":"no"}}"#), Some("status 200 with /db/ok = no instead of true".to_owned()));
        assert_eq!(wrong(&json, 200, "{}"), Some("status 200 without /db/ok in its JSON".to_owned()));
        assert_eq!(wrong(&json, 200, "<html>"), Some("status 200 without JSON".to_owned()));
        let soft = Expect { lacks: vec!["introuvable".into()], ..Expect::default() };
        assert_eq!(wrong(&soft, 200, "Page introuvable"), Some("status 200 with the text `introuvable`".to_owned()));
        let header =
            |name: &str, value: &str| Expect { headers: [(name.to_owned(), value.to_owned())].into(), ..Expect::default() };
        assert_eq!(wrong(&header("Content-Type", "html"), 200, ""), None);
        let as_json = wrong(&header("Content-Type", "json"), 200, "");
        assert_eq!(as_json, Some("status 200 without `json` in the header Content-Type".to_owned()));
        assert_eq!(wrong(&header("X-A", ""), 200, ""), Some("status 200 without the header X-A".to_owned()));
    }
}
