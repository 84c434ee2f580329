//! A query to one name server, over UDP or TCP (RFC 1035).

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};

use crate::probe::io::dns::{self, Answer};

/// Transport of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// The default for every query.
    #[default]
    Udp,
    /// For replies that are too large for UDP.
    Tcp,
}

/// Question of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Question {
    /// The root name servers, which every recursive server knows.
    #[default]
    Root,
    /// The IPv4 addresses of a name.
    Address(String),
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => f.write_str("the root"),
            Self::Address(name) => f.write_str(name),
        }
    }
}

/// Result of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reply {
    /// A reply to the question.
    Answer {
        /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, or `code N`.
        code: String,
        /// Addresses in the reply.
        addresses: Vec<IpAddr>,
    },
    /// Connection refused: the kernel of the peer reports a closed port.
    Closed,
    /// No reply before the timeout.
    #[default]
    Silent,
    /// A message other than a reply to the question.
    Garbage,
    /// The query could not be sent.
    Unsent {
        /// Reason.
        why: String,
    },
}

/// A query and its result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryResult {
    /// Question.
    pub question: Question,
    /// Transport.
    pub transport: Transport,
    /// Result: the best of the tries.
    pub reply: Reply,
    /// Time of the reply in milliseconds, the fastest of the tries; without a reply, the time waited.
    pub ms: u64,
    /// Number of tries.
    pub tries: u32,
}

impl QueryResult {
    /// Response code, or `None` without a reply.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match &self.reply {
            Reply::Answer { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether there was no reply before the timeout.
    pub(super) fn is_silent(&self) -> bool {
        self.reply == Reply::Silent
    }

    /// Addresses of the reply.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.reply {
            Reply::Answer { addresses, .. } => addresses,
            _ => &[],
        }
    }

    /// Result in words: `no answer in 2 s`, `SERVFAIL`.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.reply {
            Reply::Answer { code, .. } => code.clone(),
            Reply::Closed => "connection refused".to_owned(),
            Reply::Silent => {
                let waited = Duration::from_millis(self.ms);
                format!("no answer in {}", crate::model::quantity::duration(waited.try_into().unwrap_or_default()))
            }
            Reply::Garbage => "invalid reply".to_owned(),
            Reply::Unsent { why } => why.clone(),
        }
    }
}

/// Timeouts and retries of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueryLimits {
    /// Timeout in milliseconds, shared by all tries.
    pub timeout_ms: u64,
    /// A reply that takes longer is requested once more, in milliseconds.
    pub slow_ms: u64,
    /// Number of tries without a reply.
    pub tries: u32,
}

impl QueryLimits {
    fn timeout(self) -> Duration {
        // two tries and a second run fit into the time limit of a check
        Duration::from_millis(self.timeout_ms.clamp(100, 2500))
    }

    /// Time limit of all tries.
    pub(super) fn longest(self) -> Duration {
        self.timeout() * self.tries.max(1) + Duration::from_millis(500)
    }
}

/// Sends one query. Blocks: for a thread of its own, which may have entered another network namespace.
pub(super) fn query_server(server: SocketAddr, transport: Transport, question: &Question, limits: QueryLimits) -> QueryResult {
    let mut result = QueryResult { question: question.clone(), transport, ms: u64::MAX, ..QueryResult::default() };
    // TCP retransmits by itself; over UDP a query without a reply is repeated within the timeout
    let tries = if transport == Transport::Tcp { 1 } else { limits.tries.max(1) };
    for _ in 0..tries {
        let started = Instant::now();
        let reply = match transport {
            Transport::Udp => {
                let (until, again) = (started + limits.timeout(), limits.timeout() / tries);
                over_udp(server, question, until, again, &mut result.tries)
            }
            Transport::Tcp => {
                result.tries += 1;
                over_tcp(server, question, started + limits.timeout())
            }
        };
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if matches!(reply, Reply::Answer { .. }) || result.code().is_none() {
            // without a reply, the time of the first try is reported
            result.ms = if result.code().is_some() { result.ms.min(ms) } else { ms };
            result.reply = reply;
        }
        // only a slow reply is requested once more
        if result.code().is_none() || result.ms <= limits.slow_ms {
            break;
        }
    }
    result
}

/// One exchange; a datagram may be lost, so the query is sent again after each `again`. `sent` counts.
fn over_udp(server: SocketAddr, question: &Question, until: Instant, again: Duration, sent: &mut u32) -> Reply {
    let Some((id, message)) = encode(question) else { return Reply::Unsent { why: "not a valid name".to_owned() } };
    let mut exchange = || -> Result<Reply, Error> {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        // a connected socket receives from this server only, and reports a closed port
        socket.connect(server)?;
        *sent += 1;
        socket.send(&message)?;
        let mut buffer = [0; 4096];
        let mut received = false;
        loop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Ok(if received { Reply::Garbage } else { Reply::Silent });
            };
            socket.set_read_timeout(Some(left.min(again)))?;
            match socket.recv(&mut buffer) {
                Ok(n) => match answer_to(question, id, &buffer[..n]) {
                    Some(reply) => return Ok(reply),
                    // a late reply to an earlier try, or garbage: the right one may still arrive
                    None => received = true,
                },
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() < until {
                        *sent += 1;
                        socket.send(&message)?;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    };
    exchange().unwrap_or_else(|e| why_not(&e))
}

fn over_tcp(server: SocketAddr, question: &Question, until: Instant) -> Reply {
    let Some((id, message)) = encode(question) else { return Reply::Unsent { why: "not a valid name".to_owned() } };
    let left = || until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or(ErrorKind::TimedOut);
    let exchange = || -> Result<Reply, Error> {
        let mut stream = TcpStream::connect_timeout(&server, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        // length prefix (RFC 1035 4.2.2)
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length[..], &message].concat())?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(Reply::Garbage);
            }
            bytes.extend_from_slice(&buffer[..n]);
            if let Some(length) = bytes.first_chunk().map(|l| usize::from(u16::from_be_bytes(*l)))
                && let Some(message) = bytes.get(2..2 + length)
            {
                return Ok(answer_to(question, id, message).unwrap_or(Reply::Garbage));
            }
        }
    };
    exchange().unwrap_or_else(|e| why_not(&e))
}

fn why_not(error: &Error) -> Reply {
    match error.kind() {
        ErrorKind::ConnectionRefused => Reply::Closed,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Reply::Silent,
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Reply::Garbage,
        // error of a local packet filter rule that drops outgoing packets
        ErrorKind::PermissionDenied => {
            Reply::Unsent { why: "the packet filter of this machine rejects outgoing queries".to_owned() }
        }
        ErrorKind::NetworkUnreachable => Reply::Unsent { why: "there is no route to it".to_owned() },
        ErrorKind::HostUnreachable => Reply::Unsent { why: "its host is unreachable".to_owned() },
        _ => Reply::Unsent { why: error.to_string() },
    }
}

/// A query with an unpredictable id.
pub(super) fn encode(question: &Question) -> Option<(u16, Vec<u8>)> {
    let id = dns::random_id();
    let bytes = match question {
        Question::Root => dns::question(id, ".", RecordType::NS),
        Question::Address(name) => dns::question(id, name, RecordType::A),
    };
    Some((id, bytes?))
}

pub(super) fn answer_to(question: &Question, id: u16, bytes: &[u8]) -> Option<Reply> {
    let answer = Answer::read(bytes).filter(|a| a.id == id && is_for(a, question))?;
    Some(Reply::Answer { code: code_name(answer.code), addresses: answer.addresses })
}

fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("code {}", u16::from(other)),
    }
}

/// Servers that reject every query may leave the question out.
fn is_for(answer: &Answer, question: &Question) -> bool {
    let Some(about) = &answer.about else { return answer.code != ResponseCode::NoError };
    match question {
        Question::Root => about.query_type() == RecordType::NS && about.name().is_root(),
        Question::Address(name) => about.query_type() == RecordType::A && answer.is_about(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::TcpListener;

    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::Name;

    use super::*;

    const SHORT: QueryLimits = QueryLimits { timeout_ms: 300, slow_ms: 200, tries: 2 };

    /// A server on the loopback that builds its reply from the query, or does not reply.
    fn server(reply: impl Fn(u32, Message) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let mut nth = 0;
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                nth += 1;
                if let Some(bytes) = reply(nth, Message::from_vec(&buffer[..n]).unwrap()) {
                    socket.send_to(&bytes, from).unwrap();
                }
            }
        });
        at
    }

    fn reply_with(mut question: Message, code: ResponseCode) -> Option<Vec<u8>> {
        question.metadata.message_type = MessageType::Response;
        question.metadata.response_code = code;
        question.to_vec().ok()
    }

    fn name(text: &str) -> Question {
        Question::Address(text.to_owned())
    }

    #[test]
    fn lost_packet_is_sent_again() {
        let at = server(|nth, q| (nth > 1).then(|| reply_with(q, ResponseCode::NXDomain)).flatten());
        let result = query_server(at, Transport::Udp, &name("a.b"), SHORT);
        assert_eq!((result.code(), result.tries), (Some("NXDOMAIN"), 2));
        assert!(result.ms < 300, "the second try counts: {} ms", result.ms);
    }

    #[test]
    fn timeout_garbage_and_closed_port_are_distinguished() {
        let silent = server(|_, _| None);
        let result = query_server(silent, Transport::Udp, &Question::Root, SHORT);
        assert_eq!((&result.reply, result.tries, result.words()), (&Reply::Silent, 2, "no answer in 0.3 s".to_owned()));
        // a reply to another question, and messages other than replies
        for nonsense in [
            server(|_, q| {
                let mut other = Message::new(q.metadata.id, MessageType::Response, OpCode::Query);
                other.add_query(Query::query(Name::from_ascii("other.").unwrap(), RecordType::A));
                other.to_vec().ok()
            }),
            server(|_, _| Some(b"not a DNS message".to_vec())),
            server(|_, q| q.to_vec().ok()),
        ] {
            assert_eq!(query_server(nonsense, Transport::Udp, &name("a"), SHORT).reply, Reply::Garbage);
        }
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(query_server(closed, Transport::Udp, &Question::Root, SHORT).reply, Reply::Closed);
        assert_eq!(query_server(closed, Transport::Tcp, &Question::Root, SHORT).reply, Reply::Closed);
        assert!(matches!(query_server(closed, Transport::Udp, &name("a..b"), SHORT).reply, Reply::Unsent { .. }));
    }

    #[test]
    fn slow_reply_is_requested_again_and_the_faster_one_counts() {
        let at = server(|nth, q| {
            if nth == 1 {
                std::thread::sleep(Duration::from_millis(250));
            }
            reply_with(q, ResponseCode::NoError)
        });
        let result = query_server(at, Transport::Udp, &Question::Root, SHORT);
        assert!(result.code() == Some("NOERROR") && result.tries > 1 && result.ms < 250, "{result:?}");
    }

    #[test]
    fn tcp_reply_has_a_length_prefix() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 512];
            let n = stream.read(&mut buffer).unwrap();
            let reply = reply_with(Message::from_vec(&buffer[2..n]).unwrap(), ResponseCode::NoError).unwrap();
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            // in two segments, as TCP may deliver it
            stream.write_all(&length[..1]).unwrap();
            stream.write_all(&[&length[1..], &reply].concat()).unwrap();
            drop(listener);
        });
        assert_eq!(query_server(at, Transport::Tcp, &Question::Root, SHORT).code(), Some("NOERROR"));
    }
}
