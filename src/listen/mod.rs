//! Answers alerts over HTTP: accepts them (once each, on disk before it says so), looks at the host, tells what it found, and applies
//! what the policy allows without a person, always through the guard.

mod auth;
mod metrics;
mod queue;
mod server;
mod work;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use opsctl_core::model::printable;
use tokio::sync::watch;

use crate::config::Config;
pub use auth::{AuthError, Keys};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use auth::{given_token, unhex};
use metrics::Metrics;
use queue::Queue;

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Anybody could call it.
    #[error(
        "{0} can be reached by others and callers need neither token nor signature: set `token_file` or `hmac_secret_file` in [listen], or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The keys.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The address.
    #[error("listening on {address}: {source}")]
    Bind {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The state directory.
    #[error("keeping alerts in {path}: {source}")]
    Queue {
        /// Where.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What server and worker share.
struct Shared {
    keys: Keys,
    queue: Queue,
    metrics: Metrics,
    /// Set when it is to end.
    stopping: watch::Receiver<bool>,
}

/// The sockets systemd opened, or our own.
fn sockets(address: SocketAddr) -> Result<Vec<TcpListener>, ListenError> {
    let bind = |source| ListenError::Bind { address: address.to_string(), source };
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for i in 0..given.len() {
        sockets.extend(given.take_tcp_listener(i).map_err(bind)?);
    }
    if sockets.is_empty() {
        sockets.push(TcpListener::bind(address).map_err(bind)?);
    }
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(bind)?;
    }
    Ok(sockets)
}

/// Listens until SIGTERM or SIGINT.
pub async fn listen(config: &Config, address: Option<SocketAddr>) -> Result<(), ListenError> {
    let keys = Keys::read(&config.listen)?;
    let sockets = sockets(address.unwrap_or(config.listen.address))?;
    let addresses: Vec<SocketAddr> = sockets.iter().filter_map(|s| s.local_addr().ok()).collect();
    if let Some(open) = addresses.iter().find(|a| !a.ip().is_loopback()).filter(|_| keys.are_open()) {
        return Err(ListenError::Open(*open));
    }
    let folder = crate::look::state_dir(config).join("alerts");
    let queue = Queue::open(folder.clone(), config.listen.queue, config.listen.repeat_after)
        .map_err(|source| ListenError::Queue { path: folder.display().to_string(), source })?;
    let (stop, stopping) = watch::channel(false);
    let left = queue.waiting();
    let shared = Arc::new(Shared { keys, queue, metrics: Metrics::default(), stopping });
    for address in &addresses {
        say(&format!("listening on {address}"));
    }
    if left > 0 {
        say(&format!("{left} alerts were accepted before and not answered yet"));
    }
    // whoever started us waits for this
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watch_over(Arc::clone(&shared)));
    let served = server::serve(sockets, Arc::clone(&shared));
    let worked = work::work(config, &shared);
    let until = async {
        signalled().await;
        say("ending: what is being answered is finished, what waits stays on disk");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let _ = stop.send(true);
    };
    let (result, (), ()) = tokio::join!(served, worked, until);
    watchdog.abort();
    result
}

/// Tells systemd that we are alive: the runtime turns, and no alert has been in work for longer than any may take.
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
        // without handlers the signals end the process as they always do
        _ => std::future::pending().await,
    }
}

/// One line for the journal.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "opsctl listen: {}", printable(line));
}
