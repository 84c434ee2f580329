//! One connection of a path test: a small packet, a full one, and the response.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::network::netns::{ConnectError, classify};
use crate::probe::network::tcp_info::{self, TcpInfo};

/// Timeout of connect(2).
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Time limit for the acknowledgement of a small packet.
const SMALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// Time limit for the acknowledgement of a full packet: by then it has been retransmitted three times (200, 400, 800 ms).
const FULL_TIMEOUT: Duration = Duration::from_millis(1700);

/// Delay of an acknowledgement beyond the round-trip time: the peer's kernel may delay it (delayed ACK, at most 40 ms on Linux).
const ACK_DELAY: Duration = Duration::from_millis(60);

/// Interval between two reads of the socket state.
const POLL_INTERVAL: Duration = Duration::from_millis(4);

/// Limit of silence once a response has begun, or once a segment has arrived behind a gap.
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);

/// A connection that sends nothing more when it is closed: a stuck segment must not be retransmitted for minutes.
pub(super) struct Attempt {
    stream: TcpStream,
    /// Whether its segments have IPv6 headers.
    v6: bool,
}

/// Result of sending data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All data is acknowledged.
    Acknowledged,
    /// Retransmitted without an acknowledgement; `tail`: smaller segments behind it were acknowledged.
    Stuck { tail: bool },
    /// The peer closed the connection.
    Ended,
}

impl Attempt {
    /// Connects; `mss` limits the data in a segment of either direction (`TCP_MAXSEG`, tcp(7)).
    pub(super) fn connect(to: SocketAddr, mss: Option<u32>) -> Result<Self, ConnectError> {
        let fail = |e: std::io::Error| classify(&e);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).map_err(fail)?;
        if let Some(mss) = mss {
            socket.set_tcp_mss(mss).map_err(fail)?;
        }
        socket.set_tcp_nodelay(true).map_err(fail)?;
        // close with RST rather than minutes of retransmissions
        socket.set_linger(Some(Duration::ZERO)).map_err(fail)?;
        socket.connect_timeout(&to.into(), CONNECT_TIMEOUT).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        Ok(Self { stream: socket.into(), v6: to.is_ipv6() })
    }

    pub(super) fn info(&self) -> TcpInfo {
        tcp_info::of(self.stream.as_fd()).unwrap_or_default()
    }

    /// Size of the packet of a full segment.
    pub(super) fn full_packet(&self, info: &TcpInfo) -> u32 {
        info.send_mss + overhead(self.v6) + if info.timestamps { 12 } else { 0 }
    }

    /// Sends a small packet and waits for its acknowledgement.
    pub(super) fn send_small(&mut self, bytes: &[u8]) -> Progress {
        self.send(bytes, SMALL_TIMEOUT, 3)
    }

    /// Sends a full packet and a small one behind it. If the small one is acknowledged, the full one counts as stuck after
    /// `again` more retransmissions; otherwise the time limit applies.
    pub(super) fn send_full(&mut self, bytes: &[u8], again: u32) -> Progress {
        self.send(bytes, FULL_TIMEOUT, again)
    }

    fn send(&mut self, bytes: &[u8], timeout: Duration, again: u32) -> Progress {
        let before = self.info().retransmitted;
        let until = Instant::now() + timeout;
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
                // the acknowledgement of the last copy needs a round trip
                let since = *in_vain_since.get_or_insert(now);
                if now - since > Duration::from_micros(u64::from(info.rtt_us) * 2) + ACK_DELAY {
                    return Progress::Stuck { tail };
                }
            }
            if now > until {
                return Progress::Stuck { tail };
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits for a response: at most `timeout` for its beginning, until `enough` bytes have arrived, or until it pauses.
    pub(super) fn answer(&mut self, timeout: Duration, enough: u64) -> Answer {
        let mut answer = Answer::default();
        let started = Instant::now();
        let mut until = started + timeout;
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
                    until = Instant::now() + IDLE_TIMEOUT;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if !answer.behind_gap && self.info().out_of_order > 0 {
                        answer.behind_gap = true;
                        until = until.min(Instant::now() + IDLE_TIMEOUT);
                    }
                    if Instant::now() > until {
                        break;
                    }
                    std::thread::sleep(POLL_INTERVAL);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // closed with RST: bytes received before it count
                Err(_) => {
                    answer.ended = true;
                    break;
                }
            }
        }
        answer
    }
}

/// Response of the peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Bytes received in order.
    pub(super) bytes: u64,
    /// Time until the first of them.
    pub(super) first: Option<Duration>,
    /// The peer closed the connection.
    pub(super) ended: bool,
    /// Later segments arrived while an earlier one was missing.
    pub(super) behind_gap: bool,
}

/// Headers of IP and TCP without options, in bytes.
pub(super) fn overhead(v6: bool) -> u32 {
    if v6 { 60 } else { 40 }
}
