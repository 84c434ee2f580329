//! Connections to a server from its own network namespace and root, as the user that it runs as.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Socket;
use crate::probe::io::{Root, threads};
use crate::probe::network::netns;
use crate::probe::network::netns::ConnectError;
use crate::probe::{Io, ProbeError, blocking};

/// A connection of any transport.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(tokio::net::UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream<Stream>>),
}

/// Delegates a call to the underlying transport.
macro_rules! inner {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Self::Tcp(s) => Pin::new(s).$method($($argument),*),
            Self::Unix(s) => Pin::new(s).$method($($argument),*),
            Self::Tls(s) => Pin::new(s).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        inner!(self, poll_read, cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        inner!(self, poll_write, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        inner!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        inner!(self, poll_shutdown, cx)
    }
}

/// Limit of the bytes read from one connection: no server has more to report, and one that does not stop must not fill this
/// process's memory.
const MAX_STREAM_BYTES: usize = 24 << 20;

/// A connection that fails once the peer has sent too much. For clients that buffer a reply until it is complete.
#[derive(Debug)]
pub struct Bounded {
    stream: Stream,
    read: usize,
}

impl Bounded {
    /// Limits a connection.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, read: 0 }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read += buffer.filled().len() - before;
        if self.read > MAX_STREAM_BYTES {
            return Poll::Ready(Err(std::io::Error::other(format!("it sent more than {} MiB", MAX_STREAM_BYTES >> 20))));
        }
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Address of a server and the namespaces and user to connect with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAddr {
    /// Listening socket.
    pub socket: Socket,
    /// Process that provides the network namespace and the root, or `None` for those of this process.
    pub inside: Option<i32>,
    /// User to connect as, which the server sees through `SO_PEERCRED`, or `None` for the current user.
    pub user: Option<(u32, u32)>,
}

impl ConnectAddr {
    /// For display: `127.0.0.1:6379`, `/run/postgresql/.s.PGSQL.5432`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Unix(path) => path.display().to_string(),
            Socket::Tcp(address) => address.to_string(),
        }
    }
}

/// Opens a connection.
pub async fn open_connection(addr: &ConnectAddr, timeout: Duration) -> Result<Result<Stream, ConnectError>, ProbeError> {
    match &addr.socket {
        Socket::Tcp(address) => tcp(*address, addr.inside, timeout).await,
        Socket::Unix(path) => unix(path.clone(), addr.inside, addr.user, timeout).await,
    }
}

async fn tcp(address: SocketAddr, inside: Option<i32>, timeout: Duration) -> Result<Result<Stream, ConnectError>, ProbeError> {
    // an unknown namespace is entered, or the attempt is denied: the same address here is another server
    let is_here = match inside {
        Some(pid) => blocking::run("a namespace", "/proc", timeout, move |io| netns::is_own(io, pid)).await? == Some(true),
        None => true,
    };
    let stream = match inside {
        Some(pid) if !is_here => netns::connect_inside(i64::from(pid), address, timeout).await?,
        _ => netns::connect(address, timeout).await?,
    };
    Ok(stream.map(|s| {
        // the messages are small
        let _ = s.set_nodelay(true);
        Stream::Tcp(s)
    }))
}

async fn unix(
    path: PathBuf,
    inside: Option<i32>,
    user: Option<(u32, u32)>,
    timeout: Duration,
) -> Result<Result<Stream, ConnectError>, ProbeError> {
    let from = path.display().to_string();
    // connect(2) blocks indefinitely while the listener's queue is full
    let made = blocking::run("a connection", &from, timeout, move |io| connect_unix(io, &path, inside, user)).await;
    let stream = match made {
        // a closed directory or socket is no fault of the server
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(ProbeError::io("a connection", &from, &e));
        }
        Ok(stream) => stream,
        Err(ProbeError::Timeout { .. }) => return Ok(Err(ConnectError::Timeout)),
        Err(e) => return Err(e),
    };
    Ok(stream.map_err(|e| netns::classify(&e)).and_then(|s| {
        let ready = s.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(s));
        ready.map(Stream::Unix).map_err(|e| ConnectError::Other(e.to_string()))
    }))
}

/// Runs on a thread of its own, which changes its user and then exits.
#[allow(clippy::disallowed_methods, reason = "the caller has the token")]
fn connect_unix(io: &Io, path: &Path, inside: Option<i32>, user: Option<(u32, u32)>) -> std::io::Result<UnixStream> {
    // with the rights of the server and below its root: symbolic links resolve as they do for the server
    let socket = Root::of_or_own(io, inside)?.open_path(path)?;
    if let Some((uid, gid)) = user.filter(|_| rustix::process::geteuid().is_root()) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        threads::retire();
        set_thread_groups(&[])?;
        // the server sees the effective ids; with the real and the saved one the user could signal this process
        set_thread_res_gid(None, gid, None)?;
        set_thread_res_uid(None, uid, None)?;
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd()))
}

/// User and group that a process runs as.
#[must_use]
pub fn user_of(io: &Io, pid: i32) -> Option<(u32, u32)> {
    let status = io.read_lossy(format!("/proc/{pid}/status")).ok()?;
    let id = |key: &str| status.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().nth(1)?.parse().ok();
    Some((id("Uid:")?, id("Gid:")?))
}
