//! One HTTP/1.1 GET over any stream: a unix socket, a TCP connection, a connection made inside another network namespace.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Location` of a redirect.
    pub location: Option<String>,
    /// `Server` header.
    pub server: Option<String>,
    /// `Api-Version` header: how a Docker engine introduces itself.
    pub api_version: Option<String>,
    /// The first bytes of the body, as text.
    pub body: String,
    /// Whether the body was longer than what was kept.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "error")]
pub enum NoAnswer {
    /// Nothing came within the timeout.
    Timeout,
    /// The peer closed or reset the connection.
    Closed(String),
    /// What came is not HTTP.
    NotHttp(String),
}

/// Sends `GET path` and reads at most `keep` bytes of the body.
pub async fn get<S>(stream: S, host: &str, path: &str, keep: usize, timeout: Duration) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::time::timeout(timeout, exchange(stream, host, path, keep)).await.unwrap_or(Err(NoAnswer::Timeout))
}

async fn exchange<S>(stream: S, host: &str, path: &str, keep: usize) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| classify(&e))?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("opsctl/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| NoAnswer::NotHttp(e.to_string()))?;
    let conversation = async {
        let response = sender.send_request(request).await.map_err(|e| classify(&e))?;
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).map(|v| v.chars().take(256).collect::<String>())
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            location: text(header::LOCATION),
            server: text(header::SERVER),
            api_version: text(header::HeaderName::from_static("api-version")),
            body: String::new(),
            truncated: false,
        };
        let mut body = Vec::new();
        let mut frames = response.into_body();
        while let Some(frame) = frames.frame().await {
            // a body that breaks off still leaves a status worth knowing
            let Ok(frame) = frame else {
                answer.truncated = true;
                break;
            };
            if let Some(data) = frame.data_ref() {
                let room = keep.saturating_sub(body.len());
                body.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    answer.truncated = true;
                    break;
                }
            }
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    };
    tokio::select! {
        biased;
        answer = conversation => answer,
        // the connection ends on its own only when it failed; its error then reaches the conversation too
        Err(e) = connection => Err(classify(&e)),
    }
}

fn classify(error: &hyper::Error) -> NoAnswer {
    use std::error::Error as _;
    let detail = error.source().map_or_else(|| error.to_string(), |s| format!("{error}: {s}"));
    if error.is_parse() || error.is_parse_status() { NoAnswer::NotHttp(detail) } else { NoAnswer::Closed(detail) }
}
