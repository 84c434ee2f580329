//! TCP connections made from inside another process's network namespace.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{ProbeError, blocking};

/// Why a connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoConnection {
    /// Nobody listens there (or a firewall answers for them).
    Refused,
    /// Nothing came back.
    Timeout,
    /// Anything else, such as no route.
    Other(String),
}

/// Connects to `address` from the host's namespace.
pub async fn connect(address: SocketAddr, timeout: Duration) -> Result<Result<tokio::net::TcpStream, NoConnection>, ProbeError> {
    connect_from(None, address, timeout).await
}

/// Connects to `address` as process `pid` would. Needs root: entering a namespace is the kernel's to allow (setns(2)).
pub async fn connect_inside(
    pid: i64,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, NoConnection>, ProbeError> {
    connect_from(Some(pid), address, timeout).await
}

/// Connects as process `pid` would, or this one, without a thread where none is needed.
pub async fn connect_as(
    pid: Option<i32>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, NoConnection>, ProbeError> {
    if let Some(pid) = pid.filter(|pid| !same_network(*pid)) {
        return connect_inside(i64::from(pid), address, timeout).await;
    }
    Ok(match tokio::time::timeout(timeout, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(classify(&e)),
        Err(_) => Err(NoConnection::Timeout),
    })
}

/// Whether `pid` is in this network namespace.
fn same_network(pid: i32) -> bool {
    let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).ok();
    matches!((of("self"), of(&pid.to_string())), (Some(ours), Some(theirs)) if ours == theirs)
}

async fn connect_from(
    pid: Option<i64>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<Result<tokio::net::TcpStream, NoConnection>, ProbeError> {
    let from = pid.map_or_else(|| address.to_string(), |pid| format!("{address} inside the namespace of process {pid}"));
    // a thread of its own: it enters the namespace, and ends there
    let stream = blocking::run("a connection", &from, timeout + Duration::from_millis(200), move || {
        if let Some(pid) = pid {
            enter(pid)?;
        }
        Ok(TcpStream::connect_timeout(&address, timeout))
    })
    .await?
    .map_err(|e: std::io::Error| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ProbeError::Denied { what: "a connection".to_owned(), from: from.clone(), needs: "root".to_owned() }
        }
        std::io::ErrorKind::NotFound => ProbeError::Skip("the process is gone".to_owned()),
        _ => ProbeError::io("a connection", &from, &e),
    })?;
    Ok(stream.map_err(|e| classify(&e)).and_then(|s| {
        let ready = s.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(s));
        ready.map_err(|e| NoConnection::Other(e.to_string()))
    }))
}

/// Enters the network namespace of `pid`, unless it is this one; for a thread of its own.
pub(super) fn enter_other(pid: i32) -> std::io::Result<()> {
    if same_network(pid) { Ok(()) } else { enter(i64::from(pid)) }
}

fn enter(pid: i64) -> std::io::Result<()> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

pub(super) fn classify(error: &std::io::Error) -> NoConnection {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => NoConnection::Refused,
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => NoConnection::Timeout,
        _ => NoConnection::Other(error.to_string()),
    }
}
