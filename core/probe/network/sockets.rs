//! TCP sockets with their queues and the state of their transmission.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::unix::nlas::UnixDiagName;
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use serde::{Deserialize, Serialize};

use super::netlink::query;
use super::tcp_info::TcpInfo;
use crate::probe::Io;

/// An established connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Local address.
    pub local: SocketAddr,
    /// Remote address.
    pub remote: SocketAddr,
    /// State of the transmission.
    pub info: TcpInfo,
}

/// An accept queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Listening address.
    pub local: SocketAddr,
    /// Length of the queue.
    pub waiting: u32,
    /// Limit of the queue.
    pub limit: u32,
    /// Socket inode.
    pub inode: u64,
}

pub(super) fn connections(io: &Io) -> io::Result<Vec<Connection>> {
    Ok(sockets(io, &StateFlags::ESTABLISHED, &ExtensionFlags::INFO)?
        .into_iter()
        .map(|s| {
            let info = s.nlas.iter().find_map(|n| if let Nla::TcpInfo(bytes) = n { Some(TcpInfo::parse(bytes)) } else { None });
            let id = &s.header.socket_id;
            Connection {
                local: address(id.source_address, id.source_port),
                remote: address(id.destination_address, id.destination_port),
                info: info.unwrap_or_default(),
            }
        })
        .collect())
}

pub(super) fn queues(io: &Io) -> io::Result<Vec<Queue>> {
    Ok(sockets(io, &StateFlags::LISTEN, &ExtensionFlags::empty())?
        .into_iter()
        .map(|s| Queue {
            local: address(s.header.socket_id.source_address, s.header.socket_id.source_port),
            waiting: s.header.recv_queue,
            limit: s.header.send_queue,
            inode: u64::from(s.header.inode),
        })
        .collect())
}

/// A TCP socket with its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) struct OwnedSocket {
    /// Bound address.
    pub(in crate::probe) local: SocketAddr,
    /// A socket of `AF_INET6`, which can accept IPv4 too.
    pub(in crate::probe) is_v6: bool,
    /// Its user.
    pub(in crate::probe) uid: u32,
    /// Its inode; 0 for a connection that no process has accepted yet, or that no process holds any more.
    pub(in crate::probe) inode: u64,
}

fn owned(socket: &InetResponse) -> OwnedSocket {
    let id = &socket.header.socket_id;
    OwnedSocket {
        local: address(id.source_address, id.source_port),
        is_v6: socket.header.family == AF_INET6,
        uid: socket.header.uid,
        inode: u64::from(socket.header.inode),
    }
}

/// The TCP listeners of this thread's network namespace.
pub(in crate::probe) fn tcp_listeners(io: &Io) -> io::Result<Vec<OwnedSocket>> {
    Ok(sockets(io, &StateFlags::LISTEN, &ExtensionFlags::empty())?.iter().map(owned).collect())
}

/// The end at `local` of the connection from `remote`, in this thread's network namespace; `None` if it is elsewhere or no longer exists. The
/// kernel looks one connection up in constant time, whatever their number.
pub(in crate::probe) fn end_of_connection(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<OwnedSocket>> {
    // include/net/tcp_states.h
    const TIME_WAIT: u8 = 6;
    const LISTEN: u8 = 10;
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let socket_id = SocketId {
        source_port: local.port(),
        destination_port: remote.port(),
        source_address: local.ip(),
        destination_address: remote.ip(),
        interface_id: 0,
        cookie: [0xff; 8],
    };
    let states = StateFlags::all();
    let question = InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id };
    let found = query(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(question), false, |answer| match answer {
        SockDiagMessage::InetResponse(response) => Some(*response),
        _ => None,
    });
    match found {
        // without a connection the kernel finds the listener
        Ok(found) => Ok(found.iter().find(|s| !matches!(s.header.state, TIME_WAIT | LISTEN)).map(owned)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The listening stream sockets of this thread's network namespace that are bound to a path, by inode. `/proc/net/unix` is no source: the names
/// in it can contain line breaks, and so whole lines of a user. Paths with control characters are left out.
pub(in crate::probe) fn unix_listeners() -> io::Result<Vec<(u64, PathBuf)>> {
    let request = UnixRequest { state_flags: unix::StateFlags::LISTEN, inode: 0, show_flags: ShowFlags::NAME, cookie: [0xff; 8] };
    query(NETLINK_SOCK_DIAG, SockDiagMessage::UnixRequest(request), true, |answer| {
        let SockDiagMessage::UnixResponse(socket) = answer else { return None };
        let path = socket.nlas.iter().find_map(|nla| match nla {
            unix::nlas::Nla::Name(UnixDiagName::Pathname(path)) => Some(PathBuf::from(path)),
            _ => None,
        })?;
        let plain = path.is_absolute() && !path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control);
        (socket.header.kind == SOCK_STREAM && plain).then_some((u64::from(socket.header.inode), path))
    })
}

/// An IPv4-mapped address is converted to IPv4.
fn address(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn sockets(io: &Io, states: &StateFlags, extensions: &ExtensionFlags) -> io::Result<Vec<InetResponse>> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        // for connections the kernel walks one table of all namespaces: some milliseconds, in each of hundreds
        if *states != StateFlags::LISTEN && only_listens(io, family) {
            continue;
        }
        match dump(family, states, extensions) {
            Ok(found) => all.extend(found),
            // IPv6 is disabled in this kernel
            Err(_) if family == AF_INET6 => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// The TCP sockets of one address family in this thread's network namespace.
pub(super) fn dump(family: u8, states: &StateFlags, extensions: &ExtensionFlags) -> io::Result<Vec<InetResponse>> {
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let question =
        InetRequest { family, protocol: IPPROTO_TCP, extensions: extensions.clone(), states: states.clone(), socket_id };
    query(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(question), true, |answer| match answer {
        SockDiagMessage::InetResponse(response) => Some(*response),
        _ => None,
    })
}

/// Whether all sockets in use in this namespace are listeners, which the kernel lists quickly.
fn only_listens(io: &Io, family: u8) -> bool {
    let (file, name) = if family == AF_INET { ("sockstat", "TCP:") } else { ("sockstat6", "TCP6:") };
    // of this thread: it may have entered a namespace
    let in_use = io.read_lossy(format!("/proc/thread-self/net/{file}")).ok().and_then(|text| in_use(&text, name));
    in_use.is_some_and(|n| n == 0 || dump(family, &StateFlags::LISTEN, &ExtensionFlags::empty()).is_ok_and(|all| all.len() == n))
}

/// Parses `TCP: inuse 5 orphan 0 tw 0 alloc 8 mem 0` (proc(5)); `TCP6: inuse 2`.
fn in_use(text: &str, name: &str) -> Option<usize> {
    let mut words = text.lines().find_map(|l| l.strip_prefix(name))?.split_ascii_whitespace();
    words.find(|w| *w == "inuse")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sockets_in_use_are_parsed() {
        let text = "sockets: used 290\nTCP: inuse 5 orphan 0 tw 2 alloc 8 mem 0\nUDP: inuse 1 mem 0\n";
        assert_eq!((in_use(text, "TCP:"), in_use(text, "UDP:"), in_use(text, "TCP6:")), (Some(5), Some(1), None));
        assert_eq!((in_use("TCP: inuse many", "TCP:"), in_use("TCP:", "TCP:"), in_use("", "TCP:")), (None, None, None));
    }

    #[test]
    fn accept_queue_length_is_counted() {
        let io = Io::for_test();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        let queue = queues(&io).unwrap().into_iter().find(|q| q.local == at).unwrap();
        assert_eq!(queue.waiting, 1);
        assert!(queue.limit >= 128, "{queue:?}");
        let own = connections(&io).unwrap().into_iter().find(|c| c.local == client.local_addr().unwrap()).unwrap();
        assert_eq!(own.remote, at);
        assert!(!only_listens(&io, AF_INET));
        assert!(own.info.send_mss > 500 && own.info.path_mtu > 1000, "{own:?}");
    }
}
