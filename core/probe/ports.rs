//! The process and the units that serve a TCP port of this host, units also while they do not run.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::Inventory;
use crate::model::address::without_brackets;
use crate::probe::network::listeners::{Owner, listeners_of};
use crate::probe::proc::home::Home;
use crate::probe::{Io, ProbeCx, blocking, network};

/// Limit of units with a command that is read for one run.
const MAX_UNITS: usize = 64;

/// Time limit for the control group of one process.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Timeout of reading the socket table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(2);

impl ProbeCx {
    /// The process of this host that listens on a TCP port, if it exists and is readable by this user.
    pub async fn owner_of_tcp_port(&self, port: u16) -> Option<Owner> {
        let listening =
            blocking::run("listening sockets", "/proc", TABLE_TIMEOUT, |io| listeners_of(io, i64::from(std::process::id())));
        let listening = listening.await.ok()??;
        let table = self.processes().await.ok()?;
        let holders = table.socket_holders().await.ok()?;
        let pid = listening.iter().filter(|l| l.port == port).find_map(|l| holders.get(&l.inode))?;
        Some(Owner { pid: *pid, comm: table.get(*pid)?.comm.clone() })
    }

    /// [`Self::units_of_port`] if `host` is this host as seen from a process on it.
    pub async fn units_of(&self, host: &str, port: u16) -> Vec<String> {
        let ip: Option<IpAddr> = without_brackets(host).parse().ok();
        let is_loopback = host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback());
        let is_own = match ip {
            Some(ip) if !is_loopback => network::view(None, Vec::new()).await.is_ok_and(|view| view.has(ip)),
            _ => is_loopback,
        };
        if is_own { self.units_of_port(port).await } else { Vec::new() }
    }

    /// The unit of the process that listens on a port of this host; without a listener, the services that do not run and with a command that
    /// names the port. Empty if unknown.
    pub async fn units_of_port(&self, port: u16) -> Vec<String> {
        self.units_behind(self.owner_of_tcp_port(port).await.as_ref(), port).await
    }

    /// [`Self::units_of_port`] with its listener, if it has one.
    pub async fn units_behind(&self, owner: Option<&Owner>, port: u16) -> Vec<String> {
        if let Some(owner) = owner {
            let from = format!("/proc/{}/cgroup", owner.pid);
            let path = from.clone();
            let read = move |io: &Io| io.read_lossy(&path).map(|text| Home::of_cgroups(&text));
            let home = blocking::run("the control group", &from, TIMEOUT, read).await;
            return match home {
                Ok(Ok(Home::Unit(unit))) => vec![unit],
                _ => Vec::new(),
            };
        }
        let Some(systemd) = &self.systemd else { return Vec::new() };
        let mut found = Vec::new();
        for name in stopped_services(&self.inventory).into_iter().take(MAX_UNITS) {
            let Ok(unit) = systemd.unit(&name).await else { continue };
            if unit.service.iter().flat_map(|s| &s.exec_start).any(|command| names_port(command, port)) {
                found.push(name);
            }
        }
        found
    }
}

/// Services that should run and do not: failed, waiting for a restart, or enabled and inactive.
fn stopped_services(inventory: &Inventory) -> Vec<String> {
    let units = inventory.systemd.iter().flat_map(|s| &s.units).filter(|u| u.kind() == "service");
    let stopped = units.filter(|u| match u.active.as_str() {
        "failed" | "activating" | "deactivating" => true,
        "inactive" => !u.file_state.is_empty(),
        _ => false,
    });
    stopped.map(|u| u.name.clone()).collect()
}

/// Whether a command names a TCP port: `--port 8000`, `-b 127.0.0.1:8000`, `--listen=:8000`.
fn names_port(command: &str, port: u16) -> bool {
    let port = port.to_string();
    let words = command.split(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | '"' | '\'' | '/'));
    let mut before = "";
    for word in words.filter(|w| !w.is_empty()) {
        let after_colon = word.strip_suffix(port.as_str()).is_some_and(|rest| rest.ends_with(':'));
        if after_colon || (word == port && before.starts_with('-')) {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_in_a_command() {
        for command in [
            "/usr/bin/gunicorn -b 127.0.0.1:8000 app:api",
            "/usr/bin/uvicorn app:api --port 8000",
            "/usr/bin/api --listen=:8000",
            "/usr/bin/node_exporter --web.listen-address=\"[::1]:8000\"",
        ] {
            assert!(names_port(command, 8000), "{command}");
        }
    }

    #[test]
    fn number_in_a_command_is_no_port() {
        for command in
            ["/usr/bin/job --limit=18000", "/usr/bin/sleep 8000", "/opt/8000/run", "/usr/bin/api --port 80001", "/bin/api :80000"]
        {
            assert!(!names_port(command, 8000), "{command}");
        }
    }
}
