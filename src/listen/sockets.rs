//! Listening sockets: passed by systemd or opened by opsctl.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::ListenError;
use super::peers::{self, Allowed};
use crate::config::Listen;

/// A listening socket.
pub(super) enum Socket {
    /// Over TCP.
    Tcp(TcpListener),
    /// A unix socket, and the group of its file.
    Unix(UnixListener, Option<u32>),
}

/// An accepted connection.
pub(super) enum Stream {
    /// With the address of the client.
    Tcp(TcpStream, SocketAddr),
    /// With the group of the socket file.
    Unix(UnixStream, Option<u32>),
}

impl Socket {
    /// Accepts the next connection.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Stream::Tcp(stream, peer)),
            Self::Unix(listener, group) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream, *group)),
        }
    }

    /// Its TCP address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    fn tcp(listener: StdTcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)?))
    }

    fn unix(listener: StdUnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let group = peers::group_of(&listener);
        Ok(Self::Unix(UnixListener::from_std(listener)?, group))
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a TCP socket"),
            },
            Self::Unix(listener, _) => match listener.local_addr().ok().as_ref().and_then(|a| a.as_pathname()) {
                Some(path) => path.display().fmt(f),
                None => f.write_str("a unix socket without a path"),
            },
        }
    }
}

/// The sockets passed by systemd, or those of the configuration; `address` is from the command line.
pub(super) fn open(listen: &Listen, address: Option<SocketAddr>, allowed: &Allowed) -> Result<Vec<Socket>, ListenError> {
    let bind = |address: String| move |source| ListenError::Bind { address, source };
    let mut sockets = Vec::new();
    let mut inherited = listenfd::ListenFd::from_env();
    for i in 0..inherited.len() {
        let error = || bind(format!("descriptor {i} of systemd"));
        // a descriptor of another kind is not used
        let socket = match inherited.take_tcp_listener(i) {
            Ok(tcp) => tcp.map(Socket::tcp),
            Err(_) => inherited.take_unix_listener(i).map_err(error())?.map(Socket::unix),
        };
        sockets.extend(socket.transpose().map_err(error())?);
    }
    if !sockets.is_empty() {
        return Ok(sockets);
    }
    if let Some(address) = address.or(listen.address) {
        let listener = StdTcpListener::bind(address).and_then(Socket::tcp);
        sockets.push(listener.map_err(bind(address.to_string()))?);
    }
    if let Some(path) = &listen.socket {
        let listener = peers::bind(path, allowed).and_then(Socket::unix);
        sockets.push(listener.map_err(bind(path.display().to_string()))?);
    }
    if sockets.is_empty() { Err(ListenError::Nowhere) } else { Ok(sockets) }
}
