//! HTTP server: requests of foreign pages and unauthenticated clients are rejected before the body is read, bodies are limited in
//! size and time, and an alert is accepted only when it is on disk.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::Abortable;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use opsctl_core::probe::io::clock;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::auth::Signature;
use super::connections::{ConnectionSlot, Connections, Origin};
use super::foreign::ForeignRequest;
use super::metrics::RejectReason;
use super::peers::Peer;
use super::queue::EnqueueResult;
use super::replays::Claim;
use super::sockets::{Socket, Stream};
use super::{ListenError, Shared, log};
use crate::fix::host_switched_off;
use crate::respond;

/// Maximum size of a body in bytes: 500 alerts with long annotations are below it.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Time limit of reading a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limits of reading the headers, and of a whole connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum size of the headers of a request.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Maximum number of bodies of authenticated clients in memory; more wait. Bodies of signed requests are limited by the number of
/// connections: a client that sends one slowly is not authenticated yet, and must not block others.
const MAX_BODIES: usize = 8;

/// Time limit of open requests at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Response to a rejected connection.
const NO_CONNECTION: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 49\r\n\
    Retry-After: 10\r\nConnection: close\r\n\r\n{\"error\":\"too many connections; try again later\"}";

#[derive(Clone)]
struct AppState {
    shared: Arc<Shared>,
    bodies: Arc<Semaphore>,
}

/// Facts about the other end of a connection.
#[derive(Clone)]
struct Caller {
    /// An allowed user according to the kernel.
    allowed_user: bool,
    /// Browsers can reach a TCP port, but not a unix socket.
    over_tcp: bool,
    /// The local address of the connection.
    local: Option<IpAddr>,
    /// Protects the connection from eviction when set.
    known: Arc<AtomicBool>,
}

/// Authentication state of a request before its body is read.
#[derive(Clone)]
enum Proof {
    /// The client is authenticated.
    Known,
    /// Authenticated if this is the signature of the body.
    Signed(Signature),
}

fn router(state: AppState) -> Router {
    Router::new()
        .route("/", post(alerts))
        .route("/alerts", post(alerts))
        // path used by Prometheus when opsctl is configured as an Alertmanager
        .route("/api/v2/alerts", post(alerts))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        // wraps all routes and the fallback
        .layer(from_fn_with_state(state.clone(), admit))
        .with_state(state)
}

/// Serves until shutdown.
pub(super) async fn serve(sockets: Vec<Socket>, shared: Arc<Shared>) -> Result<(), ListenError> {
    let router = router(AppState { shared: Arc::clone(&shared), bodies: Arc::new(Semaphore::new(MAX_BODIES)) });
    let graceful = GracefulShutdown::new();
    let connections = Connections::default();
    let mut stopping = shared.stopping.clone();
    loop {
        let accepting = sockets.iter().map(|socket| Box::pin(socket.accept()));
        let stream = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            (accepted, _, _) = futures_util::future::select_all(accepting) => match accepted {
                Ok(stream) => stream,
                Err(e) => {
                    // out of descriptors: some will be released soon
                    log(&format!("accepting a connection: {e}"));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        match stream {
            Stream::Tcp(stream, peer) => match connections.admit(Origin::of(peer.ip())) {
                Some(slot) => {
                    let local = stream.local_addr().ok().map(|address| address.ip());
                    let caller = Caller { allowed_user: false, over_tcp: true, local, known: Arc::clone(&slot.known) };
                    spawn(stream, slot, caller, &router, &graceful);
                }
                None => reject_connection(&shared, |buffer| stream.try_read(buffer), |text| stream.try_write(text)),
            },
            Stream::Unix(stream, group) => {
                let Ok(peer) = Peer::of(&stream) else { continue };
                match connections.admit(Origin::User(peer.uid)) {
                    Some(slot) => {
                        let allowed_user = shared.allowed.has(&peer, group);
                        let caller = Caller { allowed_user, over_tcp: false, local: None, known: Arc::clone(&slot.known) };
                        spawn(stream, slot, caller, &router, &graceful);
                    }
                    None => reject_connection(&shared, |buffer| stream.try_read(buffer), |text| stream.try_write(text)),
                }
            }
        }
    }
    drop(sockets);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// Serves one connection on its own task.
fn spawn<S>(stream: S, mut slot: ConnectionSlot, caller: Caller, router: &Router, graceful: &GracefulShutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.clone().layer(axum::Extension(caller)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let Some(registration) = slot.abort_registration.take() else { return };
        // a client that closes the connection in the middle is not an error
        let _ = Abortable::new(tokio::time::timeout(CONNECTION_TIMEOUT, connection), registration).await;
        drop(slot);
    });
}

/// Responds to a rejected connection without waiting for it.
fn reject_connection(
    shared: &Shared,
    read: impl Fn(&mut [u8]) -> std::io::Result<usize>,
    write: impl Fn(&[u8]) -> std::io::Result<usize>,
) {
    shared.metrics.refused(RejectReason::Connections);
    shared.metrics.request(StatusCode::SERVICE_UNAVAILABLE.as_u16());
    // closing a connection with unread data resets it, and the response is lost
    let _ = read(&mut [0; 16 << 10]);
    let _ = write(NO_CONNECTION);
}

/// Middleware for every request, also for a path that does not exist.
async fn admit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let answer = match proof(&state, &request) {
        Ok(proof) => {
            request.extensions_mut().insert(proof);
            next.run(request).await
        }
        Err(rejection) => rejection.answer(&state.shared),
    };
    state.shared.metrics.request(answer.status().as_u16());
    answer
}

/// Reason of a rejection, for the metrics and for the client.
#[derive(Debug, Clone, Copy)]
struct Rejection(RejectReason, StatusCode, &'static str);

impl Rejection {
    /// The client is not authenticated.
    const UNKNOWN_CALLER: Self =
        Self(RejectReason::Caller, StatusCode::UNAUTHORIZED, "the token or the signature is missing or wrong");

    fn answer(self, shared: &Shared) -> Response {
        let Self(why, status, text) = self;
        shared.metrics.refused(why);
        refusal(status, text)
    }
}

/// Authentication of a request from its headers and connection.
fn proof(state: &AppState, request: &Request) -> Result<Proof, Rejection> {
    let shared = &state.shared;
    let headers = request.headers();
    let caller = request.extensions().get::<Caller>().ok_or(Rejection::UNKNOWN_CALLER)?;
    shared.own.check_origin(headers).map_err(foreign)?;
    if caller.over_tcp {
        shared.own.check_host(headers, request.uri(), request.version(), caller.local).map_err(foreign)?;
    }
    if caller.allowed_user || shared.keys.token_fits(headers) {
        caller.known.store(true, Ordering::Relaxed);
        return Ok(Proof::Known);
    }
    if request.method() != Method::POST {
        return Err(Rejection::UNKNOWN_CALLER);
    }
    match shared.keys.signature(headers, clock::now().as_second()) {
        Ok(signature) => signature.map(Proof::Signed).ok_or(Rejection::UNKNOWN_CALLER),
        Err(why) => Err(Rejection(RejectReason::Caller, StatusCode::UNAUTHORIZED, why)),
    }
}

fn foreign(reason: ForeignRequest) -> Rejection {
    match reason {
        ForeignRequest::Origin => {
            let text = "requests of web pages are refused; `origins` in [listen] names those that are allowed";
            Rejection(RejectReason::Origin, StatusCode::FORBIDDEN, text)
        }
        ForeignRequest::Host => {
            let text = "the request is for another host; `hosts` in [listen] adds names of this one";
            Rejection(RejectReason::Host, StatusCode::MISDIRECTED_REQUEST, text)
        }
    }
}

/// Pages are for clients authenticated by their headers.
fn is_known(request: &Request) -> bool {
    matches!(request.extensions().get::<Proof>(), Some(Proof::Known))
}

async fn healthz(State(state): State<AppState>, request: Request) -> Response {
    if !is_known(&request) {
        return refusal(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
    }
    if state.shared.metrics.is_stuck() {
        return (StatusCode::SERVICE_UNAVAILABLE, "an alert has been in progress for half an hour\n").into_response();
    }
    let text = host_switched_off().map_or_else(|| "ok\n".to_owned(), |why| format!("ok; {why}\n"));
    (StatusCode::OK, text).into_response()
}

async fn metrics(State(state): State<AppState>, request: Request) -> Response {
    if !is_known(&request) {
        return refusal(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
    }
    let text = state.shared.metrics.text(state.shared.queue.waiting(), host_switched_off().is_some());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn refusal(status: StatusCode, why: &str) -> Response {
    let body = json!({ "error": why }).to_string();
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    let headers = answer.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
        }
        _ => {}
    }
    // an unread body must not be parsed as the next request
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}

#[allow(clippy::disallowed_methods, reason = "writes to the state directory, and a stop waits for it")]
async fn alerts(State(state): State<AppState>, request: Request) -> Response {
    let shared = &state.shared;
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
    }
    let proof = parts.extensions.get::<Proof>();
    let bodies = matches!(proof, Some(Proof::Known)).then_some(&state.bodies);
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(bodies, body)).await {
        Ok(Some(body)) => body,
        Ok(None) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is incomplete, or larger than 1 MiB"),
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 s"),
    };
    let signature = match proof {
        Some(Proof::Known) => None,
        Some(Proof::Signed(signature)) if shared.keys.verifies(signature, &body) => Some(signature.clone()),
        _ => return Rejection::UNKNOWN_CALLER.answer(shared),
    };
    if let Some(caller) = parts.extensions.get::<Caller>() {
        caller.known.store(true, Ordering::Relaxed);
    }
    let accepting = Arc::clone(shared);
    // a closed connection does not cancel a write in progress
    match tokio::task::spawn_blocking(move || accept(&accepting, signature.as_ref(), &body)).await {
        Ok(answer) => answer,
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the alerts could not be stored"),
    }
}

/// The whole body; `None` if it is too large or incomplete.
async fn read(bodies: Option<&Arc<Semaphore>>, body: Body) -> Option<Bytes> {
    let _permit = match bodies {
        Some(bodies) => Some(bodies.acquire().await.ok()?),
        None => None,
    };
    to_bytes(body, MAX_BODY_BYTES).await.ok()
}

/// Stores the alerts of an authenticated client. The signature is stored first: a crash in between costs the client a second
/// attempt, and never accepts the same request twice.
fn accept(shared: &Shared, signature: Option<&Signature>, body: &[u8]) -> Response {
    let payload = match respond::parse(body) {
        Ok(payload) => payload,
        Err(e) => return refusal(StatusCode::BAD_REQUEST, &e.to_string()),
    };
    if let Some(refused) = signature.and_then(|signature| claim(shared, signature).err()) {
        return refused.answer(shared);
    }
    let (over, firing): (Vec<_>, Vec<_>) = payload.alerts.into_iter().partition(|a| a.resolved);
    let resolved = over.len();
    let refused = match shared.queue.offer(firing) {
        Ok(EnqueueResult::Accepted { new, known }) => {
            shared.metrics.alerts("resolved", resolved);
            for alert in &over {
                shared.queue.resolve(alert);
            }
            shared.metrics.alerts("accepted", new);
            shared.metrics.alerts("duplicate", known);
            let mut response = json!({ "accepted": new, "duplicate": known, "resolved": resolved });
            if !payload.left_out.is_empty() {
                log(&payload.left_out.join("; "));
                response["left_out"] = payload.left_out.into();
            }
            if let Some(why) = host_switched_off() {
                response["fixes_switched_off"] = why.into();
            }
            return (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], response.to_string()).into_response();
        }
        Ok(EnqueueResult::Full) => {
            shared.metrics.refused(RejectReason::Queue);
            "the alert queue is full; send it again later"
        }
        Err(e) => {
            log(&format!("an alert could not be written to disk and was not accepted: {e}"));
            "the alerts cannot be stored now; send it again later"
        }
    };
    // the same second, the same body: a client that retries at once sends the same signature
    if let Some(Err(e)) = signature.zip(shared.replays.as_ref()).map(|(s, replays)| replays.release(s.tag())) {
        log(&format!("the signature of a request that was not accepted stays stored: {e}"));
    }
    refusal(StatusCode::SERVICE_UNAVAILABLE, refused)
}

/// Stores a signature.
fn claim(shared: &Shared, signature: &Signature) -> Result<(), Rejection> {
    let later = |text| Rejection(RejectReason::Replay, StatusCode::SERVICE_UNAVAILABLE, text);
    let never = |text| Rejection(RejectReason::Replay, StatusCode::CONFLICT, text);
    let replays = shared.replays.as_ref().ok_or(later("signatures cannot be stored"))?;
    match replays.claim(signature.tag(), signature.at_s(), clock::now().as_second()) {
        Ok(Claim::New) => Ok(()),
        Ok(Claim::Replayed) => Err(never("this request was already accepted")),
        Ok(Claim::Forgotten) => {
            Err(never("the request is signed no later than others that were already dropped, and may be one of them"))
        }
        Ok(Claim::Full) => Err(later("too many signed requests lately; send it again later")),
        Err(e) => {
            log(&format!("a signature could not be stored, and its request was not accepted: {e}"));
            Err(later("the signature cannot be stored now; send it again later"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_to_a_rejected_connection_is_complete() {
        let text = String::from_utf8_lossy(NO_CONNECTION);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
