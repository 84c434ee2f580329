//! Packets and connections.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// ICMP (IANA protocol numbers).
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// `ICMPv6`.
pub const ICMPV6: u8 = 58;

/// Source port of a client: in the ephemeral range of Linux, and in no range that a rule names on purpose (ip(7),
/// `ip_local_port_range`).
pub const EPHEMERAL_PORT: u16 = 47_123;

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// A hook of netfilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Hook {
    /// On one interface, before everything else (`netdev` and `inet` tables of nftables).
    Ingress,
    /// Received packets, before routing.
    Prerouting,
    /// Packets to this host.
    Input,
    /// Routed packets.
    Forward,
    /// Packets from this host.
    Output,
    /// Sent packets, after routing.
    Postrouting,
}

impl Hook {
    /// The hook of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Ingress, Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];
        all.into_iter().find(|hook| hook.name().eq_ignore_ascii_case(name))
    }

    /// The name of the built-in chain of iptables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "INGRESS",
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

/// State of a packet in connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The first packet of a connection.
    New,
    /// A packet of a connection with packets in both directions, or a reply.
    Established,
    /// A packet of another connection that belongs to a known one: an ICMP error, the data connection of FTP.
    Related,
    /// A packet that fits no connection.
    Invalid,
    /// A packet that is exempt from connection tracking (`NOTRACK`).
    Untracked,
}

/// Addresses and ports of a connection as its client sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Original {
    /// Address of the client.
    pub source: IpAddr,
    /// Address that the client connects to.
    pub destination: IpAddr,
    /// Port of the client.
    pub source_port: Option<u16>,
    /// Port that the client connects to.
    pub destination_port: Option<u16>,
}

/// A packet at a hook.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packet {
    /// Interface on which it was received; `None` for a packet of this host.
    pub input: Option<String>,
    /// Interface on which it is sent; `None` before routing and for a packet to this host.
    pub output: Option<String>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; `None` for a protocol without ports, or if it is not known.
    pub source_port: Option<u16>,
    /// Destination port, as the source port.
    pub destination_port: Option<u16>,
    /// Type and code of an ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// Flags of a TCP segment.
    pub tcp_flags: u8,
    /// Its state in connection tracking.
    pub state: State,
    /// It is sent from the server to the client of its connection.
    pub is_reply: bool,
    /// The connection as the client sent it.
    pub original: Original,
    /// The destination of its connection is translated.
    pub dnat: bool,
    /// The source of its connection is translated.
    pub snat: bool,
    /// Its mark (`fwmark`); `None` if unknown.
    pub mark: Option<u32>,
    /// The mark of its connection; `None` if unknown.
    pub ct_mark: Option<u32>,
}

impl Packet {
    /// The first packet of a connection.
    #[must_use]
    pub fn first(flow: &Flow) -> Self {
        let has_ports = !matches!(flow.protocol, ICMP | ICMPV6);
        let (source_port, destination_port) = (has_ports.then_some(flow.source_port), has_ports.then_some(flow.destination_port));
        // an echo request (RFC 792, RFC 4443)
        let icmp = match flow.protocol {
            ICMP => Some((8, 0)),
            ICMPV6 => Some((128, 0)),
            _ => None,
        };
        let (source, destination) = (flow.source, flow.destination);
        Self {
            input: flow.input.clone(),
            output: None,
            source,
            destination,
            protocol: flow.protocol,
            source_port,
            destination_port,
            icmp,
            tcp_flags: if flow.protocol == TCP { SYN } else { 0 },
            state: State::New,
            is_reply: false,
            original: Original { source, destination, source_port, destination_port },
            dnat: false,
            snat: false,
            mark: Some(0),
            ct_mark: Some(0),
        }
    }

    /// Whether the packet is IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.destination.is_ipv6()
    }
}

/// A connection attempt as its client sends it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Interface on which its packets arrive; `None` for a client on this host, outside of other network namespaces. A container of
    /// a bridge network is a client behind its bridge.
    pub input: Option<String>,
    /// Address of the client.
    pub source: IpAddr,
    /// Address that the client connects to.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port of the client.
    pub source_port: u16,
    /// Port that the client connects to; ignored for ICMP, where the connection is an echo request.
    pub destination_port: u16,
}

impl Flow {
    /// A TCP connection of a client behind this interface, from an ephemeral port.
    #[must_use]
    pub fn tcp(input: Option<&str>, source: IpAddr, destination: IpAddr, destination_port: u16) -> Self {
        let input = input.map(str::to_owned);
        Self { input, source, destination, protocol: TCP, source_port: EPHEMERAL_PORT, destination_port }
    }

    /// A UDP exchange, as [`Flow::tcp`].
    #[must_use]
    pub fn udp(input: Option<&str>, source: IpAddr, destination: IpAddr, destination_port: u16) -> Self {
        Self { protocol: UDP, ..Self::tcp(input, source, destination, destination_port) }
    }
}
