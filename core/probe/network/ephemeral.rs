//! Use of local ports for outgoing TCP connections.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::{ExtensionFlags, StateFlags};
use serde::{Deserialize, Serialize};

use super::{READ_TIMEOUT, inside, sockets};
use crate::probe::{Io, ProbeError, blocking};

/// Below this number of sockets no range of ports that is in use anywhere is nearly full.
const MIN_SOCKETS: u64 = 64;

/// `TIME_WAIT` (`include/net/tcp_states.h`).
const TIME_WAIT: u8 = 6;

/// The pair of a local address and a peer with the most sockets in the range of local ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// First and last port of the range (`net.ipv4.ip_local_port_range`).
    pub range: (u16, u16),
    /// Number of its ports without the reserved ones (`net.ipv4.ip_local_reserved_ports`).
    pub ports: u32,
    /// Local address.
    pub local: IpAddr,
    /// Address and port of the peer.
    pub peer: SocketAddr,
    /// Open connections.
    pub open: u32,
    /// Closed ones with a port that is not free yet.
    pub time_wait: u32,
    /// Their ports are used again (`net.ipv4.tcp_tw_reuse`): 1 for all, 2 for connections over the loopback interface.
    pub reuse: u8,
}

impl Ephemeral {
    /// Number of ports that a new connection to this peer cannot use.
    #[must_use]
    pub fn used(&self) -> u32 {
        let reused = self.reuse == 1 || self.reuse == 2 && self.local.is_loopback();
        if reused { self.open } else { self.open + self.time_wait }
    }
}

/// The busiest pair of the namespace of `pid` or of this process; `None` with few sockets.
pub async fn ephemeral(pid: Option<i32>) -> Result<Option<Ephemeral>, ProbeError> {
    inside(pid, "local ports", busiest).await
}

/// Those of these processes with more than a few sockets in their namespace. The others need not be entered.
pub async fn busy(pids: Vec<i32>) -> Result<Vec<i32>, ProbeError> {
    blocking::run("local ports", "/proc", READ_TIMEOUT, move |io| {
        let own = |pid: i32, file: &str| io.read_lossy(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        pids.into_iter().filter(|pid| in_use(&own(*pid, "sockstat"), &own(*pid, "sockstat6")) >= MIN_SOCKETS).collect()
    })
    .await
}

fn busiest(io: &Io) -> io::Result<Option<Ephemeral>> {
    let own = |file: &str| io.read_lossy(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let sockets = in_use(&own("sockstat"), &own("sockstat6"));
    if sockets < MIN_SOCKETS {
        return Ok(None);
    }
    let setting = |name: &str| io.read_lossy(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let Some(range) = range(&setting("ip_local_port_range")) else { return Ok(None) };
    let ports = available(range, &setting("ip_local_reserved_ports"));
    // no peer has more than half of them
    if sockets * 2 < u64::from(ports) {
        return Ok(None);
    }
    let mut counted: HashMap<(IpAddr, SocketAddr), (u32, u32)> = HashMap::new();
    let mut states = StateFlags::all();
    states.remove(StateFlags::LISTEN);
    for family in [AF_INET, AF_INET6] {
        let found = match sockets::dump(family, &states, &ExtensionFlags::empty()) {
            Ok(found) => found,
            Err(_) if family == AF_INET6 => continue,
            Err(e) => return Err(e),
        };
        for socket in found {
            let id = &socket.header.socket_id;
            if (range.0..=range.1).contains(&id.source_port) && id.destination_port > 0 {
                let key = (
                    id.source_address.to_canonical(),
                    SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
                );
                let (open, time_wait) = counted.entry(key).or_default();
                *(if socket.header.state == TIME_WAIT { time_wait } else { open }) += 1;
            }
        }
    }
    let reuse = setting("tcp_tw_reuse").trim().parse().unwrap_or(0);
    let all = counted.into_iter().map(|((local, peer), (open, time_wait))| Ephemeral {
        range,
        ports,
        local,
        peer,
        open,
        time_wait,
        reuse,
    });
    Ok(all.max_by_key(|e| (e.used(), e.peer)))
}

/// Sockets in use and in `TIME_WAIT` in `sockstat` and `sockstat6`.
fn in_use(v4: &str, v6: &str) -> u64 {
    let value = |text: &str, line: &str, name: &str| -> u64 {
        let mut words = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default().split_ascii_whitespace();
        words.find(|w| *w == name).and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
    };
    value(v4, "TCP:", "inuse") + value(v4, "TCP:", "tw") + value(v6, "TCP6:", "inuse")
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (words.next()?.ok()?, words.next()?.ok()?);
    (low <= high).then_some((low, high))
}

/// The ports of a range without reserved ones: `8080,9148-9150`.
fn available((low, high): (u16, u16), reserved: &str) -> u32 {
    let all = u32::from(high) - u32::from(low) + 1;
    let within = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u16>().ok()?.max(low), last.parse::<u16>().ok()?.min(high));
        (first <= last).then(|| u32::from(last) - u32::from(first) + 1)
    };
    all.saturating_sub(reserved.trim().split(',').filter_map(within).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_not_available() {
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!((range(""), range("5 1")), (None, None));
        assert_eq!(available((32768, 60999), "\n"), 28232);
        assert_eq!(available((40000, 40099), "39990-40009,40050,50000\n"), 89);
    }

    #[test]
    fn sockets_of_both_families_are_counted() {
        let v4 = "sockets: used 290\nTCP: inuse 5 orphan 0 tw 20 alloc 8 mem 0\n";
        assert_eq!((in_use(v4, "TCP6: inuse 2\n"), in_use("", "")), (27, 0));
    }

    #[test]
    fn reused_ports_are_free() {
        let e = Ephemeral {
            range: (1, 100),
            ports: 100,
            local: IpAddr::from([127, 0, 0, 1]),
            peer: SocketAddr::from(([127, 0, 0, 1], 80)),
            open: 5,
            time_wait: 90,
            reuse: 2,
        };
        assert_eq!(e.used(), 5);
        assert_eq!(Ephemeral { local: IpAddr::from([10, 0, 0, 1]), ..e.clone() }.used(), 95);
        assert_eq!((Ephemeral { reuse: 0, ..e.clone() }.used(), Ephemeral { reuse: 1, ..e }.used()), (95, 5));
    }
}
