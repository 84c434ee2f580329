//! Who answers at the other end of a connection, before a login is sent.

use std::net::SocketAddr;
use std::time::Duration;

use super::connect::{Stream, Way};
use super::sockets::{listener_at, other_end};
use super::{Known, parent_and_start};
use crate::model::{Product, ServerProcess};
use crate::probe::identity::{may_serve, user};
use crate::probe::io::ids_of;
use crate::probe::{Io, ProbeError, blocking, process};

/// Time limit of reading the sockets of one namespace.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the peer of a connection is not proven, in words.
pub(super) type Doubt = String;

/// The ends of a connection, as the kernel has them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ends {
    /// A unix socket.
    Unix(Peer),
    /// TCP: the other end, and this one.
    Tcp(SocketAddr, SocketAddr),
}

impl Ends {
    /// Of a connection that is made.
    pub(super) fn of(stream: &Stream) -> std::io::Result<Self> {
        match stream {
            Stream::Tls(inner) => Self::of(inner.get_ref().0),
            Stream::Unix(socket) => {
                let peer = socket.peer_cred()?;
                Ok(Self::Unix(Peer { pid: peer.pid().unwrap_or(0), uid: peer.uid() }))
            }
            Stream::Tcp(socket) => Ok(Self::Tcp(socket.peer_addr()?, socket.local_addr()?)),
        }
    }

    /// Proves that the connection ends at the server it is meant for: for a server that was found, at its process; for an address of
    /// the configuration on this host, at a process of root, of the user that runs opsctl or of the product's own user. A peer on
    /// another host cannot be proven; only TLS can.
    pub(super) async fn prove(self, way: &Way, known: &Known) -> Result<Result<(), Doubt>, ProbeError> {
        let (process, product, inside) = (known.server.process, known.server.product, way.inside);
        blocking::run("the peer of a connection", &way.address(), READ_TIMEOUT, move |io| match self {
            Self::Unix(peer) => unix(io, peer, process, product),
            Self::Tcp(peer, own) => match process {
                Some(process) if inside == Some(process.pid) => listens(io, process, peer, own),
                _ => local(io, peer, own, product),
            },
        })
        .await
    }
}

/// What `SO_PEERCRED` says (unix(7)): the process that called listen(2), in this process namespace; 0 is none of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pid: i32,
    uid: u32,
}

fn unix(io: &Io, peer: Peer, process: Option<ServerProcess>, product: Product) -> Result<(), Doubt> {
    let doubt = || format!("its socket is served by process {} of {}", peer.pid, user(io, peer.uid));
    // a socket unit: systemd listens, and hands the socket over
    if peer.pid == 1 && peer.uid == 0 {
        return Ok(());
    }
    let Some(process) = process else {
        return if may_serve(io, peer.uid, product) { Ok(()) } else { Err(doubt()) };
    };
    if peer.pid == process.pid {
        return if is_same(io, process) && is_of(io, process.pid, peer.uid) { Ok(()) } else { Err(doubt()) };
    }
    // the process that made the socket has become this one in the background, and ended
    let ended = peer.pid != 0 && !io.exists(format!("/proc/{}", peer.pid));
    let same_user = ids_of(io, process.pid).is_ok_and(|ids| ids.user() == Some(peer.uid) && peer.uid != 0);
    if ended && same_user && is_same(io, process) { Ok(()) } else { Err(doubt()) }
}

/// Whether the process is still the one that was found.
fn is_same(io: &Io, process: ServerProcess) -> bool {
    let stat = io.read_lossy(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    parent_and_start(&stat).map(|(_, start)| start) == Some(process.start_ticks)
}

/// Whether `uid` made the sockets of a process: its own user, or root before it became that user. A descriptor can be inherited.
fn is_of(io: &Io, pid: i32, uid: u32) -> bool {
    uid == 0 || ids_of(io, pid).is_ok_and(|ids| ids.user() == Some(uid))
}

/// Whether `process` holds the socket that connections to `address` in its network namespace are given to, and its user has the one that
/// took the connection from `own`: another listener may have taken it, and be closed.
fn listens(io: &Io, process: ServerProcess, address: SocketAddr, own: SocketAddr) -> Result<(), Doubt> {
    let pid = process.pid;
    let Some((uid, inode)) = listener_at(io, pid, address) else { return Err(format!("nothing listens at {address} any more")) };
    let doubt = || Err(format!("the listener at {address} belongs to {}", user(io, uid)));
    if !is_same(io, process) {
        return Err(format!("process {pid} has ended"));
    }
    let taken = other_end(io, pid, address, own).filter(|(_, inode)| *inode != 0);
    if let Some(other) = [Some(uid), taken.map(|(uid, _)| uid)].into_iter().flatten().find(|uid| !is_of(io, pid, *uid)) {
        return Err(format!("the server at {address} belongs to {}", user(io, other)));
    }
    match process::sockets(io, pid) {
        Some(held) if held.contains(&inode) => Ok(()),
        Some(_) => doubt(),
        // another user's descriptors cannot be seen; the owner of the socket can
        None => {
            let own = ids_of(io, pid).is_ok_and(|ids| ids.user() == Some(uid));
            if own { Ok(()) } else { doubt() }
        }
    }
}

/// An address of the configuration: on this host by the user of the listener, elsewhere not at all.
fn local(io: &Io, peer: SocketAddr, own: SocketAddr, product: Product) -> Result<(), Doubt> {
    if peer.ip() != own.ip() && !peer.ip().is_loopback() {
        return Err(format!("{peer} is on another host, and only TLS with a verified certificate proves it"));
    }
    served_by(io, peer, own, &|uid| may_serve(io, uid, product))
}

/// Whether both the listener at `peer` and the socket that took the connection belong to users that may serve there. A user's program can
/// close its listener as soon as it has taken one connection.
pub(in crate::probe) fn served_by(io: &Io, peer: SocketAddr, own: SocketAddr, may: &dyn Fn(u32) -> bool) -> Result<(), Doubt> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let (taken, listener) = (other_end(io, pid, peer, own), listener_at(io, pid, peer));
    let refused = |uid: u32| Err(format!("the server at {peer} belongs to {}", user(io, uid)));
    match (taken, listener) {
        (_, Some((uid, _))) if !may(uid) => refused(uid),
        (Some((uid, inode)), _) if inode != 0 && !may(uid) => refused(uid),
        // nothing owns the other end, and nothing that could take it is there
        (Some((_, 0)), None) => Err(format!("nothing listens at {peer} any more")),
        // no socket of this namespace: the engine's rules, which are root's, lead a published port to the container
        _ => Ok(()),
    }
}
