//! One connection: a small packet, a full one, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::netns::{NoConnection, classify};
use crate::probe::network::tcp_info::{self, TcpInfo};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(1500);

/// How long a small packet may take to be acknowledged.
const SMALL: Duration = Duration::from_millis(1500);

/// How long a full one may take: the clock has sent it again three times by then (200, 400, 800 ms).
const FULL: Duration = Duration::from_millis(1700);

/// What an acknowledgement may be late beyond the round trip: the peer's kernel may hold it back (delayed ACK, at most 40 ms on Linux).
const SETTLE: Duration = Duration::from_millis(60);

/// Time between two looks at the socket.
const LOOK: Duration = Duration::from_millis(4);

/// How long it may stay silent once an answer has begun, or once something came behind a gap.
const PAUSE: Duration = Duration::from_millis(300);

/// A connection that sends nothing more when it is closed: what is stuck must not be sent again for minutes.
pub(super) struct Attempt {
    stream: TcpStream,
    /// Whether IPv6 headers are in front of its segments.
    v6: bool,
}

/// How a piece of data got on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is acknowledged.
    Acknowledged,
    /// Sent again and again; `tail` says that smaller packets behind it were acknowledged.
    Stuck { tail: bool },
    /// The peer ended the connection.
    Ended,
}

impl Attempt {
    /// Connects; `mss` limits the data in a segment of either direction (`TCP_MAXSEG`, tcp(7)).
    pub(super) fn connect(to: SocketAddr, mss: Option<u32>) -> Result<Self, NoConnection> {
        let fail = |e: std::io::Error| classify(&e);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).map_err(fail)?;
        if let Some(mss) = mss {
            socket.set_tcp_mss(mss).map_err(fail)?;
        }
        socket.set_tcp_nodelay(true).map_err(fail)?;
        // an end with RST instead of minutes of sending again
        socket.set_linger(Some(Duration::ZERO)).map_err(fail)?;
        socket.connect_timeout(&to.into(), CONNECT).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        Ok(Self { stream: socket.into(), v6: to.is_ipv6() })
    }

    pub(super) fn info(&self) -> TcpInfo {
        tcp_info::of(self.stream.as_fd()).unwrap_or_default()
    }

    /// Size of the packet that a full segment makes.
    pub(super) fn full_packet(&self, info: &TcpInfo) -> u32 {
        info.send_mss + overhead(self.v6) + if info.timestamps { 12 } else { 0 }
    }

    /// Sends something small and waits until it has arrived.
    pub(super) fn send_small(&mut self, bytes: &[u8]) -> Progress {
        self.send(bytes, SMALL, 3)
    }

    /// Sends a full packet and a small one behind it. When the small one is acknowledged, the full one is called stuck after it was sent
    /// `again` more times in vain; otherwise the clock decides.
    pub(super) fn send_full(&mut self, bytes: &[u8], again: u32) -> Progress {
        self.send(bytes, FULL, again)
    }

    fn send(&mut self, bytes: &[u8], patience: Duration, again: u32) -> Progress {
        let before = self.info().retransmitted;
        let until = Instant::now() + patience;
        let mut rest = bytes;
        let mut in_vain_since = None;
        loop {
            while !rest.is_empty() {
                match self.stream.write(rest) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Progress::Ended,
                }
            }
            let info = self.info();
            if rest.is_empty() && info.is_idle() {
                return Progress::Acknowledged;
            }
            let now = Instant::now();
            let tail = info.sacked > 0 && info.unacked > info.sacked;
            if tail && info.retransmitted.saturating_sub(before) >= again {
                // the last copy needs a round trip to be acknowledged
                let since = *in_vain_since.get_or_insert(now);
                if now - since > Duration::from_micros(u64::from(info.rtt_us) * 2) + SETTLE {
                    return Progress::Stuck { tail };
                }
            }
            if now > until {
                return Progress::Stuck { tail };
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for an answer: at most `patience` for its beginning, until `enough` bytes of it have come, or until it pauses.
    pub(super) fn answer(&mut self, patience: Duration, enough: u64) -> Answer {
        let mut answer = Answer::default();
        let started = Instant::now();
        let mut until = started + patience;
        let mut buffer = [0; 4096];
        while answer.bytes < enough {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    answer.ended = true;
                    break;
                }
                Ok(n) => {
                    answer.bytes += n as u64;
                    answer.first.get_or_insert_with(|| started.elapsed());
                    until = Instant::now() + PAUSE;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if !answer.behind_gap && self.info().out_of_order > 0 {
                        answer.behind_gap = true;
                        until = until.min(Instant::now() + PAUSE);
                    }
                    if Instant::now() > until {
                        break;
                    }
                    std::thread::sleep(LOOK);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // an end with RST: what came counts
                Err(_) => {
                    answer.ended = true;
                    break;
                }
            }
        }
        answer
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Bytes that came, in order.
    pub(super) bytes: u64,
    /// When the first of them came.
    pub(super) first: Option<Duration>,
    /// The peer ended the connection.
    pub(super) ended: bool,
    /// Later packets came while an earlier one was missing.
    pub(super) behind_gap: bool,
}

/// Headers of IP and TCP without options, in bytes.
pub(super) fn overhead(v6: bool) -> u32 {
    if v6 { 60 } else { 40 }
}
