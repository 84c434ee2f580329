//! Peers of a network namespace: its TCP connections, from the kernel.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::probe::Io;
use crate::probe::network::listeners::{row, tcp_table};

/// `ESTABLISHED`, `SYN_SENT`, `FIN_WAIT1`, `FIN_WAIT2`, `TIME_WAIT`, `CLOSE_WAIT`, `LAST_ACK` (`include/net/tcp_states.h`).
const CONNECTED_STATES: &[&str] = &["01", "02", "04", "05", "06", "08", "09"];

/// Remote addresses of the connections in the network namespace of `pid`, including those of the last minute.
#[must_use]
pub fn remotes_of(io: &Io, pid: i32) -> BTreeSet<SocketAddr> {
    ends(io, pid).into_iter().map(|(_, remote)| remote).collect()
}

/// Ports of the namespace of `pid` that `from` has connected to.
#[must_use]
pub fn ports_used_by(io: &Io, pid: i32, from: &[IpAddr]) -> BTreeSet<u16> {
    ends(io, pid).into_iter().filter(|(_, remote)| from.contains(&remote.ip())).map(|(local, _)| local.port()).collect()
}

fn ends(io: &Io, pid: i32) -> Vec<(SocketAddr, SocketAddr)> {
    tcp_table(io, i64::from(pid)).unwrap_or_default().lines().filter_map(conversation).collect()
}

pub(super) fn conversation(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let row = row(line).filter(|r| CONNECTED_STATES.contains(&r.state))?;
    Some((row.local, row.remote))
}

/// Length of the accept queue of each listening port of the namespace of `pid`.
#[must_use]
pub fn waiting_to_be_accepted(io: &Io, pid: i32) -> Vec<(u16, u64)> {
    tcp_table(io, i64::from(pid)).unwrap_or_default().lines().filter_map(waiting).filter(|(_, n)| *n > 0).collect()
}

pub(super) fn waiting(line: &str) -> Option<(u16, u64)> {
    let row = row(line).filter(|r| r.state == "0A")?;
    Some((row.local.port(), row.waiting))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn connections_and_accept_queues_are_distinguished() {
        let line = |state: &str| {
            format!("   3: 0100007F:9B52 0100007F:1B59 {state} 00000000:00000007 00:00000000 00000000     0        0 4711 2")
        };
        assert_eq!(conversation(&line("06")).map(|(_, r)| r), Some("127.0.0.1:7001".parse().unwrap()));
        assert_eq!((conversation(&line("0A")), waiting(&line("01"))), (None, None));
        assert_eq!(waiting(&line("0A")), Some((39762, 7)));
    }
}
