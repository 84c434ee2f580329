//! HTTP: who may call is asked first, what is read is bounded in size and time, and what was accepted is said only when it is on disk.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use opsctl_core::probe::clock;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::queue::Offered;
use super::{ListenError, Shared, say};
use crate::respond;

/// The largest body, in bytes: 500 alerts with long annotations are below it.
const LARGEST: usize = 1 << 20;

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(10);

/// How long headers may take, and a whole connection.
const HEADERS: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(60);

/// Connections at once, and bodies in memory at once; more wait.
const CONNECTIONS: usize = 128;
const BODIES: usize = 8;

/// How long open requests may still take when it is to end.
const LEAVE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    bodies: Arc<Semaphore>,
}

/// Serves until it is to end.
pub(super) async fn serve(sockets: Vec<StdListener>, shared: Arc<Shared>) -> Result<(), ListenError> {
    let door = Door { shared: Arc::clone(&shared), bodies: Arc::new(Semaphore::new(BODIES)) };
    let router = Router::new()
        .route("/", post(alerts))
        .route("/alerts", post(alerts))
        // where Prometheus sends when it takes us for an Alertmanager
        .route("/api/v2/alerts", post(alerts))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(door);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut listeners = Vec::new();
    for socket in sockets {
        let bind = |source| ListenError::Bind { address: "a socket".to_owned(), source };
        listeners.push(TcpListener::from_std(socket).map_err(bind)?);
    }
    let mut stopping = shared.stopping.clone();
    loop {
        let (stream, permit) = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = accept(&listeners, &room) => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    // out of descriptors: some will be free again in a moment
                    say(&format!("accepting a connection: {e}"));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // who hangs up in the middle is no trouble of ours
            let _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(permit);
        });
    }
    drop(listeners);
    let _ = tokio::time::timeout(LEAVE, graceful.shutdown()).await;
    Ok(())
}

/// The next connection of any of the sockets, when there is room for one.
async fn accept(
    listeners: &[TcpListener],
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    let permit = Arc::clone(room).acquire_owned().await.ok();
    let accepting = listeners.iter().map(|l| Box::pin(l.accept()));
    let (accepted, _, _) = futures_util::future::select_all(accepting).await;
    accepted.map(|(stream, _)| (stream, permit))
}

async fn healthz(State(door): State<Door>) -> Response {
    if door.shared.metrics.is_stuck() {
        return (StatusCode::SERVICE_UNAVAILABLE, "an alert has been in work for half an hour\n").into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

async fn metrics(State(door): State<Door>, request: Request) -> Response {
    if !door.shared.keys.token_fits(request.headers()) {
        return refusal(StatusCode::UNAUTHORIZED, "who are you?");
    }
    let text = door.shared.metrics.text(door.shared.queue.waiting());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn alerts(State(door): State<Door>, request: Request) -> Response {
    let answer = taken(&door, request).await;
    door.shared.metrics.request(answer.status().as_u16());
    answer
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
    // a body that was not read must not be taken for the next request
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}

async fn taken(door: &Door, request: Request) -> Response {
    let shared = &door.shared;
    let (parts, body) = request.into_parts();
    let known = shared.keys.token_fits(&parts.headers);
    if !known && !shared.keys.wants_signature(&parts.headers) {
        return refusal(StatusCode::UNAUTHORIZED, "the token or the signature is missing or wrong");
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > LARGEST as u64) {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
    }
    let body = match tokio::time::timeout(BODY, read(door, body)).await {
        Ok(Some(body)) => body,
        Ok(None) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body broke off, or is larger than 1 MiB"),
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in 10 s"),
    };
    if !known && !shared.keys.signature_fits(&parts.headers, &body, clock::now().as_second()) {
        return refusal(StatusCode::UNAUTHORIZED, "the token or the signature is missing or wrong");
    }
    let alerts = match respond::parse(&body) {
        Ok(alerts) => alerts,
        Err(e) => return refusal(StatusCode::BAD_REQUEST, &e.to_string()),
    };
    drop(body);
    let (over, firing): (Vec<_>, Vec<_>) = alerts.into_iter().partition(|a| a.resolved);
    shared.metrics.alerts("resolved", over.len());
    for alert in &over {
        shared.queue.resolve(alert);
    }
    let offering = Arc::clone(shared);
    let offered = tokio::task::spawn_blocking(move || offering.queue.offer(firing)).await;
    match offered {
        Ok(Ok(Offered::Taken { new, known })) => {
            shared.metrics.alerts("accepted", new);
            shared.metrics.alerts("duplicate", known);
            let said = json!({ "accepted": new, "duplicate": known, "resolved": over.len() }).to_string();
            (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], said).into_response()
        }
        Ok(Ok(Offered::Full)) => refusal(StatusCode::SERVICE_UNAVAILABLE, "too many alerts wait already; send it again later"),
        Ok(Err(e)) => {
            say(&format!("an alert could not be written to disk and was not accepted: {e}"));
            refusal(StatusCode::SERVICE_UNAVAILABLE, "it cannot be kept now; send it again later")
        }
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "it could not be kept"),
    }
}

/// The whole body; none when it is too large or breaks off.
async fn read(door: &Door, body: Body) -> Option<axum::body::Bytes> {
    let _permit = door.bodies.acquire().await.ok()?;
    to_bytes(body, LARGEST).await.ok()
}
