//! Interfaces, routes and sockets of a network namespace over netlink (rtnetlink(7), `sock_diag(7)`).

pub mod conntrack;
pub mod counters;
pub mod ephemeral;
pub mod firewall;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod links;
pub mod listeners;
mod netlink;
pub mod netns;
pub mod path;
pub mod routes;
mod sockets;
pub mod tcp_info;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Io, ProbeError, blocking};

pub use links::{Interface, NetworkRoute};
pub use sockets::{Connection, Queue};
pub(super) use sockets::{OwnedSocket, end_of_connection, tcp_listeners, unix_listeners};

/// An external address for route lookups; nothing is sent to it (TEST-NET-1, RFC 5737).
pub const EXTERNAL_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Timeout of a read: the kernel replies immediately, unless it has to list thousands of sockets.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// State of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// Routes to the requested destinations, in the same order; `None` without a route.
    pub ways: Vec<Option<NetworkRoute>>,
}

impl View {
    /// Interface of this name.
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

/// Interfaces, and routes to `destinations`, in the namespace of `pid` or of this process. A route lookup sends nothing.
pub async fn view(pid: Option<i32>, destinations: Vec<IpAddr>) -> Result<View, ProbeError> {
    inside(pid, "interfaces and routes", move |_| {
        let mut interfaces = links::interfaces()?;
        links::add_addresses(&mut interfaces)?;
        let routes = destinations.into_iter().map(|to| links::route(to, &interfaces)).collect();
        Ok(View { interfaces, ways: routes })
    })
    .await
}

/// Established TCP connections in the namespace of `pid` or of this process.
pub async fn connections(pid: Option<i32>) -> Result<Vec<Connection>, ProbeError> {
    inside(pid, "connections", sockets::connections).await
}

/// Listening TCP sockets in the namespace of `pid` or of this process, with their accept queues.
pub async fn queues(pid: Option<i32>) -> Result<Vec<Queue>, ProbeError> {
    inside(pid, "listening sockets", sockets::queues).await
}

async fn inside<T: Send + 'static>(
    pid: Option<i32>,
    subject: &'static str,
    read: impl FnOnce(&Io) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProbeError> {
    let from = pid.map_or_else(|| "the kernel".to_owned(), |pid| format!("the network of process {pid}"));
    netns::inside(pid, subject, &from, READ_TIMEOUT, read).await
}

/// Whether this host forwards IPv6 packets (`net.ipv6.conf.all.forwarding`), or `None` without IPv6.
pub async fn ipv6_forwarding() -> Option<bool> {
    let path = "/proc/sys/net/ipv6/conf/all/forwarding";
    let read = move |io: &Io| io.read_to_string(path).ok().map(|t| t.trim() == "1");
    blocking::run("IPv6 forwarding", path, READ_TIMEOUT, read).await.ok().flatten()
}

/// `Ip.FragFails`, `TcpExt.ListenOverflows` and others, of this process's namespace.
pub async fn counters() -> Result<std::collections::BTreeMap<String, u64>, ProbeError> {
    blocking::run("counters of the network", "/proc/net/netstat", READ_TIMEOUT, counters::counters).await
}
