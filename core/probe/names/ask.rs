//! One question to one name server, over UDP or TCP (RFC 1035).

use std::hash::{BuildHasher, Hasher};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};

/// What a question is sent over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Every question first.
    #[default]
    Udp,
    /// Answers that are too large for that.
    Tcp,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Question {
    /// The name servers of the root, which every server on the internet knows.
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

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reply {
    /// An answer to the question.
    Answer {
        /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, or `code N`.
        code: String,
        /// The addresses in it.
        addresses: Vec<IpAddr>,
    },
    /// Nobody listens there: the kernel over there said so.
    Closed,
    /// Nothing came back in time.
    #[default]
    Silent,
    /// Something came back that is no answer to the question.
    Garbage,
    /// The question could not be sent.
    Unsent {
        /// Why.
        why: String,
    },
}

/// A question and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// What it was sent over.
    pub transport: Transport,
    /// What came back: the best of the tries.
    pub reply: Reply,
    /// How long the answer took, in milliseconds; the fastest of the tries. How long was waited when there was none.
    pub ms: u64,
    /// How often it was asked.
    pub tries: u32,
}

impl Asked {
    /// The code of an answer; none when there was no answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match &self.reply {
            Reply::Answer { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Nothing came back in time.
    pub(super) fn is_silent(&self) -> bool {
        self.reply == Reply::Silent
    }

    /// The addresses of an answer.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.reply {
            Reply::Answer { addresses, .. } => addresses,
            _ => &[],
        }
    }

    /// What came back, in words: `no answer in 2 s`, `SERVFAIL`.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.reply {
            Reply::Answer { code, .. } => code.clone(),
            Reply::Closed => "nobody listens there".to_owned(),
            Reply::Silent => {
                let waited = Duration::from_millis(self.ms);
                format!("no answer in {}", crate::model::quantity::duration(waited.try_into().unwrap_or_default()))
            }
            Reply::Garbage => "what comes back is no answer".to_owned(),
            Reply::Unsent { why } => why.clone(),
        }
    }
}

/// How patient the asking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Patience {
    /// How long an answer may take, in milliseconds; all tries share it.
    pub timeout_ms: u64,
    /// An answer that takes longer is asked for once more, in milliseconds.
    pub slow_ms: u64,
    /// How often what is not answered is asked.
    pub tries: u32,
}

impl Patience {
    fn timeout(self) -> Duration {
        // two tries and a second look fit into the time a check has
        Duration::from_millis(self.timeout_ms.clamp(100, 2500))
    }

    /// How long all tries may take.
    pub(super) fn longest(self) -> Duration {
        self.timeout() * self.tries.max(1) + Duration::from_millis(500)
    }
}

/// Asks one question. Blocks: for a thread of its own, which may have entered another network namespace.
pub(super) fn ask(server: SocketAddr, transport: Transport, question: &Question, patience: Patience) -> Asked {
    let mut asked = Asked { question: question.clone(), transport, ms: u64::MAX, ..Asked::default() };
    // TCP asks again by itself; over UDP what is not answered is asked again within the time
    let tries = if transport == Transport::Tcp { 1 } else { patience.tries.max(1) };
    for _ in 0..tries {
        let started = Instant::now();
        let reply = match transport {
            Transport::Udp => {
                let (until, again) = (started + patience.timeout(), patience.timeout() / tries);
                over_udp(server, question, until, again, &mut asked.tries)
            }
            Transport::Tcp => {
                asked.tries += 1;
                over_tcp(server, question, started + patience.timeout())
            }
        };
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if matches!(reply, Reply::Answer { .. }) || asked.code().is_none() {
            // the first wait is what is told of when there is no answer
            asked.ms = if asked.code().is_some() { asked.ms.min(ms) } else { ms };
            asked.reply = reply;
        }
        // only an answer that was slow is asked for once more
        if asked.code().is_none() || asked.ms <= patience.slow_ms {
            break;
        }
    }
    asked
}

/// One exchange; a datagram may be lost, so the question is sent again each `again`. `sent` counts.
fn over_udp(server: SocketAddr, question: &Question, until: Instant, again: Duration, sent: &mut u32) -> Reply {
    let Some((id, message)) = encode(question) else { return Reply::Unsent { why: "that is no name".to_owned() } };
    let mut exchange = || -> Result<Reply, Error> {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        // so that only what this server says is heard, and that nobody listens there
        socket.connect(server)?;
        *sent += 1;
        socket.send(&message)?;
        let mut buffer = [0; 4096];
        let mut heard = false;
        loop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Ok(if heard { Reply::Garbage } else { Reply::Silent });
            };
            socket.set_read_timeout(Some(left.min(again)))?;
            match socket.recv(&mut buffer) {
                Ok(n) => match answer_to(question, id, &buffer[..n]) {
                    Some(reply) => return Ok(reply),
                    // a late answer to an earlier try, or nonsense: the right one may still come
                    None => heard = true,
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
    let Some((id, message)) = encode(question) else { return Reply::Unsent { why: "that is no name".to_owned() } };
    let left = || until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or(ErrorKind::TimedOut);
    let exchange = || -> Result<Reply, Error> {
        let mut stream = TcpStream::connect_timeout(&server, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        // the length in front (RFC 1035 4.2.2)
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
        // what a rule of the own packet filter that drops what goes out looks like
        ErrorKind::PermissionDenied => Reply::Unsent { why: "this machine's own packet filter does not let it out".to_owned() },
        ErrorKind::NetworkUnreachable => Reply::Unsent { why: "there is no route to it".to_owned() },
        ErrorKind::HostUnreachable => Reply::Unsent { why: "its host is unreachable".to_owned() },
        _ => Reply::Unsent { why: error.to_string() },
    }
}

/// A question with a number nobody can guess.
pub(super) fn encode(question: &Question) -> Option<(u16, Vec<u8>)> {
    let number = std::hash::RandomState::new().build_hasher().finish().to_ne_bytes();
    let id = u16::from_ne_bytes([number[0], number[1]]);
    let bytes = match question {
        Question::Root => self::question(id, ".", RecordType::NS),
        Question::Address(name) => self::question(id, name, RecordType::A),
    };
    Some((id, bytes?))
}

pub(super) fn answer_to(question: &Question, id: u16, bytes: &[u8]) -> Option<Reply> {
    let answer = Answer::read(bytes).filter(|a| a.id == id && a.is_for(question))?;
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

/// A question as it is sent; none when it is no name.
pub(super) fn question(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    // a final dot: no search list, which only makes questions more
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().ok()
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: u16,
    pub(super) code: ResponseCode,
    /// Of both families.
    pub(super) addresses: Vec<IpAddr>,
    about: Option<Query>,
}

impl Answer {
    /// Reads it; none when it is not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
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

    /// Servers that say no to everything may leave the question out.
    fn is_for(&self, question: &Question) -> bool {
        let Some(about) = &self.about else { return self.code != ResponseCode::NoError };
        match question {
            Question::Root => about.query_type() == RecordType::NS && about.name().is_root(),
            Question::Address(name) => {
                let same = about.name().to_ascii().trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'));
                about.query_type() == RecordType::A && same
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::TcpListener;

    use super::*;

    const SHORT: Patience = Patience { timeout_ms: 300, slow_ms: 200, tries: 2 };

    /// A server on the loopback that makes its reply from the question, or keeps silent.
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

    fn say(mut question: Message, code: ResponseCode) -> Option<Vec<u8>> {
        question.metadata.message_type = MessageType::Response;
        question.metadata.response_code = code;
        question.to_vec().ok()
    }

    fn name(text: &str) -> Question {
        Question::Address(text.to_owned())
    }

    #[test]
    fn a_lost_packet_is_asked_for_again() {
        let at = server(|nth, q| (nth > 1).then(|| say(q, ResponseCode::NXDomain)).flatten());
        let asked = ask(at, Transport::Udp, &name("a.b"), SHORT);
        assert_eq!((asked.code(), asked.tries), (Some("NXDOMAIN"), 2));
        assert!(asked.ms < 300, "the second try counts: {} ms", asked.ms);
    }

    #[test]
    fn silence_nonsense_and_nobody_are_told_apart() {
        let silent = server(|_, _| None);
        let asked = ask(silent, Transport::Udp, &Question::Root, SHORT);
        assert_eq!((&asked.reply, asked.tries, asked.words()), (&Reply::Silent, 2, "no answer in 0.3 s".to_owned()));
        // another question's answer, and one that is none
        for nonsense in [
            server(|_, q| {
                let mut other = Message::new(q.metadata.id, MessageType::Response, OpCode::Query);
                other.add_query(Query::query(Name::from_ascii("other.").unwrap(), RecordType::A));
                other.to_vec().ok()
            }),
            server(|_, _| Some(b"what do you mean?".to_vec())),
            server(|_, q| q.to_vec().ok()),
        ] {
            assert_eq!(ask(nonsense, Transport::Udp, &name("a"), SHORT).reply, Reply::Garbage);
        }
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(closed, Transport::Udp, &Question::Root, SHORT).reply, Reply::Closed);
        assert_eq!(ask(closed, Transport::Tcp, &Question::Root, SHORT).reply, Reply::Closed);
        assert!(matches!(ask(closed, Transport::Udp, &name("a..b"), SHORT).reply, Reply::Unsent { .. }));
    }

    #[test]
    fn a_slow_answer_is_asked_for_once_more_and_the_faster_counts() {
        let at = server(|nth, q| {
            if nth == 1 {
                std::thread::sleep(Duration::from_millis(250));
            }
            say(q, ResponseCode::NoError)
        });
        let asked = ask(at, Transport::Udp, &Question::Root, SHORT);
        assert!(asked.code() == Some("NOERROR") && asked.tries > 1 && asked.ms < 250, "{asked:?}");
    }

    #[test]
    fn over_tcp_the_length_comes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 512];
            let n = stream.read(&mut buffer).unwrap();
            let reply = say(Message::from_vec(&buffer[2..n]).unwrap(), ResponseCode::NoError).unwrap();
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            // in two pieces, as it may come
            stream.write_all(&length[..1]).unwrap();
            stream.write_all(&[&length[1..], &reply].concat()).unwrap();
            drop(listener);
        });
        assert_eq!(ask(at, Transport::Tcp, &Question::Root, SHORT).code(), Some("NOERROR"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100), text in ".*") {
            let _ = (answer_to(&name(&text), 1, &bytes), Answer::read(&bytes), encode(&name(&text)));
        }
    }
}
