//! Answers alerts over HTTP: accepts them (once each, on disk before it says so), looks at the host, tells what it found, and applies
//! what the policy allows without a person, always through the guard.
//!
//! Callers are known or refused, on loopback too: by the kernel's word on a unix socket (`peers`), by a token or by a signature (`auth`)
//! that is accepted once (`replays`). Web pages are refused before that (`foreign`).

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
use opsctl_core::probe::host;
use tokio::sync::watch;

use crate::config::Config;
pub use auth::{AuthError, Keys};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use auth::{given_token, unhex};
use foreign::Own;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use foreign::is_loopback_host;
use metrics::Metrics;
use peers::Allowed;
use queue::Queue;
use replays::Replays;
use sockets::Socket;
pub use token::{create_token, token_path};

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Callers over TCP have nothing to show.
    #[error(
        "callers of {0} have to send a token or a signature, on loopback too, and there is neither: `opsctl listen --init` creates a token; or set `token_file` or `hmac_secret_file` in [listen]; or `socket` and `address = \"off\"` for callers of this host"
    )]
    Open(SocketAddr),
    /// No address and no socket.
    #[error("[listen] has neither `address` nor `socket`: nobody could call")]
    Nowhere,
    /// The keys.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A user or a group.
    #[error("{0}")]
    Callers(String),
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
    /// The memory of signatures.
    #[error(
        "remembering signatures in {path}: {why}; without it a signed request could be sent again. A file that is damaged can be moved away once no signature is younger than `hmac_window`"
    )]
    Replays {
        /// Where.
        path: String,
        /// Why not.
        why: String,
    },
}

/// What server and worker share.
struct Shared {
    keys: Keys,
    allowed: Allowed,
    own: Own,
    queue: Queue,
    /// None when callers do not sign.
    replays: Option<Replays>,
    metrics: Metrics,
    /// Set when it is to end.
    stopping: watch::Receiver<bool>,
}

/// The memory of signatures, if callers may sign.
fn replays(keys: &Keys, state_dir: &Path) -> Result<Option<Replays>, ListenError> {
    if !keys.accept_signatures() {
        return Ok(None);
    }
    let path = state_dir.join(replays::FILE);
    let opened = Replays::open(&path, keys.window_s());
    opened.map(Some).map_err(|why| ListenError::Replays { path: path.display().to_string(), why })
}

/// Listens until SIGTERM or SIGINT.
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
    let state_dir = crate::look::state_dir(config);
    let directory = state_dir.join("alerts");
    let queue = Queue::open(directory.clone(), listen.queue, listen.repeat_after)
        .map_err(|source| ListenError::Queue { path: directory.display().to_string(), source })?;
    let replays = replays(&keys, &state_dir)?;
    let (stop, stopping) = watch::channel(false);
    let left = queue.waiting();
    let shared = Arc::new(Shared { keys, allowed, own, queue, replays, metrics: Metrics::default(), stopping });
    for socket in &sockets {
        say(&format!("listening on {socket}"));
    }
    if left > 0 {
        say(&format!("{left} alerts were accepted before and not answered yet"));
    }
    if let Some(why) = crate::fix::host_switched_off() {
        say(&why);
    }
    // systemd waits for this
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
