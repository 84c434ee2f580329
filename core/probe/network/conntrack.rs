//! UDP entries of the connection tracking table, over ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! `/proc/net/nf_conntrack` does not exist in kernels without `CONFIG_NF_CONNTRACK_PROCFS`, which is most of them.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_NETFILTER;
use serde::{Deserialize, Serialize};

use super::inside;
use super::netlink::query;
use crate::probe::ProbeError;

/// Number of kept entries of one port.
const MAX_ENTRIES: usize = 1000;

/// Number of queried ports: the kernel walks its table for each.
const MAX_PORTS: usize = 32;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 0x101;
/// Protocol number of UDP.
const UDP: u8 = 17;
const AF_INET: u8 = 2;
/// `NLA_F_NESTED` (linux/netlink.h).
const NESTED: u16 = 1 << 15;

// linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;

/// The filter compares protocol and destination port (`net/netfilter/nf_internals.h`: `CTA_FILTER_F_CTA_PROTO_NUM`,
/// `CTA_FILTER_F_CTA_PROTO_DST_PORT`).
const FILTER_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;

/// `IPS_SEEN_REPLY` (`linux/netfilter/nf_conntrack_common.h`).
const SEEN_REPLY: u32 = 1 << 1;

/// A tracked flow of UDP packets over IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpFlow {
    /// Source of its first packet.
    pub client: Ipv4Addr,
    /// Destination of its first packet: an address of this host.
    pub to: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Address to which its packets are translated: the source of replies.
    pub server: Ipv4Addr,
    /// There was a reply.
    pub replied: bool,
}

/// Flows of this process's namespace to these UDP ports. Requires `CAP_NET_ADMIN`.
pub async fn udp_flows(mut ports: Vec<u16>) -> Result<Vec<UdpFlow>, ProbeError> {
    ports.sort_unstable();
    ports.dedup();
    ports.truncate(MAX_PORTS);
    inside(None, "the connection tracking table", move |_| {
        let mut all = Vec::new();
        for port in ports {
            all.extend(flows_to(port)?);
        }
        Ok(all)
    })
    .await
}

/// Kernels before 5.8 ignore the filter and list the whole table.
fn flows_to(port: u16) -> io::Result<Vec<UdpFlow>> {
    let mut kept = 0;
    query(NETLINK_NETFILTER, Message::Get(port), true, |answer| {
        let Message::Flow(flow) = answer else { return None };
        if flow.port != port || kept >= MAX_ENTRIES {
            return None;
        }
        kept += 1;
        Some(flow)
    })
}

enum Message {
    /// A request for the flows to this port.
    Get(u16),
    /// An entry.
    Flow(UdpFlow),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        GET
    }

    fn buffer_len(&self) -> usize {
        request(self).len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&request(self));
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        flow(payload).map(Message::Flow).ok_or_else(|| DecodeError::from("no flow of UDP over IPv4"))
    }
}

fn request(message: &Message) -> Vec<u8> {
    // struct nfgenmsg: family, version, resource
    let mut bytes = vec![AF_INET, 0, 0, 0];
    let Message::Get(port) = message else { return bytes };
    let protocol =
        nested(CTA_TUPLE_PROTO, &[attribute(CTA_PROTO_NUM, &[UDP]), attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes())]);
    bytes.extend(nested(CTA_TUPLE_ORIG, &[protocol]));
    let flags = attribute(CTA_FILTER_ORIG_FLAGS, &FILTER_PROTOCOL_AND_PORT.to_ne_bytes());
    bytes.extend(nested(CTA_FILTER, &[flags, attribute(CTA_FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes())]));
    bytes
}

/// Length and kind in the byte order of the machine, the value padded to four bytes (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &inner.concat())
}

/// The attributes in a buffer, up to the first malformed one.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let number = |at: usize| rest.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
        let (length, kind) = (usize::from(number(0)?), number(2)? & !NESTED);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // without NLA_F_NET_BYTEORDER
        Some((kind & 0x3fff, value))
    })
}

/// Source and destination address, protocol, and destination port.
type Tuple = (Option<Ipv4Addr>, Option<Ipv4Addr>, Option<u8>, Option<u16>);

fn tuple(bytes: &[u8]) -> Tuple {
    let mut found: Tuple = (None, None, None, None);
    let address = |value: &[u8]| <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
    for (kind, inner) in attributes(bytes) {
        for (field, value) in attributes(inner) {
            match (kind, field) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC) => found.0 = address(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST) => found.1 = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => found.2 = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => found.3 = value.try_into().ok().map(u16::from_be_bytes),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) | (_, _) => {}
            }
        }
    }
    found
}

/// Parses the payload of a reply: `struct nfgenmsg` and attributes.
pub(super) fn flow(payload: &[u8]) -> Option<UdpFlow> {
    let (mut original, mut reply, mut status): (Tuple, Tuple, u32) = Default::default();
    for (kind, value) in attributes(payload.get(4..)?) {
        match kind {
            CTA_TUPLE_ORIG => original = tuple(value),
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_STATUS => status = value.try_into().ok().map_or(0, u32::from_be_bytes),
            _ => {}
        }
    }
    (original.2 == Some(UDP)).then_some(())?;
    Some(UdpFlow { client: original.0?, to: original.1?, port: original.3?, server: reply.0?, replied: status & SEEN_REPLY != 0 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// An entry as the kernel reports it: 10.0.0.5 sends to 10.0.0.1:53, which is translated to 172.18.0.9.
    fn entry(status: u32) -> Vec<u8> {
        let side = |kind, from: [u8; 4], to: [u8; 4], port: u16| {
            let ip = nested(CTA_TUPLE_IP, &[attribute(CTA_IP_V4_SRC, &from), attribute(CTA_IP_V4_DST, &to)]);
            let ports = [attribute(CTA_PROTO_NUM, &[UDP]), attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes())];
            nested(kind, &[ip, nested(CTA_TUPLE_PROTO, &ports)])
        };
        let mut bytes = vec![AF_INET, 0, 0, 0];
        bytes.extend(side(CTA_TUPLE_ORIG, [10, 0, 0, 5], [10, 0, 0, 1], 53));
        bytes.extend(side(CTA_TUPLE_REPLY, [172, 18, 0, 9], [10, 0, 0, 5], 40000));
        bytes.extend(attribute(CTA_STATUS, &status.to_be_bytes()));
        bytes
    }

    #[test]
    fn translated_flow_has_the_address_of_its_server() {
        let found = flow(&entry(0)).unwrap();
        assert_eq!((found.client.to_string().as_str(), found.to.to_string().as_str(), found.port), ("10.0.0.5", "10.0.0.1", 53));
        assert_eq!((found.server.to_string().as_str(), found.replied), ("172.18.0.9", false));
        assert!(flow(&entry(SEEN_REPLY)).unwrap().replied);
    }

    #[test]
    fn truncated_entry_is_none() {
        let whole = entry(0);
        for end in 0..whole.len() {
            let _ = flow(&whole[..end]);
        }
        assert_eq!((flow(&[]), flow(&whole[..4]), flow(&[2, 0, 0, 0, 1, 0, 0, 0])), (None, None, None));
    }

    #[test]
    fn attributes_are_padded_to_four_bytes() {
        assert_eq!(attribute(1, &[9]).len(), 8);
        assert_eq!(request(&Message::Get(53)).len() % 4, 0);
    }
}
