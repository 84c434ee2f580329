//! Which packets get through to a peer and which vanish, found out by two ordinary TCP connections and without ICMP.
//!
//! A connection sends some hundred bytes, then as much as fills a packet. If the small ones are acknowledged and the full one never is,
//! however often it is sent, its size is what differs. The other direction is seen by an answer that comes only when this side asks for
//! small segments (`TCP_MAXSEG`). A vanished packet of the first kind is looked for with smaller ones until the size is known.
//!
//! What is sent is the beginning of an ordinary HTTP request or TLS handshake, to ports that speak one of these. Databases are asked nothing.

mod attempt;
mod greeting;
mod search;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::netns::NoConnection;
use super::{ProbeError, lag, netns};

pub use greeting::{Speech, speech_of};

/// At most this much is sent to a peer in one run, in bytes of data, what the kernel sends again included.
pub const BUDGET: u64 = 16 << 10;

/// At most so many connections are made for one path.
pub const CONNECTIONS: u32 = 9;

/// How long one path may take.
const PATIENCE: Duration = Duration::from_secs(7);

/// A peer, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// What a person calls it: `host:port`.
    pub name: String,
    /// What is said to it.
    pub speech: Speech,
}

/// What became of packets of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// Full packets arrive.
    Arrives,
    /// Small ones arrive and full ones do not.
    Vanishes {
        /// Size of the smallest packet that was seen to vanish, in bytes.
        lost: u32,
        /// Size of the largest that arrived; none when none did, or none was tried.
        arrived: Option<u32>,
    },
    /// It cannot be told; why.
    Unclear {
        /// Why.
        why: String,
    },
    /// It was not tried.
    #[default]
    Untried,
}

impl Fate {
    /// Full packets are lost on the way.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Vanishes { .. })
    }

    pub(super) fn unclear(why: impl Into<String>) -> Self {
        Self::Unclear { why: why.into() }
    }
}

/// One path, tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// Why there was no connection.
    pub no_connection: Option<NoConnection>,
    /// What we send.
    pub out: Fate,
    /// What the peer sends.
    pub back: Fate,
    /// Size of a full packet on the first connection, in bytes.
    pub full: u32,
    /// What the kernel believed the path to take, before and after: it shrinks when an ICMP message comes.
    pub path_mtu: (u32, u32),
    /// How often segments were sent again, on all connections.
    pub retransmitted: u32,
    /// Bytes of data sent, those sent again included.
    pub sent: u64,
    /// Connections made.
    pub connections: u32,
}

/// Tries the path to `peer` as process `pid` would, or this one. `guess` is a packet size worth trying first when full ones vanish.
/// `thorough` waits for answers that take their time.
pub async fn try_path(pid: Option<i32>, peer: Peer, guess: Option<u32>, thorough: bool) -> Result<Tried, ProbeError> {
    let from = pid.map_or_else(|| peer.name.clone(), |pid| format!("{} from the network of process {pid}", peer.name));
    let began = Instant::now();
    let tried = netns::inside(pid, "the path", &from, PATIENCE, move |_| Ok(search::search(&peer, guess, thorough))).await?;
    // packets that seem lost may only have been looked for too late; a second attempt would not be within the budget
    if tried.no_connection == Some(NoConnection::Timeout) || tried.out.is_lost() || tried.back.is_lost() {
        lag::doubt(began);
    }
    Ok(tried)
}
