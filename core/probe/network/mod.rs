//! Interfaces, routes and sockets of a network namespace, as the kernel tells them over netlink (rtnetlink(7), `sock_diag(7)`).

pub mod counters;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod links;
mod netlink;
mod sockets;
pub mod tcp_info;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Io, ProbeError, blocking, netns};

pub use links::{Interface, Way};
pub use sockets::{Connection, Queue};

/// An address of the outside world to ask the way to; nothing is sent there (TEST-NET-1, RFC 5737).
pub const WORLD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// The kernel answers at once, unless thousands of sockets are told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one namespace looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// How packets to the addresses asked for would leave, in the same order; none without a route.
    pub ways: Vec<Option<Way>>,
}

impl View {
    /// The interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name == name)
    }

    /// Whether `ip` is an address of one of the interfaces.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == ip))
    }
}

/// Interfaces, and the ways to `destinations`, in the namespace of `pid` or this one. Asking for a way sends nothing.
pub async fn look(pid: Option<i32>, destinations: Vec<IpAddr>) -> Result<View, ProbeError> {
    inside(pid, "interfaces and routes", move |_| {
        let mut interfaces = links::interfaces()?;
        links::add_addresses(&mut interfaces)?;
        let ways = destinations.into_iter().map(|to| links::way(to, &interfaces)).collect();
        Ok(View { interfaces, ways })
    })
    .await
}

/// The established TCP connections in the namespace of `pid` or this one.
pub async fn connections(pid: Option<i32>) -> Result<Vec<Connection>, ProbeError> {
    inside(pid, "connections", sockets::connections).await
}

/// The listening TCP sockets in the namespace of `pid` or this one, with their queues.
pub async fn queues(pid: Option<i32>) -> Result<Vec<Queue>, ProbeError> {
    inside(pid, "listening sockets", sockets::queues).await
}

async fn inside<T: Send + 'static>(
    pid: Option<i32>,
    what: &'static str,
    read: impl FnOnce(&Io) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProbeError> {
    let from = pid.map_or_else(|| "the kernel".to_owned(), |pid| format!("the network of process {pid}"));
    netns::inside(pid, what, &from, PATIENCE, read).await
}

/// Whether this host passes packets of IPv6 on (`net.ipv6.conf.all.forwarding`); none without IPv6.
pub async fn ipv6_forwarding() -> Option<bool> {
    let path = "/proc/sys/net/ipv6/conf/all/forwarding";
    let read = move |io: &Io| io.read_to_string(path).ok().map(|t| t.trim() == "1");
    blocking::run("IPv6 forwarding", path, PATIENCE, read).await.ok().flatten()
}

/// `Ip.FragFails`, `TcpExt.ListenOverflows` and the others, of this process's namespace.
pub async fn counters() -> Result<std::collections::BTreeMap<String, u64>, ProbeError> {
    blocking::run("counters of the network", "/proc/net/netstat", PATIENCE, counters::counters).await
}
