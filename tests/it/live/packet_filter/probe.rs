//! Real packets of a connection attempt, and where they arrive.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use opsctl_core::probe::network::firewall::ruleset::{ConnectionFate, End, Flow, Leg, TCP, Verdict};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getpeername, socket_with, sockopt};

use super::namespaces::{CLIENT, Namespace, ROUTER, Row, SERVER};

/// Ports with servers.
pub(super) const PORTS: &[u16] = &[53, 80, 443, 5432, 8080, 9000];

/// Hops of a packet and its replies: a packet is queued once per hop.
const HOPS: usize = 8;

/// A server.
struct Station {
    namespace: usize,
    address: SocketAddr,
    socket: UdpSocket,
}

/// Servers in all namespaces.
pub(super) struct Prober<'a> {
    row: &'a Row,
    stations: Vec<Station>,
    listeners: Vec<(usize, TcpListener)>,
    fence: (UdpSocket, UdpSocket),
    next_port: u16,
}

/// Observed packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Observed {
    /// Namespace and address at which the first packet arrived, and its source.
    pub(super) delivered: Option<(usize, SocketAddr, SocketAddr)>,
    pub(super) replied: bool,
    pub(super) followed: bool,
}

impl<'a> Prober<'a> {
    pub(super) fn new(row: &'a Row) -> Self {
        let spaces = [(&row.client, CLIENT), (&row.router, ROUTER), (&row.server, SERVER)];
        let (mut stations, mut listeners) = (Vec::new(), Vec::new());
        for (namespace, (space, addresses)) in spaces.into_iter().enumerate() {
            for port in PORTS.iter().copied() {
                for ip in addresses.iter().copied() {
                    let socket = udp(space, ip, port).unwrap();
                    stations.push(Station { namespace, address: (ip, port).into(), socket });
                }
                let listener = space.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
                listener.set_nonblocking(true).unwrap();
                listeners.push((namespace, listener));
            }
        }
        let fence = row.client.run(|| {
            let bound = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let (one, other) = (bound(), bound());
            one.connect(other.local_addr().unwrap()).unwrap();
            (one, other)
        });
        Self { row, stations, listeners, fence, next_port: 20_000 }
    }

    /// A client port that no other flow uses.
    pub(super) fn port(&mut self) -> u16 {
        self.next_port = if self.next_port == 60_000 { 20_000 } else { self.next_port + 1 };
        self.next_port
    }

    /// Waits until packets sent before have arrived: this thread runs on one processor, with a queue that is first in, first out.
    fn settle(&self) {
        for _ in 0..HOPS {
            self.fence.0.send(b"fence").unwrap();
            self.fence.1.recv(&mut [0; 8]).unwrap();
        }
    }

    /// Sends the packets of a connection attempt.
    pub(super) fn observe(&mut self, flow: &Flow, id: u64) -> Observed {
        let space = match flow.input.as_deref() {
            None => &self.row.router,
            Some("ca") => &self.row.client,
            Some(_) => &self.row.server,
        };
        let IpAddr::V4(from) = flow.source else { unreachable!() };
        if flow.protocol == TCP { self.tcp(space, from, flow) } else { self.udp(space, from, flow, id) }
    }

    fn udp(&self, space: &Namespace, from: Ipv4Addr, flow: &Flow, id: u64) -> Observed {
        let mut observed = Observed::default();
        let Some(client) = udp(space, from, flow.source_port) else { return observed };
        let to = SocketAddr::new(flow.destination, flow.destination_port);
        let send = |part: &str| {
            // a packet that is dropped in OUTPUT is an error
            let _ = client.send_to(format!("{id} {part}").as_bytes(), to);
            self.settle();
            self.received(&format!("{id} {part}"))
        };
        let Some((station, source)) = send("first") else { return observed };
        let server = &self.stations[station];
        observed.delivered = Some((server.namespace, server.address, source));
        let reply = format!("{id} reply");
        let _ = server.socket.send_to(reply.as_bytes(), source);
        self.settle();
        let mut buffer = [0; 64];
        while let Ok((length, sender)) = client.recv_from(&mut buffer) {
            observed.replied |= sender == to && &buffer[..length] == reply.as_bytes();
        }
        observed.followed = observed.replied && send("following").is_some();
        observed
    }

    /// The server that received this payload, and its source; other packets are discarded.
    fn received(&self, payload: &str) -> Option<(usize, SocketAddr)> {
        let mut found = None;
        let mut buffer = [0; 64];
        for (at, station) in self.stations.iter().enumerate() {
            while let Ok((length, source)) = station.socket.recv_from(&mut buffer) {
                if &buffer[..length] == payload.as_bytes() {
                    found = Some((at, source));
                }
            }
        }
        found
    }

    fn tcp(&self, space: &Namespace, from: Ipv4Addr, flow: &Flow) -> Observed {
        let mut observed = Observed::default();
        let source = SocketAddr::from((from, flow.source_port));
        let client = space.run(move || {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            sockopt::set_socket_reuseaddr(&socket, true).unwrap();
            bind(&socket, &source).map(|()| socket)
        });
        let Ok(client) = client else { return observed };
        sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        let _ = connect(&client, &SocketAddr::new(flow.destination, flow.destination_port));
        self.settle();
        observed.replied = getpeername(&client).is_ok_and(|peer| peer.is_some());
        let mut accepted: Vec<TcpStream> = Vec::new();
        for (namespace, listener) in &self.listeners {
            while let Ok((stream, peer)) = listener.accept() {
                // the connection of another flow that was completed later
                if peer.port() == flow.source_port || observed.delivered.is_none() {
                    observed.delivered = Some((*namespace, stream.local_addr().unwrap(), peer));
                    observed.followed = true;
                }
                accepted.push(stream);
            }
        }
        for stream in &accepted {
            sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(client);
        drop(accepted);
        self.settle();
        observed
    }
}

fn udp(space: &Namespace, ip: Ipv4Addr, port: u16) -> Option<UdpSocket> {
    let socket = space.run(move || UdpSocket::bind((ip, port))).ok()?;
    socket.set_nonblocking(true).unwrap();
    Some(socket)
}

/// The namespace that has an address.
fn namespace_of(ip: IpAddr) -> Option<usize> {
    let IpAddr::V4(ip) = ip else { return None };
    [CLIENT, ROUTER, SERVER].iter().position(|addresses| addresses.contains(&ip))
}

/// Whether a prediction agrees with the observation; `None` if it cannot be compared.
pub(super) fn agrees(flow: &Flow, fate: &ConnectionFate, observed: &Observed) -> Option<bool> {
    let (port, source_port) = (fate.destination.1?, fate.source.1?);
    let expected = (SocketAddr::new(fate.destination.0, port), SocketAddr::new(fate.source.0, source_port));
    let passes = |leg: Leg| fate.verdict == Verdict::Accept || fate.leg > leg;
    let (first, reply, following) = (passes(Leg::First), passes(Leg::Reply), fate.verdict == Verdict::Accept);
    if fate.verdict == Verdict::Unknown || fate.has_alternatives {
        return None;
    }
    let at = match (&fate.end, namespace_of(fate.destination.0)) {
        (End::Local, _) => Some(1),
        (_, at) => at,
    };
    // a server that does not exist, or a reply that does not come back through the router
    if first && (at.is_none() || !PORTS.contains(&port)) {
        return None;
    }
    let own = match flow.input.as_deref() {
        None => 1,
        Some("ca") => 0,
        Some(_) => 2,
    };
    let direct = first && at == Some(own) && at != Some(1) && fate.source.0 == flow.source;
    if flow.protocol == TCP {
        if direct {
            return None;
        }
        let delivered = observed.delivered.map(|(at, to, from)| (Some(at), (to, from)));
        let wanted = following.then_some((at, expected));
        return Some(observed.replied == reply && delivered == wanted);
    }
    let delivered = observed.delivered.map(|(at, to, from)| (Some(at), (to, from)));
    let same = delivered == first.then_some((at, expected));
    Some(same && (direct || (observed.replied, observed.followed) == (reply, following)))
}
