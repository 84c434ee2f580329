//! DNS messages (RFC 1035): a query, and the addresses of its reply.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Encoded query, or `None` for an invalid name.
pub(in crate::probe) fn question(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    // a final dot: no search list, which would only multiply the queries
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().ok()
}

/// An unpredictable id of a query.
pub(in crate::probe) fn random_id() -> u16 {
    let number = std::hash::RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([number[0], number[1]])
}

/// A parsed reply.
#[derive(Debug)]
pub(in crate::probe) struct Answer {
    pub(in crate::probe) id: u16,
    pub(in crate::probe) code: ResponseCode,
    /// IPv4 and IPv6 addresses.
    pub(in crate::probe) addresses: Vec<IpAddr>,
    /// The question; servers that reject every query may leave it out.
    pub(in crate::probe) about: Option<Query>,
}

impl Answer {
    /// Parses a reply, or returns `None` for anything else.
    pub(in crate::probe) fn read(bytes: &[u8]) -> Option<Self> {
        let mut message = Message::from_vec(bytes).ok()?;
        let address = |data: &RData| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        };
        (message.metadata.message_type == MessageType::Response).then(|| Self {
            id: message.metadata.id,
            code: message.metadata.response_code,
            addresses: message.answers.iter().filter_map(|r| address(&r.data)).collect(),
            about: message.queries.drain(..).next(),
        })
    }

    /// Whether the reply is about this name.
    pub(in crate::probe) fn is_about(&self, name: &str) -> bool {
        let same = |about: &Query| about.name().to_ascii().trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'));
        self.about.as_ref().is_some_and(same)
    }
}
