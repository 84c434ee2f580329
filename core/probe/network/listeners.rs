//! TCP and UDP listeners of a network namespace, and the processes that own them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::Io;

/// Time limit for reading one socket table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A process that owns a listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address: `0.0.0.0`, `127.0.0.1`, `::`, …
    pub address: std::net::IpAddr,
    /// Port.
    pub port: u16,
    /// Socket inode.
    pub inode: u64,
}

impl Listener {
    /// Whether the listener is reachable only from the same namespace.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }
}

/// The listening TCP sockets in the network namespace of `pid`; `None` if the process no longer exists or is not readable by this
/// user.
#[must_use]
pub fn listeners_of(io: &Io, pid: i64) -> Option<Vec<Listener>> {
    tcp_table(io, pid).map(|text| parse(&text))
}

/// The addresses on which a UDP port is open in the network namespace of `pid`; `None` if the process no longer exists or is not
/// readable by this user.
#[must_use]
pub fn udp_addresses_of(io: &Io, pid: i64, port: u16) -> Option<Vec<IpAddr>> {
    Some(udp_sockets_of(io, pid)?.into_iter().filter(|s| s.port() == port).map(|s| s.ip()).collect())
}

/// The unconnected UDP sockets in the network namespace of `pid`, which accept packets from any peer.
#[must_use]
pub fn udp_sockets_of(io: &Io, pid: i64) -> Option<Vec<SocketAddr>> {
    let v4 = io.read_lossy(format!("/proc/{pid}/net/udp")).ok()?;
    let v6 = io.read_lossy(format!("/proc/{pid}/net/udp6")).unwrap_or_default();
    Some(parse_udp(&(v4 + &v6)))
}

/// An unconnected UDP socket is in the state that TCP calls closed: `07`.
pub(in crate::probe) fn parse_udp(text: &str) -> Vec<SocketAddr> {
    text.lines().filter_map(row).filter(|r| r.state == "07").map(|r| r.local).collect()
}

pub(in crate::probe) fn parse(text: &str) -> Vec<Listener> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Listener> {
    let row = row(line).filter(|r| r.state == "0A")?;
    Some(Listener { address: row.local.ip(), port: row.local.port(), inode: row.inode })
}

/// The TCP sockets of both address families in the network namespace of `pid`, as text; `None` if the process no longer exists or
/// is not readable by this user.
pub(in crate::probe) fn tcp_table(io: &Io, pid: i64) -> Option<String> {
    let v4 = io.read_lossy(format!("/proc/{pid}/net/tcp")).ok()?;
    // absent if IPv6 is disabled
    let v6 = io.read_lossy(format!("/proc/{pid}/net/tcp6")).unwrap_or_default();
    Some(v4 + &v6)
}

/// A TCP socket.
pub(in crate::probe) struct Row<'a> {
    pub(in crate::probe) local: SocketAddr,
    pub(in crate::probe) remote: SocketAddr,
    /// Two digits (`include/net/tcp_states.h`): `01` established, `0A` listening.
    pub(in crate::probe) state: &'a str,
    /// Bytes sent that are not acknowledged.
    pub(in crate::probe) unacknowledged: u64,
    /// Received bytes not yet read by the process; for a listener the connections in the accept queue.
    pub(in crate::probe) waiting: u64,
    pub(in crate::probe) retransmits: u32,
    /// 0 if no process holds it any longer.
    pub(in crate::probe) inode: u64,
}

/// Parses a line of `/proc/net/tcp`: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode`, numbers but the last in
/// hexadecimal. An odd length of a queue or number of retransmissions counts as 0.
pub(in crate::probe) fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (socket_address(fields.next()?)?, socket_address(fields.next()?)?);
    let state = fields.next()?;
    let (sent, received) = fields.next()?.split_once(':')?;
    let hex = |text| u64::from_str_radix(text, 16).unwrap_or(0);
    Some(Row {
        local,
        remote,
        state,
        unacknowledged: hex(sent),
        waiting: hex(received),
        retransmits: u32::from_str_radix(fields.nth(1)?, 16).unwrap_or(0),
        inode: fields.nth(2)?.parse().ok()?,
    })
}

/// Parses groups of four bytes, each in host byte order, before the port: `0100007F:1F90`, or four groups for IPv6. An
/// IPv4-mapped address becomes the IPv4 address.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let group = |i: usize| u32::from_str_radix(address.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address: IpAddr = match address.len() {
        8 => std::net::Ipv4Addr::from(group(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (i, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&group(i)?);
            }
            std::net::Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// State of the connections to one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// One is established without retransmissions.
    Works,
    /// One is being established, or waits for an acknowledgement.
    Tries,
    /// There is none, or they are not readable by this user.
    None,
}

/// The current connections from the network namespace of `pid` to `to`.
#[must_use]
pub fn connection_state(io: &Io, pid: i64, to: SocketAddr) -> ConnectionState {
    connection_state_in(&tcp_table(io, pid).unwrap_or_default(), to)
}

pub(in crate::probe) fn connection_state_in(table: &str, to: SocketAddr) -> ConnectionState {
    let rows: Vec<Row<'_>> = table.lines().filter_map(row).filter(|r| r.remote == to).collect();
    // SYN_SENT, or an established one with retransmissions
    if rows.iter().any(|r| r.state == "02" || (r.state == "01" && r.retransmits > 0)) {
        return ConnectionState::Tries;
    }
    if rows.iter().any(|r| r.state == "01") { ConnectionState::Works } else { ConnectionState::None }
}

/// Whether IPv6 wildcard sockets exclude IPv4 in the network namespace of `pid` (`net.ipv6.bindv6only`); `None` if the namespace
/// cannot be entered, or without IPv6. The socket option of a program overrides it.
pub async fn v6_only(pid: i32) -> Option<bool> {
    // /proc/sys/net shows the network namespace of the reading thread
    let read = |io: &Io| io.read_to_string("/proc/sys/net/ipv6/bindv6only");
    let read = crate::probe::network::netns::inside(Some(pid), "bindv6only", "/proc/sys/net/ipv6", TABLE_TIMEOUT, read);
    Some(read.await.ok()?.trim() == "1")
}

/// Whether the environment of a process contains a loopback address with this port (`localhost:5432`), or one of these variables.
/// Only the result is returned, not the values.
#[must_use]
pub fn environment_names(io: &Io, pid: i32, port: u16, variables: &[&str]) -> bool {
    let text = io.read_lossy(format!("/proc/{pid}/environ")).unwrap_or_default();
    let addresses = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}"));
    text.split('\0').filter_map(|e| e.split_once('=')).any(|(name, value)| {
        variables.contains(&name) || value.split([',', ';', ' ', '@', '/']).any(|part| addresses.iter().any(|p| p == part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_both_address_families() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
   1: 0B00007F:A1B2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n\
   3: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4714 1\n\
   garbage\n";
        let got: Vec<String> = parse(text).iter().map(|l| format!("{} {} {}", l.address, l.port, l.inode)).collect();
        assert_eq!(got, ["127.0.0.1 8080 4711", "127.0.0.11 41394 4712", ":: 80 4714"]);
    }

    #[test]
    fn connected_udp_sockets_are_ignored() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
  514: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 1001 2 0000000000000000 0\n\
  515: 0100007F:0035 0100007F:9999 01 00000000:00000000 00:00000000 00000000   101        0 1002 2 0000000000000000 0\n";
        assert_eq!(parse_udp(text).iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.53:53"]);
    }

    #[test]
    fn connection_with_retransmissions_is_not_established() {
        let line = |state: &str, retransmits: &str| {
            format!(
                "   3: 0100007F:9B52 0200000A:1F90 {state} 00000000:00000000 00:00000000 {retransmits}     0        0 4711 2\n"
            )
        };
        let to = SocketAddr::from(([10, 0, 0, 2], 8080));
        assert_eq!(connection_state_in(&line("01", "00000000"), to), ConnectionState::Works);
        assert_eq!(connection_state_in(&line("01", "00000003"), to), ConnectionState::Tries);
        assert_eq!(connection_state_in(&(line("01", "00000000") + &line("02", "00000001")), to), ConnectionState::Tries);
        assert_eq!(connection_state_in(&line("06", "00000000"), to), ConnectionState::None);
        assert_eq!(connection_state_in(&line("01", "00000000"), SocketAddr::from(([10, 0, 0, 2], 80))), ConnectionState::None);
    }
}
