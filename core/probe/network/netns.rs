//! TCP connections from inside another process's network namespace.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::listeners::listeners_of;
use crate::probe::io::threads;
use crate::probe::{Io, ProbeError, blocking, lag};

/// A failed connection attempt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectError {
    /// Connection refused: no listener, or a firewall rejects the connection.
    Refused,
    /// The attempt timed out.
    Timeout,
    /// Any other error, such as no route.
    Other(String),
}

/// Connects to `address` from the host's namespace.
pub async fn connect(address: SocketAddr, timeout: Duration) -> Result<Result<tokio::net::TcpStream, ConnectError>, ProbeError> {
    connect_from(None, address, timeout).await
}

/// Connects to `address` from the network namespace of process `pid`. Requires root (setns(2)).
pub async fn connect_inside(
    pid: i64,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, ConnectError>, ProbeError> {
    connect_from(Some(pid), address, timeout).await
}

/// Connects from the network namespace of process `pid`, or of this process; without a thread if it is the same namespace.
pub async fn connect_as(
    pid: Option<i32>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, ConnectError>, ProbeError> {
    if let Some(pid) = pid
        && blocking::run("a namespace", &format!("process {pid}"), timeout, move |io| is_own(io, pid)).await? != Some(true)
    {
        return connect_inside(i64::from(pid), address, timeout).await;
    }
    Ok(match lag::handshake(timeout, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(classify(&e)),
        Err(_) => Err(ConnectError::Timeout),
    })
}

/// Whether `pid` is in the network namespace of this process; `None` if unknown, which is never taken for the own namespace.
///
/// The namespace of a process of another user is readable by root only (ptrace(2), `PTRACE_MODE_READ_FSCREDS`), the table of its
/// sockets by every user. All processes of one namespace have the same listening sockets, with the same inodes.
pub(in crate::probe) fn is_own(io: &Io, pid: i32) -> Option<bool> {
    let of = |process: &str| io.read_link(format!("/proc/{process}/ns/net")).ok();
    if let (Some(its), Some(own)) = (of(&pid.to_string()), of("self")) {
        return Some(its == own);
    }
    let inodes = |pid: i64| -> Option<HashSet<u64>> { Some(listeners_of(io, pid)?.iter().map(|l| l.inode).collect()) };
    let its = inodes(i64::from(pid)).filter(|its| !its.is_empty())?;
    let own = inodes(i64::from(std::process::id()))?;
    Some(!its.is_disjoint(&own))
}

/// Whether two processes are in the same network namespace.
pub fn is_shared(io: &Io, one: i32, other: i32) -> std::io::Result<bool> {
    let namespace = |pid: i32| io.read_link(format!("/proc/{pid}/ns/net"));
    Ok(namespace(one)? == namespace(other)?)
}

async fn connect_from(
    pid: Option<i64>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, ConnectError>, ProbeError> {
    lag::retried_handshake(|| connect_once(pid, address, timeout), |made| matches!(made, Ok(Err(ConnectError::Timeout)))).await
}

async fn connect_once(
    pid: Option<i64>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, ConnectError>, ProbeError> {
    let from = pid.map_or_else(|| address.to_string(), |pid| format!("{address} inside the namespace of process {pid}"));
    // a separate thread enters the namespace and exits there
    let stream = blocking::run("a connection", &from, timeout + Duration::from_millis(200), move |io| {
        if let Some(pid) = pid {
            enter(io, pid)?;
        }
        Ok(TcpStream::connect_timeout(&address, timeout))
    })
    .await?
    .map_err(|e: std::io::Error| ProbeError::of_process("a connection", &from, &e))?;
    Ok(stream.map_err(|e| classify(&e)).and_then(|s| {
        let ready = s.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(s));
        ready.map_err(|e| ConnectError::Other(e.to_string()))
    }))
}

/// Whether the network namespace of `pid` has a default route of either address family. `None` if the process no longer exists.
#[must_use]
pub fn has_default_route(io: &Io, pid: i64) -> Option<bool> {
    let v4 = io.read_lossy(format!("/proc/{pid}/net/route")).ok()?;
    let v6 = io.read_lossy(format!("/proc/{pid}/net/ipv6_route")).unwrap_or_default();
    Some(v4.lines().any(is_default_v4) || v6.lines().any(is_default_v6))
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal.
pub(in crate::probe) fn is_default_v4(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    matches!(fields[..], [_, "00000000", _, _, _, _, _, "00000000", ..])
}

/// `destination prefix source prefix next-hop metric references use flags device`; the kernel's unreachable default route is on
/// `lo`.
pub(in crate::probe) fn is_default_v6(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    fields.len() == 10 && fields[0].bytes().all(|b| b == b'0') && fields[1] == "00" && fields[9] != "lo"
}

/// Runs `read` in the network namespace of `pid` or of this process, on a separate thread that enters the namespace and exits
/// there.
pub(in crate::probe) async fn inside<T: Send + 'static>(
    pid: Option<i32>,
    subject: &str,
    from: &str,
    timeout: Duration,
    read: impl FnOnce(&Io) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProbeError> {
    let done = blocking::run(subject, from, timeout, move |io| {
        if let Some(pid) = pid {
            enter_other(io, pid)?;
        }
        read(io)
    });
    done.await?.map_err(|e| ProbeError::of_process(subject, from, &e))
}

/// Enters the network namespace of `pid` unless this thread is already in it; for a separate thread.
pub(in crate::probe) fn enter_other(io: &Io, pid: i32) -> std::io::Result<()> {
    let of = |process: &str| io.read_link(format!("/proc/{process}/ns/net")).ok();
    match (of("thread-self"), of(&pid.to_string())) {
        (Some(own), Some(other)) if own == other => Ok(()),
        _ => enter(io, i64::from(pid)),
    }
}

fn enter(io: &Io, pid: i64) -> std::io::Result<()> {
    let namespace = io.open(format!("/proc/{pid}/ns/net"))?;
    threads::retire();
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

pub(in crate::probe) fn classify(error: &std::io::Error) -> ConnectError {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => ConnectError::Timeout,
        _ => ConnectError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_of_an_absent_process_is_an_error() {
        let own = std::process::id().cast_signed();
        assert!(is_shared(&Io::for_test(), own, own).is_ok_and(|shared| shared));
        assert!(is_shared(&Io::for_test(), own, i32::MAX).is_err());
    }

    #[test]
    fn namespace_of_an_absent_process_is_not_the_own_one() {
        let own = std::process::id().cast_signed();
        assert_eq!((is_own(&Io::for_test(), own), is_own(&Io::for_test(), i32::MAX)), (Some(true), None));
    }

    #[test]
    fn default_routes_of_both_address_families() {
        assert!(is_default_v4("eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0"));
        assert!(!is_default_v4("eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0"));
        let zero = "0".repeat(32);
        let v6 = |device: &str| format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {device}");
        assert!(is_default_v6(&v6("eth0")) && !is_default_v6(&v6("lo")));
    }
}
