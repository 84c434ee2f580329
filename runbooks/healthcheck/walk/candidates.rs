//! Units and containers that serve a port of this host and do not run: by published port, by their command or socket, by the usual
//! port of their product.

use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::Kind;
use opsctl_core::probe::product::{PRODUCTS, product_of_unit};
use opsctl_core::probe::{Io, ProbeCx, blocking};
use opsctl_core::probe::{io::Root, product};
use serde::{Deserialize, Serialize};

/// Limit of socket units that are read.
const MAX_SOCKETS: usize = 32;

/// Size limit of a unit file, in bytes.
const MAX_UNIT_BYTES: u64 = 64 << 10;

/// Time limit of reading the unit files.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Services of packages with their usual ports, other than those of [`PRODUCTS`] (IANA service names, defaults of the packages).
const USUAL: &[(u16, &[&str])] = &[
    (22, &["ssh", "sshd"]),
    (25, &["postfix", "exim4", "sendmail"]),
    (53, &["named", "bind9", "unbound", "dnsmasq"]),
    (80, &["nginx", "apache2", "httpd", "caddy", "haproxy", "lighttpd", "traefik"]),
    (389, &["slapd"]),
    (443, &["nginx", "apache2", "httpd", "caddy", "haproxy", "lighttpd", "traefik"]),
    (3000, &["grafana-server", "gitea"]),
    (3306, &["mysql", "mysqld", "mariadb"]),
    (5000, &["docker-registry"]),
    (5601, &["kibana"]),
    (6443, &["k3s"]),
    (8080, &["tomcat9", "tomcat10", "tomcat", "jenkins"]),
    (9000, &["php-fpm"]),
    (9100, &["prometheus-node-exporter", "node_exporter"]),
    (9200, &["elasticsearch", "opensearch"]),
    (11211, &["memcached"]),
    (27017, &["mongod", "mongodb"]),
];

/// A unit or container that does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::healthcheck) struct Candidate {
    /// Full id of its container.
    pub(in crate::healthcheck) container: Option<String>,
    /// Its unit.
    pub(in crate::healthcheck) unit: Option<String>,
    /// Name.
    pub(in crate::healthcheck) name: String,
    /// `exited`, `inactive (disabled)`.
    pub(in crate::healthcheck) state: String,
    /// How it is related to the port: `publishes port 8080`.
    pub(in crate::healthcheck) relation: String,
    /// Its configuration names the port; otherwise it is the usual one of its product.
    pub(in crate::healthcheck) is_certain: bool,
}

/// All candidates of a port, certain ones first.
pub(super) async fn of_port(cx: &ProbeCx, address: IpAddr, port: u16) -> Vec<Candidate> {
    let mut found = containers(cx, port).await;
    found.extend(by_command(cx, port).await);
    found.extend(by_socket(cx, port).await);
    if found.is_empty() {
        found.extend(by_product(cx, port).await);
    }
    // a container on the host's network is not proven to use this address
    if found.len() > 1 && !address.is_loopback() {
        found.sort_by_key(|c| !c.is_certain);
    }
    found
}

async fn containers(cx: &ProbeCx, port: u16) -> Vec<Candidate> {
    let mut found = Vec::new();
    for c in cx.inspected(&cx.inventory.containers).await.into_iter().filter(|c| !c.is_up()) {
        let published = c.configured_ports.contains(&port);
        let on_host = c.network_mode == "host" && c.exposed.contains(&port);
        if published || on_host {
            let relation =
                if published { format!("publishes port {port}") } else { format!("exposes port {port} on the host's network") };
            found.push(Candidate {
                container: Some(c.id.clone()),
                unit: None,
                name: c.name.clone(),
                state: c.state.status.clone(),
                relation,
                is_certain: published,
            });
        }
    }
    found
}

async fn by_command(cx: &ProbeCx, port: u16) -> Vec<Candidate> {
    let mut found = Vec::new();
    for unit in cx.units_of_port(port).await {
        found.extend(of_unit(cx, &unit, format!("has port {port} in its command"), true).await);
    }
    found
}

/// Socket units that listen on the port when they run.
async fn by_socket(cx: &ProbeCx, port: u16) -> Vec<Candidate> {
    let Some(systemd) = &cx.systemd else { return Vec::new() };
    let units = cx.inventory.systemd.iter().flat_map(|s| &s.units);
    let sockets = units.filter(|u| u.kind() == "socket" && u.active != "active").take(MAX_SOCKETS);
    let mut files = Vec::new();
    for socket in sockets {
        if let Ok(unit) = systemd.unit(&socket.name).await {
            files.push((socket.name.clone(), unit.fragment.clone()));
        }
    }
    let read = move |io: &Io| -> Vec<String> {
        let Ok(root) = Root::own(io) else { return Vec::new() };
        let listens = |path: &str| {
            let text = root.bytes(path, MAX_UNIT_BYTES).unwrap_or_default();
            listens_on(&String::from_utf8_lossy(&text), port)
        };
        files.into_iter().filter(|(_, path)| !path.is_empty() && listens(path)).map(|(name, _)| name).collect()
    };
    let mut found = Vec::new();
    for name in blocking::run("socket units", "/etc/systemd/system", READ_TIMEOUT, read).await.unwrap_or_default() {
        found.extend(of_unit(cx, &name, format!("listens on port {port}"), true).await);
    }
    found
}

/// Whether a socket unit listens on a TCP port (systemd.socket(5)).
fn listens_on(text: &str, port: u16) -> bool {
    let mut values = text.lines().filter_map(|l| l.trim().strip_prefix("ListenStream=")).map(str::trim);
    values.any(|value| value.rsplit(':').next().is_some_and(|number| number.parse() == Ok(port)))
}

/// Installed units of products with this usual port.
async fn by_product(cx: &ProbeCx, port: u16) -> Vec<Candidate> {
    let usual = USUAL.iter().filter(|(p, _)| *p == port).flat_map(|(_, names)| names.iter().copied());
    let own = PRODUCTS.iter().filter(|row| row.port == port).flat_map(|row| row.units.iter().copied());
    let mut names: Vec<String> = usual.chain(own).map(|name| format!("{name}.service")).collect();
    let listed = cx.inventory.systemd.iter().flat_map(|s| &s.units).filter(|u| u.active != "active");
    let of_product = |name: &str| product_of_unit(name).is_some_and(|p| product::spec(p).port == port);
    names.extend(listed.filter(|u| of_product(&u.name)).map(|u| u.name.clone()));
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        found.extend(of_unit(cx, &name, format!("usually listens on port {port}"), false).await);
    }
    found
}

/// A unit that is installed and does not run.
async fn of_unit(cx: &ProbeCx, name: &str, relation: String, is_certain: bool) -> Option<Candidate> {
    let unit = cx.systemd.as_ref()?.unit(name).await.ok()?;
    if unit.load == "not-found" || unit.active == "active" {
        return None;
    }
    let is_masked = unit.load == "masked" || unit.file_state == "masked";
    let file = if is_masked { "masked" } else { unit.file_state.as_str() };
    let state = match file {
        "disabled" | "masked" => format!("{} ({file})", unit.active),
        _ => unit.active.clone(),
    };
    Some(Candidate { container: None, unit: Some(name.to_owned()), name: name.to_owned(), state, relation, is_certain })
}

impl Candidate {
    /// For messages: `nginx.service, which is inactive (disabled), usually listens on port 80`.
    pub(super) fn words(&self) -> String {
        let kind = if self.container.is_some() { "container " } else { "" };
        format!("{kind}{}, which is {}, {}", self.name, self.state, self.relation)
    }

    /// The next command.
    pub(super) fn hint(&self) -> String {
        let name = &self.name;
        match self.kind() {
            Kind::Container => format!("docker logs --tail 50 {name}; docker start {name}"),
            _ if self.state.contains("masked") => format!("{name} is masked: systemctl unmask {name}, if it should run"),
            _ => format!("systemctl status {name}; journalctl -u {name} -n 50; systemctl start {name}"),
        }
    }

    fn kind(&self) -> Kind {
        if self.container.is_some() { Kind::Container } else { Kind::Unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_of_a_socket_unit() {
        for text in ["[Socket]\nListenStream=8080\n", "ListenStream=127.0.0.1:8080", "ListenStream=[::]:8080"] {
            assert!(listens_on(text, 8080), "{text}");
        }
        for text in ["ListenStream=/run/8080", "ListenDatagram=8080", "#ListenStream=8080", "ListenStream=18080"] {
            assert!(!listens_on(text, 8080), "{text}");
        }
    }

    #[test]
    fn candidate_has_a_command_of_its_place() {
        let unit = Candidate { name: "web.service".into(), state: "inactive (masked)".into(), ..Candidate::default() };
        assert!(unit.hint().contains("unmask"));
        let container = Candidate { container: Some("c".into()), name: "web".into(), ..Candidate::default() };
        assert!(container.hint().starts_with("docker logs"));
    }
}
