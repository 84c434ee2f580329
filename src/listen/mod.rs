//! The alert listener: accepts alerts over HTTP (once each, on disk before the response), checks the host, reports the results,
//! and applies the fixes that the policy allows without confirmation, always through the guard.
//!
//! Clients are authenticated, on loopback too: by the credentials of the kernel on a unix socket (`peers`), by a token or by a
//! signature (`auth`) that is accepted once (`replays`). Requests of web pages are rejected before that (`foreign`).

mod auth;
mod connections;
mod foreign;
mod metrics;
mod peers;
mod queue;
mod replays;
mod server;
mod sockets;
mod token;
mod work;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use opsctl_core::model::printable;
use opsctl_core::probe::kernel::host;
use tokio::sync::watch;

use crate::config::Config;
pub use auth::{AuthError, Keys};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use auth::{bearer_token, unhex};
use foreign::Own;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use foreign::is_loopback_host;
use metrics::Metrics;
use peers::Allowed;
use queue::Queue;
use replays::Replays;
use sockets::Socket;
pub use token::{create_token, token_path};

/// Reason why the listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No credentials for clients over TCP.
    #[error(
        "clients of {0} must send a token or a signature, on loopback too, and neither is configured: `opsctl listen --init` creates a token; or set `token_file` or `hmac_secret_file` in [listen]; or `socket` and `address = \"off\"` for clients on this host"
    )]
    Open(SocketAddr),
    /// No address and no socket.
    #[error("[listen] has neither `address` nor `socket`: no client could connect")]
    Nowhere,
    /// The keys are unusable.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// An unknown user or group.
    #[error("{0}")]
    Callers(String),
    /// The address cannot be bound.
    #[error("listening on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The queue is unusable.
    #[error("storing alerts in {path}: {source}")]
    Queue {
        /// Directory of the queue.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The stored signatures are unusable.
    #[error(
        "storing signatures in {path}: {why}; without it a signed request could be replayed. A damaged file can be moved away once no signature is younger than `hmac_window`"
    )]
    Replays {
        /// Path of the file.
        path: String,
        /// Cause.
        why: String,
    },
}

/// State shared by server and worker.
struct Shared {
    keys: Keys,
    allowed: Allowed,
    own: Own,
    queue: Queue,
    /// `None` if clients do not sign.
    replays: Option<Replays>,
    metrics: Metrics,
    /// Set when the listener stops.
    stopping: watch::Receiver<bool>,
}

/// The stored signatures, if clients may sign.
fn replays(keys: &Keys, state_dir: &Path) -> Result<Option<Replays>, ListenError> {
    if !keys.accept_signatures() {
        return Ok(None);
    }
    let path = state_dir.join(replays::FILE);
    let opened = Replays::open(&path, keys.window_s());
    opened.map(Some).map_err(|why| ListenError::Replays { path: path.display().to_string(), why })
}

/// Runs until SIGTERM or SIGINT.
pub async fn listen(config: &Config, address: Option<SocketAddr>) -> Result<(), ListenError> {
    let listen = &config.listen;
    let keys = Keys::read(config)?;
    let allowed = Allowed::read(listen).map_err(ListenError::Callers)?;
    let sockets = sockets::open(listen, address, &allowed)?;
    let addresses: Vec<SocketAddr> = sockets.iter().filter_map(Socket::address).collect();
    if let Some(open) = addresses.first().filter(|_| keys.are_missing()) {
        return Err(ListenError::Open(*open));
    }
    let bound = addresses.iter().chain(&listen.address).map(|address| address.ip().to_canonical());
    let bound = bound.filter(|ip| !ip.is_unspecified()).collect();
    let own = Own::new(&host::hostname(), &listen.hosts, bound, &listen.origins);
    let state_dir = crate::diagnosis::state_dir(config);
    let directory = state_dir.join("alerts");
    let queue = Queue::open(directory.clone(), listen.queue, listen.repeat_after)
        .map_err(|source| ListenError::Queue { path: directory.display().to_string(), source })?;
    let replays = replays(&keys, &state_dir)?;
    let (stop, stopping) = watch::channel(false);
    let left = queue.waiting();
    let shared = Arc::new(Shared { keys, allowed, own, queue, replays, metrics: Metrics::default(), stopping });
    for socket in &sockets {
        log(&format!("listening on {socket}"));
    }
    if left > 0 {
        log(&format!("{left} accepted alerts are still queued"));
    }
    if let Some(why) = crate::fix::host_switched_off() {
        log(&why);
    }
    // systemd waits for this
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watch_over(Arc::clone(&shared)));
    let served = server::serve(sockets, Arc::clone(&shared));
    let worked = work::work(config, &shared);
    let until = async {
        signalled().await;
        log("stopping: alerts in progress are completed, queued alerts stay on disk");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let _ = stop.send(true);
    };
    let (result, (), ()) = tokio::join!(served, worked, until);
    watchdog.abort();
    result
}

/// Sends watchdog notifications to systemd while the runtime responds and no alert has been in progress for too long.
async fn watch_over(shared: Arc<Shared>) {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(every / 3).await;
        if !shared.metrics.is_stuck() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        // without handlers the signals terminate the process by default
        _ => std::future::pending().await,
    }
}

/// Writes one line to the log.
fn log(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "opsctl listen: {}", printable(line));
}
