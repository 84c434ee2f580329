//! Path MTU test: which packets arrive at a peer and which are dropped, by two ordinary TCP connections and without ICMP.
//!
//! A connection sends a few hundred bytes, then enough to fill a packet. If the small packets are acknowledged and the full one
//! never is, in spite of retransmissions, the difference is its size. The other direction is tested by a response that arrives
//! only if this side limits the peer to small segments (`TCP_MAXSEG`). After a drop in the first direction, smaller packets are
//! tried until the size is known.
//!
//! The data is the beginning of an ordinary HTTP request or TLS handshake, to ports of these protocols. Nothing is sent to
//! databases.

mod attempt;
mod payload;
mod search;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::probe::network::netns;
use crate::probe::network::netns::ConnectError;
use crate::probe::{ProbeError, lag};

pub use payload::{Protocol, protocol_of};

/// Limit of data sent to a peer in one run, in bytes, including retransmissions.
pub const MAX_SENT_BYTES: u64 = 16 << 10;

/// Limit of connections for one path.
pub const MAX_CONNECTIONS: u32 = 9;

/// Time limit of one path.
const PATH_TIMEOUT: Duration = Duration::from_secs(7);

/// A peer and its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Address.
    pub address: SocketAddr,
    /// Name for display: `host:port`.
    pub name: String,
    /// Protocol of the test data.
    pub speech: Protocol,
}

/// Result for packets of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum PathResult {
    /// Full packets arrive.
    Arrives,
    /// Small packets arrive and full ones are dropped.
    Vanishes {
        /// Size of the smallest dropped packet, in bytes.
        lost: u32,
        /// Size of the largest packet that arrived, or `None` if none did or none was tried.
        arrived: Option<u32>,
    },
    /// Unknown.
    Unclear {
        /// Reason.
        why: String,
    },
    /// Not tested.
    #[default]
    Untried,
}

impl PathResult {
    /// Whether full packets are dropped.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Vanishes { .. })
    }

    pub(in crate::probe) fn unclear(why: impl Into<String>) -> Self {
        Self::Unclear { why: why.into() }
    }
}

/// Result of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathTest {
    /// Reason for a failed connection.
    pub no_connection: Option<ConnectError>,
    /// Packets to the peer.
    pub out: PathResult,
    /// Packets from the peer.
    pub back: PathResult,
    /// Size of a full packet on the first connection, in bytes.
    pub full: u32,
    /// Path MTU according to the kernel, before and after: an ICMP message reduces it.
    pub path_mtu: (u32, u32),
    /// Number of retransmissions on all connections.
    pub retransmitted: u32,
    /// Bytes of data sent, including retransmissions.
    pub sent: u64,
    /// Number of connections.
    pub connections: u32,
}

/// Tests the path to `peer` as process `pid`, or as this one. `guess` is a packet size to try first if full packets are dropped.
/// `thorough` waits for slow responses.
pub async fn test_path(pid: Option<i32>, peer: Peer, guess: Option<u32>, thorough: bool) -> Result<PathTest, ProbeError> {
    let from = pid.map_or_else(|| peer.name.clone(), |pid| format!("{} from the network of process {pid}", peer.name));
    let began = Instant::now();
    let tried = netns::inside(pid, "the path", &from, PATH_TIMEOUT, move |_| Ok(search::search(&peer, guess, thorough))).await?;
    // apparently lost packets may be due to a late check; a second attempt would not be within the budget
    if tried.no_connection == Some(ConnectError::Timeout) || tried.out.is_lost() || tried.back.is_lost() {
        lag::doubt(began);
    }
    Ok(tried)
}
