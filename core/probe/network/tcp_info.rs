//! State of a TCP connection: `struct tcp_info` (include/uapi/linux/tcp.h), which only grows at its end.
#![allow(unsafe_code, reason = "no safe crate in use wraps getsockopt(TCP_INFO)")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use serde::{Deserialize, Serialize};

/// The relevant fields. Fields that an older kernel does not have are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpInfo {
    /// Consecutive timeouts of the oldest segment without an acknowledgement.
    pub backoff: u8,
    /// Whether each segment carries a timestamp, which takes 12 bytes.
    pub timestamps: bool,
    /// Largest segment sent, in bytes of data.
    pub send_mss: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Segments among them that the peer has received behind a gap.
    pub sacked: u32,
    /// Path MTU as far as this host knows.
    pub path_mtu: u32,
    /// Round-trip time in microseconds.
    pub rtt_us: u32,
    /// Total of retransmitted segments.
    pub retransmitted: u32,
    /// Bytes acknowledged, plus one for the SYN (Linux 4.1).
    pub bytes_acked: u64,
    /// Bytes received in order (Linux 4.1).
    pub bytes_received: u64,
    /// Bytes written and not yet sent (Linux 4.6).
    pub unsent: u32,
    /// Bytes of data sent, including retransmissions (Linux 4.19).
    pub bytes_sent: u64,
    /// Segments received out of order (Linux 5.4).
    pub out_of_order: u32,
}

impl TcpInfo {
    /// Reads the fields at their offsets; missing ones are 0.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let u32_at = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let u64_at = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        Self {
            backoff: bytes.get(2).copied().unwrap_or(0),
            // TCPI_OPT_TIMESTAMPS
            timestamps: bytes.get(5).is_some_and(|o| o & 1 != 0),
            send_mss: u32_at(16),
            unacked: u32_at(24),
            sacked: u32_at(28),
            path_mtu: u32_at(60),
            rtt_us: u32_at(68),
            retransmitted: u32_at(100),
            bytes_acked: u64_at(120),
            bytes_received: u64_at(128),
            unsent: u32_at(144),
            bytes_sent: u64_at(200),
            out_of_order: u32_at(224),
        }
    }

    /// Whether all data is acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unacked == 0 && self.unsent == 0
    }

    /// Whether later small segments arrive and the oldest one does not in spite of retransmissions: the difference is its size.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.unacked > self.sacked && self.sacked > 0 && self.backoff >= 2
    }
}

/// Reads the state of a socket of this process.
pub fn of(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut buffer = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(buffer.len()).unwrap_or(0);
    // SAFETY: the descriptor is borrowed and therefore open during the call; the kernel writes at most `length` bytes to
    // `buffer`, which is that long and exclusively borrowed, and sets `length` to the number of bytes written; any bytes are a
    // valid value of an array of bytes
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(length).unwrap_or(0).min(buffer.len());
    Ok(TcpInfo::parse(&buffer[..written]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sent_bytes_and_segments_match_the_offsets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[7; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        server.write_all(&[7; 300]).unwrap();
        client.read_exact(&mut [0; 300]).unwrap();
        let info = of(client.as_fd()).unwrap();
        assert!(info.bytes_sent == 1000 && info.bytes_received == 300 && info.bytes_acked >= 1000, "{info:?}");
        assert!(info.is_idle() && !info.is_stuck() && info.send_mss > 500, "{info:?}");
    }

    #[test]
    fn shorter_tcp_info_of_an_older_kernel_is_parsed() {
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
        let old = TcpInfo::parse(&[1; 104]);
        assert_eq!((old.retransmitted, old.bytes_sent), (0x0101_0101, 0));
    }
}
