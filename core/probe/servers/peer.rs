//! Connections to a server with a proven peer: no reply is used before that.

use std::net::SocketAddr;
use std::time::Duration;

use super::connect::{ConnectAddr, Stream, open_connection};
use super::sockets::{listeners_at, other_end};
use super::{CONNECT_TIMEOUT, ServerHandle, SessionError, Trust};
use crate::model::{Product, ServerProcess};
use crate::probe::io::ids_of;
use crate::probe::io::stat::parent_and_start;
use crate::probe::network::netns;
use crate::probe::proc::owner::{may_serve_any, user};
use crate::probe::proc::process;
use crate::probe::servers::identity::may_serve;
use crate::probe::{Io, ProbeError, blocking};

/// Timeout of reading the sockets of one namespace.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason for an unproven peer of a connection, in words.
pub(super) type UnprovenReason = String;

/// A connection to a server.
pub(super) struct PeerConnection {
    /// The connection.
    pub(super) stream: Stream,
    /// Reason for sending no password unless TLS proves the peer: it is on another host, or a program of another service
    /// responds.
    pub(super) doubt: Option<UnprovenReason>,
}

/// Connects, and proves that the connection ends at the intended server: for a discovered server, at its process; for a
/// configured address on this host, at a process of root, of the user that runs opsctl or of a service, unless `trust` proves it.
/// A peer on another host can be proven by TLS only.
pub(super) async fn reach(
    addr: &ConnectAddr,
    known: &ServerHandle,
    trust: Option<&Trust>,
) -> Result<Result<PeerConnection, SessionError>, ProbeError> {
    let expected =
        ExpectedPeer { process: known.server.process, product: known.server.product, is_seen: known.is_local.is_some() };
    let (stream, proven) = match dial(addr, expected).await? {
        Ok(made) => made,
        Err(why) => return Ok(Err(why)),
    };
    Ok(match proven {
        Ok(()) => Ok(PeerConnection { stream, doubt: None }),
        Err(Unproven::Login(doubt)) => Ok(PeerConnection { stream, doubt: Some(doubt) }),
        Err(Unproven::Answers(doubt)) if expected.process.is_none() && trust.is_some_and(Trust::proves) => {
            Ok(PeerConnection { stream, doubt: Some(doubt) })
        }
        Err(Unproven::Answers(why)) => Err(SessionError::Unproven { address: addr.address(), why }),
    })
}

/// Connects to a process, and proves that the connection ends there.
pub(super) async fn reach_process(
    addr: &ConnectAddr,
    process: ServerProcess,
    product: Product,
) -> Result<Result<Stream, SessionError>, ProbeError> {
    let expected = ExpectedPeer { process: Some(process), product, is_seen: false };
    Ok(dial(addr, expected).await?.and_then(|(stream, proven)| match proven {
        Ok(()) => Ok(stream),
        Err(Unproven::Login(why) | Unproven::Answers(why)) => Err(SessionError::Unproven { address: addr.address(), why }),
    }))
}

/// The expected peer.
#[derive(Clone, Copy)]
struct ExpectedPeer {
    process: Option<ServerProcess>,
    product: Product,
    /// Whether its network namespace is known, and is entered if it is another one.
    is_seen: bool,
}

type Dialed = (Stream, Result<(), Unproven>);

async fn dial(addr: &ConnectAddr, expected: ExpectedPeer) -> Result<Result<Dialed, SessionError>, ProbeError> {
    let address = addr.address();
    let stream = match open_connection(addr, CONNECT_TIMEOUT).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return Ok(Err(SessionError::unconnected(address, why))),
        // its network namespace, or the directory of its socket
        Err(ProbeError::Denied { needs, .. }) => {
            return Ok(Err(SessionError::Unproven { address, why: format!("permission denied; needs {needs}") }));
        }
        Err(e) => return Err(e),
    };
    let ends = match Ends::of(&stream) {
        Ok(ends) => ends,
        Err(e) => return Ok(Err(SessionError::Closed { address, why: e.to_string() })),
    };
    let inside = addr.inside;
    let proven = blocking::run("the peer of a connection", &address, READ_TIMEOUT, move |io| match ends {
        Ends::Unix(peer) => unix(io, peer, expected.process, expected.product).map_err(Unproven::Answers),
        Ends::Tcp(peer, own) => match expected.process {
            Some(process) if inside == Some(process.pid) => {
                listens(io, process, peer, own, expected.is_seen).map_err(Unproven::Answers)
            }
            _ => local(io, peer, own, expected.product),
        },
    });
    Ok(Ok((stream, proven.await?)))
}

/// Restriction on an unproven peer, and the reason.
enum Unproven {
    /// No login is sent.
    Login(UnprovenReason),
    /// No login is sent, and the replies are not used.
    Answers(UnprovenReason),
}

/// Endpoints of a connection as the kernel reports them.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// A unix socket.
    Unix(Peer),
    /// TCP: the remote and the local address.
    Tcp(SocketAddr, SocketAddr),
}

impl Ends {
    /// Endpoints of an open connection.
    fn of(stream: &Stream) -> std::io::Result<Self> {
        match stream {
            Stream::Tls(inner) => Self::of(inner.get_ref().0),
            Stream::Unix(socket) => {
                let peer = socket.peer_cred()?;
                Ok(Self::Unix(Peer { pid: peer.pid().unwrap_or(0), uid: peer.uid() }))
            }
            Stream::Tcp(socket) => Ok(Self::Tcp(socket.peer_addr()?, socket.local_addr()?)),
        }
    }
}

/// `SO_PEERCRED` (unix(7)): the process that called listen(2), in this PID namespace; 0 for a process outside of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pid: i32,
    uid: u32,
}

fn unix(io: &Io, peer: Peer, process: Option<ServerProcess>, product: Product) -> Result<(), UnprovenReason> {
    let doubt = || format!("its socket is served by process {} of {}", peer.pid, user(io, peer.uid));
    // socket activation: systemd calls listen(2) and passes the socket
    if peer.pid == 1 && peer.uid == 0 {
        return Ok(());
    }
    let Some(process) = process else {
        return if may_serve(io, peer.uid, product) { Ok(()) } else { Err(doubt()) };
    };
    if peer.pid == process.pid {
        return if is_same(io, process) && is_of(io, process.pid, peer.uid) { Ok(()) } else { Err(doubt()) };
    }
    // the process that created the socket has daemonized into this one and exited
    let ended = peer.pid != 0 && !io.exists(format!("/proc/{}", peer.pid));
    let same_user = ids_of(io, process.pid).is_ok_and(|ids| ids.user() == Some(peer.uid) && peer.uid != 0);
    if ended && same_user && is_same(io, process) { Ok(()) } else { Err(doubt()) }
}

/// Whether the process is still the discovered one.
fn is_same(io: &Io, process: ServerProcess) -> bool {
    let stat = io.read_lossy(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    parent_and_start(&stat).map(|(_, start)| start) == Some(process.start_ticks)
}

/// Whether `uid` may own the sockets of a process: its own user, or root before it changed its user. A descriptor can be
/// inherited.
fn is_of(io: &Io, pid: i32, uid: u32) -> bool {
    uid == 0 || ids_of(io, pid).is_ok_and(|ids| ids.user() == Some(uid))
}

/// Whether `process` holds the socket to which the kernel assigns connections to `address` in its network namespace, and its user
/// owns the socket that accepted the connection from `own`: another listener may have accepted it and been closed. `entered`: the
/// connection was opened in that namespace; otherwise the remote endpoint has to be in it.
fn listens(io: &Io, process: ServerProcess, address: SocketAddr, own: SocketAddr, entered: bool) -> Result<(), UnprovenReason> {
    let pid = process.pid;
    // the thread of this proof ends after it
    let in_namespace = entered && netns::enter_other(io, pid).is_ok();
    let listeners = listeners_at(io, pid, in_namespace, address);
    let Some((uid, _)) = listeners.first().copied() else { return Err(format!("no listener at {address} any more")) };
    if !is_same(io, process) {
        return Err(format!("process {pid} has ended"));
    }
    let end = other_end(io, pid, in_namespace, address, own);
    if end.is_none() && !entered {
        return Err(format!("the connection to {address} does not end in its network namespace"));
    }
    let accepted = end.filter(|(_, inode)| *inode != 0);
    if let Some(other) = [Some(uid), accepted.map(|(uid, _)| uid)].into_iter().flatten().find(|uid| !is_of(io, pid, *uid)) {
        return Err(format!("the server at {address} belongs to {}", user(io, other)));
    }
    match process::sockets(io, pid) {
        Some(held) if !listeners.iter().any(|(_, inode)| held.contains(inode)) => {
            Err(format!("the listener at {address} belongs to another process of {}", user(io, uid)))
        }
        // without access to the descriptors of another user, the owner of the socket is known
        Some(_) | None => Ok(()),
    }
}

/// Verifies a configured address: on this host by the user of the listener, on another host not at all.
fn local(io: &Io, peer: SocketAddr, own: SocketAddr, product: Product) -> Result<(), Unproven> {
    if peer.ip() != own.ip() && !peer.ip().is_loopback() {
        let doubt = format!("{peer} is on another host, and only TLS with a verified certificate proves it");
        return Err(Unproven::Login(doubt));
    }
    served_by(io, peer, own, &|uid| may_serve(io, uid, product)).map_err(|doubt| {
        // replies relayed by a service of this host are used; a password is sent to the product itself only
        if served_by(io, peer, own, &may_serve_any).is_ok() { Unproven::Login(doubt) } else { Unproven::Answers(doubt) }
    })
}

/// Whether both the listener at `peer` and the socket that accepted the connection belong to users that may serve there. A user's
/// program can close its listener as soon as it has accepted one connection.
pub(in crate::probe) fn served_by(
    io: &Io,
    peer: SocketAddr,
    own: SocketAddr,
    may: &dyn Fn(u32) -> bool,
) -> Result<(), UnprovenReason> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let (accepted, listener) = (other_end(io, pid, true, peer, own), listeners_at(io, pid, true, peer).first().copied());
    let refused = |uid: u32| Err(format!("the server at {peer} belongs to {}", user(io, uid)));
    match (accepted, listener) {
        (_, Some((uid, _))) if !may(uid) => refused(uid),
        (Some((uid, inode)), _) if inode != 0 && !may(uid) => refused(uid),
        // no process owns the remote endpoint, and there is no listener that could accept it
        (Some((_, 0)), None) => Err(format!("no listener at {peer} any more")),
        // no socket of this namespace: the engine's NAT rules, which belong to root, forward a published port to the container
        _ => Ok(()),
    }
}
