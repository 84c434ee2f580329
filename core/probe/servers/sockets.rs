//! Listening sockets and connections of a process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::model::Product;
use crate::probe::Io;
use crate::probe::network::listeners;
use crate::probe::network::listeners::Listener;
use crate::probe::network::netns;
use crate::probe::network::{OwnedSocket, end_of_connection, tcp_listeners, unix_listeners};
use crate::probe::proc::process;
use crate::probe::product::default_port;
use crate::probe::servers::celery::Connection;

/// A listening socket, with the address as the process itself sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// A unix socket, by its path inside the root of the process.
    Unix(PathBuf),
    /// TCP; a wildcard address is replaced by the loopback.
    Tcp(SocketAddr),
}

/// First TCP port among the sockets.
#[must_use]
pub fn tcp_port(sockets: &[Socket]) -> Option<u16> {
    sockets.iter().find_map(|s| match s {
        Socket::Tcp(address) => Some(address.port()),
        Socket::Unix(_) => None,
    })
}

/// Listeners of each network namespace. The kernel takes milliseconds to list one, so each is read once.
#[derive(Default)]
pub(super) struct Namespaces(HashMap<PathBuf, Listening>);

/// Listeners of one namespace, with their inodes.
#[derive(Default)]
struct Listening {
    tcp: Vec<Listener>,
    unix: Vec<(u64, PathBuf)>,
    has_ipv6: bool,
}

/// The listening sockets of a process.
#[derive(Debug, Default)]
pub(super) struct ProcessSockets {
    /// Unix sockets first, then TCP, lowest port first.
    pub(super) listening: Vec<Socket>,
    /// Its descriptors are not readable (another user): the sockets are a guess, and none may mean that it has others.
    pub(super) hidden: bool,
}

impl Namespaces {
    /// Listening sockets of `pid`. If its descriptors are not readable, the result is the ports of its arguments (separated by
    /// NUL or spaces), or the product's default port, as far as its network namespace has a listener there.
    pub(super) fn sockets_of(&mut self, io: &Io, pid: i32, product: Product, arguments: &str) -> ProcessSockets {
        let inodes = process::sockets(io, pid);
        // without access to its namespace link, the namespace is listed for this process alone
        let own = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let there = self.0.entry(io.read_link(&own).unwrap_or(own)).or_insert_with(|| listening(io, pid));
        let mut ports = if inodes.is_none() { ports_of_arguments(arguments) } else { Vec::new() };
        if ports.is_empty() {
            ports.push(default_port(product));
        }
        let belongs = |inode: u64, at: u16| inodes.as_ref().map_or(ports.contains(&at), |m| m.contains(&inode));
        let tcp = there.tcp.iter().filter(|l| belongs(l.inode, l.port));
        let mut sockets: Vec<Socket> = tcp.flat_map(|l| reachable(l.address, l.port, there.has_ipv6)).map(Socket::Tcp).collect();
        if let Some(inodes) = &inodes {
            let unix = there.unix.iter().filter(|(inode, _)| inodes.contains(inode));
            sockets.extend(unix.map(|(_, path)| Socket::Unix(path.clone())));
        }
        sockets.sort();
        sockets.dedup();
        ProcessSockets { listening: sockets, hidden: inodes.is_none() }
    }
}

/// Ports that a command line names: `127.0.0.1:6380`, `*:6380`, `--port 6380`, `--port=6380`, `-p 5433`.
pub(super) fn ports_of_arguments(arguments: &str) -> Vec<u16> {
    let words: Vec<&str> = arguments.split(['\0', ' ']).filter(|w| !w.is_empty()).collect();
    let is_option = |word: &str| word == "-p" || word.trim_start_matches('-') == "port";
    let port = |(n, word): (usize, &&str)| -> Option<u16> {
        let text = match word.rsplit_once([':', '=']) {
            Some((name, text)) if word.contains(':') || is_option(name) => text,
            None if n > 0 && words.get(n - 1).is_some_and(|option| is_option(option)) => *word,
            _ => return None,
        };
        text.parse().ok().filter(|port| *port != 0)
    };
    words.iter().enumerate().filter_map(port).collect()
}

/// A table of the network namespace of a process; empty without access.
fn net_table(io: &Io, pid: i32, name: &str) -> String {
    io.read_lossy(format!("/proc/{pid}/net/{name}")).unwrap_or_default()
}

fn listening(io: &Io, pid: i32) -> Listening {
    // the caller's thread ends after this: it may stay in the namespace
    let unix = netns::enter_other(io, pid).and_then(|()| unix_listeners());
    Listening {
        has_ipv6: has_loopback(&net_table(io, pid, "if_inet6")),
        tcp: listeners::listeners_of(io, i64::from(pid)).unwrap_or_default(),
        unix: unix.unwrap_or_default(),
    }
}

/// Established TCP connections of `pid`; empty also without access to them.
pub(in crate::probe) fn connections_of(io: &Io, pid: i32) -> Vec<Connection> {
    let Some(inodes) = process::sockets(io, pid) else { return Vec::new() };
    let table = listeners::tcp_table(io, i64::from(pid)).unwrap_or_default();
    table.lines().filter_map(established).filter(|(inode, _)| inodes.contains(inode)).map(|(_, connection)| connection).collect()
}

/// An established connection with its inode.
pub(super) fn established(line: &str) -> Option<(u64, Connection)> {
    let row = listeners::row(line).filter(|r| r.state == "01")?;
    let connection = Connection {
        local: row.local,
        remote: row.remote,
        unacknowledged: row.unacknowledged,
        retransmits: row.retransmits,
        lasting: false,
    };
    Some((row.inode, connection))
}

/// Uid and inode of the listening sockets to which the kernel may assign a connection to `address` in the network namespace of
/// `pid`: a bound address takes precedence over a wildcard, IPv4 over IPv6 (`inet_lhash2_lookup`). Several sockets form an
/// `SO_REUSEPORT` group, which the kernel restricts to one user. `entered`: this thread is in that namespace.
pub(super) fn listeners_at(io: &Io, pid: i32, entered: bool, address: SocketAddr) -> Vec<(u32, u64)> {
    let listed = if entered { tcp_listeners(io).ok() } else { None };
    best_listeners(&listed.unwrap_or_else(|| tabled_listeners(io, pid)), address)
}

/// Uid and inode of the remote endpoint of a connection from `own` to `peer` within the network namespace of `pid`. `None` if the
/// endpoint is elsewhere; the inode is 0 until the connection is accepted. `entered`: this thread is in that namespace.
pub(in crate::probe) fn other_end(io: &Io, pid: i32, entered: bool, peer: SocketAddr, own: SocketAddr) -> Option<(u32, u64)> {
    if entered && let Ok(found) = end_of_connection(peer, own) {
        return found.map(|socket| (socket.uid, socket.inode));
    }
    ["tcp", "tcp6"].iter().find_map(|name| end_of(&net_table(io, pid, name), peer, own))
}

fn end_of(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<(u32, u64)> {
    let is = |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical();
    table.lines().find_map(|line| {
        // 06 is TIME_WAIT, which belongs to no process
        let row = listeners::row(line).filter(|r| r.state != "06" && is(r.local, peer) && is(r.remote, own))?;
        Some((line.split_ascii_whitespace().nth(7)?.parse().ok()?, row.inode))
    })
}

/// The listeners in the tables of a process, for kernels without `inet_diag` and for namespaces that cannot be entered.
fn tabled_listeners(io: &Io, pid: i32) -> Vec<OwnedSocket> {
    [("tcp", false), ("tcp6", true)].iter().flat_map(|(name, is_v6)| parse_listeners(&net_table(io, pid, name), *is_v6)).collect()
}

fn parse_listeners(table: &str, is_v6: bool) -> Vec<OwnedSocket> {
    let socket = |line: &str| {
        let row = listeners::row(line).filter(|r| r.state == "0A")?;
        let uid = line.split_ascii_whitespace().nth(7)?.parse().ok()?;
        Some(OwnedSocket { local: row.local, is_v6, uid, inode: row.inode })
    };
    table.lines().filter_map(socket).collect()
}

fn best_listeners(listeners: &[OwnedSocket], address: SocketAddr) -> Vec<(u32, u64)> {
    let ip = address.ip().to_canonical();
    let score = |socket: &OwnedSocket| {
        let at = socket.local.ip();
        if socket.local.port() != address.port() {
            None
        } else if at == ip {
            Some(2)
        } else if at.is_unspecified() && (socket.is_v6 || ip.is_ipv4()) {
            Some(u8::from(!socket.is_v6))
        } else {
            None
        }
    };
    let best = listeners.iter().filter_map(score).max();
    let is_best = |socket: &&OwnedSocket| best.is_some() && score(socket) == best;
    listeners.iter().filter(is_best).map(|socket| (socket.uid, socket.inode)).collect()
}

/// Addresses to connect to for a listener, in the order in which they are tried. A wildcard is not an address: one of IPv6 also
/// accepts IPv4 connections unless the program set `IPV6_V6ONLY`, which its socket does not show.
fn reachable(address: IpAddr, port: u16, has_ipv6: bool) -> impl Iterator<Item = SocketAddr> {
    let addresses: [Option<IpAddr>; 2] = match address {
        IpAddr::V4(a) if a.is_unspecified() => [Some(Ipv4Addr::LOCALHOST.into()), None],
        IpAddr::V6(a) if a.is_unspecified() => [Some(Ipv4Addr::LOCALHOST.into()), has_ipv6.then_some(Ipv6Addr::LOCALHOST.into())],
        other => [Some(other), None],
    };
    addresses.into_iter().flatten().map(move |address| SocketAddr::new(address, port))
}

/// Whether `::1` exists, by `/proc/net/if_inet6`; a container may have no IPv6.
fn has_loopback(if_inet6: &str) -> bool {
    if_inet6.lines().any(|line| line.starts_with("00000000000000000000000000000001 "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn remote_endpoint_is_found_except_in_time_wait() {
        let line = |state: &str, uid: u32, inode: u64| {
            format!(
                "   1: 0100007F:18EB 0100007F:C350 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0\n"
            )
        };
        let (peer, own) = ("127.0.0.1:6379".parse().unwrap(), "127.0.0.1:50000".parse().unwrap());
        assert_eq!(end_of(&line("01", 1001, 7), peer, own), Some((1001, 7)));
        // closed for writing, still open for reading
        assert_eq!(end_of(&line("05", 1001, 7), peer, own), Some((1001, 7)));
        assert_eq!(end_of(&line("06", 0, 0), peer, own), None);
        assert_eq!(end_of(&line("01", 1001, 7), own, peer), None);
    }

    #[test]
    fn listening_sockets_of_this_process_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets =
            Namespaces::default().sockets_of(&Io::for_test(), i32::try_from(std::process::id()).unwrap(), Product::Redis, "");
        assert!(sockets.listening.contains(&Socket::Unix(path)), "{sockets:?}");
        assert!(sockets.listening.contains(&Socket::Tcp(tcp.local_addr().unwrap())), "{sockets:?}");
        assert!(!sockets.hidden);
    }

    #[test]
    fn ports_in_command_lines() {
        for (arguments, expected) in [
            ("redis-server 127.0.0.1:6391", &[6391][..]),
            ("redis-server *:6400 [cluster]", &[6400]),
            ("redis-server\0--port\x006390\0--maxmemory\080", &[6390]),
            ("/usr/lib/postgresql/15/bin/postgres\0-D\0/data\0-p\x005433\0", &[5433]),
            ("/usr/lib/postgresql/15/bin/postgres\0-D\0/data\0", &[]),
            ("loki\0--config.file=/etc/loki.yml\0--port=3101", &[3101]),
            ("redis-server\0--port\x000\0--unixsocket\0/run/redis.sock", &[]),
        ] {
            assert_eq!(ports_of_arguments(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn unacknowledged_bytes_of_a_connection_are_parsed() {
        let line = "   3: 0100007F:9B52 0100007F:1B59 01 0000002A:00000000 01:00000014 00000003     0        0 4711 2 0000 20 4 30 10 -1";
        let (inode, connection) = established(line).unwrap();
        assert_eq!((inode, connection.unacknowledged, connection.retransmits), (4711, 42, 3));
        assert_eq!(connection.remote, "127.0.0.1:7001".parse().unwrap());
        assert!(established(&line.replace(" 01 0000002A", " 0A 0000002A")).is_none());
    }

    #[test]
    fn bound_listener_takes_precedence_over_a_wildcard() {
        let line = |address: &str, uid: u32, inode: u32| {
            format!(
                "   0: {address}:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 100 0 0 10 0\n"
            )
        };
        let (any, any6) = (line("00000000", 1, 11), line(&"0".repeat(32), 2, 12));
        let best = |v4: &str, v6: &str, address: &str| {
            let all = [parse_listeners(v4, false), parse_listeners(v6, true)].concat();
            best_listeners(&all, address.parse().unwrap())
        };
        let at = |v4: &str, v6: &str| best(v4, v6, "127.0.0.1:5432");
        assert_eq!(at(&(any.clone() + &line("0100007F", 3, 13)), &any6), [(3, 13)]);
        assert_eq!((at(&any, &any6), at("", &any6)), (vec![(1, 11)], vec![(2, 12)]));
        assert_eq!(best(&any, "", "127.0.0.1:5433"), []);
        let group = line("0100007F", 3, 13) + &line("0100007F", 3, 14);
        assert_eq!(at(&group, &any6), [(3, 13), (3, 14)]);
    }

    #[test]
    fn wildcard_listener_is_reached_through_the_loopback() {
        let at = |address: &str, has_ipv6: bool| -> Vec<String> {
            reachable(address.parse().unwrap(), 1, has_ipv6).map(|a| a.to_string()).collect()
        };
        assert_eq!(at("0.0.0.0", true), ["127.0.0.1:1"]);
        assert_eq!(at("::", true), ["127.0.0.1:1", "[::1]:1"]);
        assert_eq!(at("::", false), ["127.0.0.1:1"]);
        assert_eq!(at("10.0.0.1", true), ["10.0.0.1:1"]);
        assert!(has_loopback("00000000000000000000000000000001 01 80 10 80       lo\n") && !has_loopback(""));
    }

    #[test]
    fn netlink_and_tables_agree_on_a_connection() {
        let io = Io::for_test();
        let pid = i32::try_from(std::process::id()).unwrap();
        for bind in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(bind) else { continue };
            let client = std::net::TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
            let _accepted = listener.accept().unwrap();
            let (peer, own) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            let ends = [true, false].map(|entered| other_end(&io, pid, entered, peer, own));
            assert!(ends[0].is_some_and(|(_, inode)| inode != 0) && ends[0] == ends[1], "{bind}: {ends:?}");
            let listeners = [true, false].map(|entered| listeners_at(&io, pid, entered, peer));
            assert!(listeners[0].len() == 1 && listeners[0] == listeners[1], "{bind}: {listeners:?}");
        }
    }
}
