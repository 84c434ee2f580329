//! A single HTTP/1.1 request over any stream: a Unix socket, a TCP connection, a connection made in another network namespace.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::model::address::{Address, split_port};
use crate::probe::io::blocking;
use crate::probe::lag;

/// The response of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// `Location` of a redirect.
    pub location: Option<String>,
    /// `Server` header.
    pub server: Option<String>,
    /// `Api-Version` header, which identifies a Docker engine.
    pub api_version: Option<String>,
    /// `Date` header: the clock of the server.
    #[serde(default)]
    pub date: Option<String>,
    /// The first bytes of the body, as text.
    pub body: String,
    /// Whether the body exceeded the size limit.
    pub truncated: bool,
    /// All headers, for checks of configured headers; names in lower case.
    #[serde(skip)]
    pub headers: Vec<(String, String)>,
    /// Whether the body was incomplete.
    #[serde(default)]
    pub broken_off: bool,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "error")]
pub enum HttpError {
    /// No response within the timeout.
    Timeout,
    /// The peer closed or reset the connection.
    Closed(String),
    /// The response is not HTTP.
    NotHttp(String),
}

/// Sends `GET path` and reads at most `keep` bytes of the body.
pub async fn get<S>(stream: S, host: &str, path: &str, keep: usize, timeout: Duration) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    get_with(stream, host, path, &[], keep, timeout).await
}

/// [`get`] with more headers.
pub async fn get_with<S>(
    stream: S,
    host: &str,
    path: &str,
    headers: &[(String, String)],
    keep: usize,
    timeout: Duration,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    lag::timeout(timeout, exchange(stream, Method::GET, host, path, headers, keep)).await.unwrap_or(Err(HttpError::Timeout))
}

/// The header for basic authentication.
fn basic(user: &str, password: &str) -> (String, String) {
    ("Authorization".to_owned(), format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// [`get`] with basic authentication.
pub(in crate::probe) async fn get_as<S>(
    stream: S,
    host: &str,
    path: &str,
    login: (&str, &str),
    keep: usize,
    timeout: Duration,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    get_with(stream, host, path, &[basic(login.0, login.1)], keep, timeout).await
}

/// Sends `POST path` without a body.
pub(in crate::probe) async fn post<S>(
    stream: S,
    host: &str,
    path: &str,
    login: Option<(&str, &str)>,
    timeout: Duration,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let login: Vec<_> = login.map(|(user, password)| basic(user, password)).into_iter().collect();
    let sent = exchange(stream, Method::POST, host, path, &login, 4096);
    lag::timeout(timeout, sent).await.unwrap_or(Err(HttpError::Timeout))
}

async fn exchange<S>(
    stream: S,
    method: Method,
    host: &str,
    path: &str,
    headers: &[(String, String)],
    keep: usize,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| classify(&e))?;
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let request = builder
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("opsctl/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| HttpError::NotHttp(e.to_string()))?;
    let request_and_response = async {
        let response = sender.send_request(request).await.map_err(|e| classify(&e))?;
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).map(|v| v.chars().take(256).collect::<String>())
        };
        let mut answer = HttpResponse {
            status: response.status().as_u16(),
            location: text(header::LOCATION),
            server: text(header::SERVER),
            date: text(header::DATE),
            api_version: text(header::HeaderName::from_static("api-version")),
            body: String::new(),
            truncated: false,
            headers: response.headers().iter().filter_map(|(n, v)| Some((n.to_string(), v.to_str().ok()?.to_owned()))).collect(),
            broken_off: false,
        };
        let mut body = Vec::new();
        let mut frames = response.into_body();
        while let Some(frame) = frames.frame().await {
            // the status of a truncated body is still reported
            let Ok(frame) = frame else {
                (answer.truncated, answer.broken_off) = (true, true);
                break;
            };
            if let Some(data) = frame.data_ref() {
                let remaining = keep.saturating_sub(body.len());
                body.extend_from_slice(&data[..data.len().min(remaining)]);
                if data.len() > remaining {
                    answer.truncated = true;
                    break;
                }
            }
        }
        // without a copy of a valid body
        answer.body = String::from_utf8(body).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok(answer)
    };
    tokio::select! {
        biased;
        answer = request_and_response => answer,
        // the connection future ends on its own only after a failure; the request then fails with the same error
        Err(e) = connection => Err(classify(&e)),
    }
}

/// The offset of the clock of an HTTP server relative to this host, in seconds; the resolution is that of `Date`, whole seconds.
/// `url` is `http://host[:port][/path]`. The error states why there is no response.
pub async fn clock_offset(url: &str, timeout: Duration) -> Result<f64, String> {
    let (authority, path) = split_url(url).ok_or_else(|| "not http://host[:port][/path]".to_owned())?;
    let (host, port) = split_port(authority);
    let (name, port) = (host.to_owned(), port.unwrap_or(80));
    let resolved = blocking::run("a host name", host, timeout, move |io| io.look_up(&name, port)).await;
    let addresses = resolved.map_err(|_| "name lookup: no answer in time".to_owned())?.map_err(|e| e.to_string())?;
    let connected = lag::handshake(timeout, tokio::net::TcpStream::connect(addresses.as_slice())).await;
    let stream = connected.map_err(|_| "no connection in time".to_owned())?.map_err(|e| e.to_string())?;
    let sent_at = crate::probe::io::clock::now();
    let answer = get(stream, authority, path, 0, timeout).await.map_err(|e| match e {
        HttpError::Timeout => "no answer in time".to_owned(),
        HttpError::Closed(why) | HttpError::NotHttp(why) => why,
    })?;
    let took = crate::probe::io::clock::now().duration_since(sent_at).as_secs_f64();
    let date = answer.date.ok_or("the response has no Date header")?;
    let date =
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).map_err(|_| format!("`{date}` is not a valid date"))?;
    // `Date` is truncated to a second: half of it has passed on average
    Ok(date.duration_since(sent_at).as_secs_f64() + 0.5 - took / 2.0)
}

pub(in crate::probe) fn split_url(url: &str) -> Option<(&str, &str)> {
    let address = Address::parse(url);
    let is_plain = address.scheme == Some("http") && address.user_info.is_none() && !address.authority.is_empty();
    is_plain.then_some((address.authority, if address.target.is_empty() { "/" } else { address.target }))
}

fn classify(error: &hyper::Error) -> HttpError {
    use std::error::Error as _;
    let detail = error.source().map_or_else(|| error.to_string(), |s| format!("{error}: {s}"));
    if error.is_parse() || error.is_parse_status() { HttpError::NotHttp(detail) } else { HttpError::Closed(detail) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn clock_reference_must_be_a_plain_http_url() {
        assert_eq!(split_url("http://a:8080/x"), Some(("a:8080", "/x")));
        assert_eq!(split_url("http://a"), Some(("a", "/")));
        assert_eq!(split_url("http://[::1]/a@b?c"), Some(("[::1]", "/a@b?c")));
        for bad in ["https://a", "a:80", "http://", "http://u:p@a/"] {
            assert_eq!(split_url(bad), None, "{bad}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn clock_offset_of_a_server() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (offset, ()) = tokio::join!(clock_offset(&url, Duration::from_secs(5)), server);
        let behind = crate::probe::io::clock::now().as_second() - 784_111_777;
        assert!((offset.unwrap() + behind as f64).abs() < 5.0);
    }
}
