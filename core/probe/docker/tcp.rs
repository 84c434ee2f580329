//! TCP to an engine. Its name is resolved without the C library, and on this host the owner of the listener is determined: every user
//! can listen on the port of an engine that does not run.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::process::Listener;
use crate::model::address::split_port;
use crate::probe::io::http::HttpError;
use crate::probe::network::{OwnedSocket, end_of_connection, tcp_listeners};
use crate::probe::{Io, blocking, lag};

/// Time limit of reading the sockets of this network namespace.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// An engine at `host:port`.
pub struct TcpHost {
    address: String,
    resolved: OnceCell<Vec<SocketAddr>>,
    /// The owner of the listener that was seen first; no other one is used.
    listener: OnceCell<Listener>,
}

impl PartialEq for TcpHost {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for TcpHost {}

impl fmt::Debug for TcpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpHost").field(&self.address).finish()
    }
}

impl TcpHost {
    /// `host:port`.
    pub(super) fn new(address: String) -> Self {
        Self { address, resolved: OnceCell::new(), listener: OnceCell::new() }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The addresses of the name, determined once.
    ///
    /// # Errors
    /// The reason why there are none.
    pub(super) async fn resolved(&self, timeout: Duration) -> Result<&[SocketAddr], String> {
        let read = || async {
            let (host, port) = split_port(&self.address);
            let (name, port) = (host.to_owned(), port.unwrap_or_default());
            let found = blocking::run("a host name", &self.address, timeout, move |io| io.look_up(&name, port)).await;
            found.map_err(|e| e.to_string())?.map_err(|e| format!("name lookup: {e}"))
        };
        self.resolved.get_or_try_init(read).await.map(Vec::as_slice)
    }

    /// A new connection to any listener: the peer has to be proven by TLS.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<TcpStream, HttpError> {
        let addresses = self.resolved(timeout).await.map_err(HttpError::Closed)?;
        let connected = lag::handshake(timeout, TcpStream::connect(addresses)).await.map_err(|_| HttpError::Timeout)?;
        connected.map_err(|e| HttpError::Closed(e.to_string()))
    }

    /// A new connection to the same listener as before.
    pub(super) async fn open(&self, timeout: Duration) -> Result<TcpStream, HttpError> {
        let stream = self.connect(timeout).await?;
        let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
        let (peer, own) = ends.map_err(|e| HttpError::Closed(e.to_string()))?;
        let read = blocking::run("the listener of the engine", &self.address, READ_TIMEOUT, move |io| listener(io, peer, own));
        let found = read.await.map_err(|e| HttpError::Closed(e.to_string()))?;
        let first = *self.listener.get_or_init(|| async { found }).await;
        if first != found {
            return Err(HttpError::Closed("another user listens on it than before".to_owned()));
        }
        Ok(stream)
    }

    /// The owner of the listener of the first connection.
    pub(super) fn listener(&self) -> Listener {
        self.listener.get().copied().unwrap_or_default()
    }
}

/// The owner of the listener that a connection on this host reached. Unknown if the packet filter redirected it.
fn listener(io: &Io, peer: SocketAddr, own: SocketAddr) -> Listener {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let own = SocketAddr::new(own.ip().to_canonical(), own.port());
    // another machine, or another network namespace
    if !peer.ip().is_loopback() && peer.ip() != own.ip() {
        return Listener::default();
    }
    let Ok(Some(end)) = end_of_connection(peer, own) else { return Listener::of_socket(None) };
    Listener::of_socket(owner(&tcp_listeners(io).unwrap_or_default(), peer, end, rustix::process::geteuid().as_raw()))
}

/// The user of all listeners that can accept at `at`, and of the accepted connection: if they differ, the one that is neither
/// root nor `trusted`.
fn owner(listeners: &[OwnedSocket], at: SocketAddr, end: OwnedSocket, trusted: u32) -> Option<u32> {
    let is_any = |l: &OwnedSocket| l.local.ip().is_unspecified() && (l.is_v6 || at.is_ipv4());
    let here = listeners.iter().filter(|l| l.local.port() == at.port() && (l.local.ip() == at.ip() || is_any(l)));
    let users: Vec<u32> = here.map(|l| l.uid).collect();
    // a connection that no process has accepted yet belongs to root
    let accepted = (end.inode != 0).then_some(end.uid);
    let first = *users.first()?;
    Some(users.into_iter().chain(accepted).find(|uid| *uid != 0 && *uid != trusted).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MALLORY: u32 = 4711;

    fn socket(local: &str, is_v6: bool, uid: u32, inode: u64) -> OwnedSocket {
        OwnedSocket { local: local.parse().unwrap(), is_v6, uid, inode }
    }

    fn owner_of(listeners: &[OwnedSocket], accepted: (u32, u64)) -> Option<u32> {
        let at = "127.0.0.1:2375".parse().unwrap();
        owner(listeners, at, socket("127.0.0.1:2375", false, accepted.0, accepted.1), 0)
    }

    #[test]
    fn user_of_any_matching_listener_counts() {
        let root = socket("127.0.0.1:2375", false, 0, 1);
        assert_eq!(owner_of(&[root], (0, 0)), Some(0));
        for own in [
            socket("127.0.0.1:2375", false, MALLORY, 2),
            socket("0.0.0.0:2375", false, MALLORY, 2),
            socket("[::]:2375", true, MALLORY, 2),
        ] {
            assert_eq!(owner_of(&[root, own], (0, 0)), Some(MALLORY), "{own:?}");
            assert_eq!(owner_of(&[own], (0, 0)), Some(MALLORY), "{own:?}");
        }
        let other = [socket("127.0.0.1:2376", false, MALLORY, 2), socket("127.0.0.2:2375", false, MALLORY, 3)];
        assert_eq!(owner_of(&[other.as_slice(), &[root]].concat(), (0, 0)), Some(0));
    }

    #[test]
    fn user_that_accepts_on_a_listener_of_root_counts() {
        assert_eq!(owner_of(&[socket("127.0.0.1:2375", false, 0, 1)], (MALLORY, 5)), Some(MALLORY));
    }

    #[test]
    fn connection_without_a_listener_has_no_owner() {
        assert_eq!(owner_of(&[], (0, 0)), None);
        assert!(Listener::of_socket(None).is_foreign() && Listener::of_socket(Some(MALLORY)).is_foreign());
        assert_eq!(Listener::of_socket(Some(0)), Listener::default());
    }

    #[tokio::test]
    async fn listener_of_this_process_is_its_users() {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = TcpHost::new(format!("localhost:{}", socket.local_addr().unwrap().port()));
        // both stay open: a closed connection has no owner
        let (opened, accepted) = tokio::join!(host.open(Duration::from_secs(5)), socket.accept());
        assert!(opened.is_ok() && accepted.is_ok());
        assert_eq!((host.listener.get(), host.listener()), (Some(&Listener::default()), Listener::default()));
    }

    #[tokio::test]
    async fn name_without_an_address_is_named() {
        let host = TcpHost::new("nothing.invalid:2375".to_owned());
        let error = host.resolved(Duration::from_secs(8)).await.unwrap_err();
        assert!(error.contains("name lookup") || error.contains("timed out"), "{error}");
    }
}
