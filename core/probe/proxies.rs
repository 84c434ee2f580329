//! The `docker-proxy` processes of published ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::network::netns::is_own;
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::table::ProcessTable;
use crate::probe::{Io, ProbeError, blocking};

/// Timeout of reading the namespaces of the processes.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A `docker-proxy` process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Proxy {
    /// Process id.
    pub pid: i32,
    /// Its listen address on the host.
    pub host: SocketAddr,
    /// The container address that it forwards connections to.
    pub container: SocketAddr,
    /// The `dockerd` that started it, while that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<i32>,
}

/// The running TCP proxies in the network namespace of this process, sorted by host port. No privileges required.
pub async fn docker_proxies() -> Result<Vec<Proxy>, ProbeError> {
    let table = ProcessTable::read().await?;
    let engine = |pid: i32| {
        let parent = table.get(table.get(pid)?.parent)?;
        (parent.comm == "dockerd").then_some(parent.pid)
    };
    let named = table.named(&["docker-proxy"]).map(|p| p.pid).collect();
    // the engine runs them as root
    let lines = table.command_lines(of_origin(named, &[Origin::System]).await).await;
    let proxy =
        |(pid, line): (i32, String)| ends(&line).map(|(host, container)| Proxy { pid, host, container, engine: engine(pid) });
    let found: Vec<Proxy> = lines.into_iter().filter_map(proxy).collect();
    // an engine in another network namespace may have containers of the same addresses; unknown without permission
    let is_here = move |io: &Io| -> Vec<Proxy> { found.into_iter().filter(|p| is_own(io, p.pid) != Some(false)).collect() };
    let mut found = blocking::run("docker-proxy processes", "/proc", READ_TIMEOUT, is_here).await?;
    found.sort_by_key(|p| (p.host.port(), p.host, p.pid));
    Ok(found)
}

/// Parses `-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80`, separated by NUL.
pub(in crate::probe) fn ends(arguments: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words: Vec<&str> = arguments.split('\0').collect();
    let value = |flag: &str| words.iter().position(|w| w.trim_start_matches('-') == flag).and_then(|i| words.get(i + 1)).copied();
    if value("proto") != Some("tcp") {
        return None;
    }
    let ip = |flag: &str| value(flag)?.parse::<IpAddr>().ok();
    let port = |flag: &str| value(flag)?.parse::<u16>().ok();
    let host = SocketAddr::new(ip("host-ip")?, port("host-port")?);
    Some((host, SocketAddr::new(ip("container-ip")?, port("container-port")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_the_arguments() {
        let line = "/usr/sbin/docker-proxy\0-proto\0tcp\0-host-ip\0::\0-host-port\x008080\0-container-ip\x00172.17.0.2\0-container-port\x0080\0";
        let found = ends(line).map(|(host, container)| format!("{host} {container}"));
        assert_eq!(found.as_deref(), Some("[::]:8080 172.17.0.2:80"));
        assert_eq!(ends(&line.replace("tcp", "udp")), None);
        assert_eq!(ends("docker-proxy\0-proto\0tcp\0-host-ip"), None);
    }
}
