//! Databases, caches and brokers: running, stopped but enabled, and configured servers.

use opsctl_core::model::address::join;
use opsctl_core::model::{Inventory, Product, ServerRef};
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::product::product_of_unit;
use opsctl_core::probe::servers::{FoundServer, Login, ServerHandle, Socket, default_port, libpq_server, tcp_port};
use opsctl_core::probe::{Io, Redactor};

use crate::config::{Resolved, Server};

/// The servers of the environment and the configuration, with their credentials.
#[derive(Default)]
pub(super) struct Logins {
    libpq: Option<((String, u16), Login)>,
    configured: Vec<(String, Result<Resolved, String>)>,
}

impl Logins {
    /// Reads service and password files.
    pub(super) fn read(io: &Io, configured: &[Server], redactor: &Redactor) -> Self {
        let resolved = configured.iter().map(|server| (server.name.clone(), server.resolve(io, redactor)));
        Self { libpq: libpq_server(io, redactor), configured: resolved.collect() }
    }
}

/// Joins the servers of the process scan with containers, units and the configuration. Gaps are added to `inventory`.
pub(super) fn find(found: Vec<FoundServer>, logins: Logins, inventory: &mut Inventory, redactor: &Redactor) -> Vec<ServerHandle> {
    let mut known: Vec<ServerHandle> = Vec::new();
    let stopped = |server| ServerHandle { server, sockets: Vec::new(), is_local: None, hidden: false, login: None, nginx: None };
    for f in found {
        let server = running(&f, inventory);
        add(&mut known, ServerHandle { is_local: f.is_local, hidden: f.hidden, sockets: f.sockets, ..stopped(server) });
    }
    for server in stopped_containers(inventory, &known).into_iter().chain(stopped_units(inventory, &known)) {
        add(&mut known, stopped(server));
    }
    if let Some((address, login)) = logins.libpq {
        named(&mut known, join(&address.0, address.1), Product::Postgres, address, login);
    }
    for (name, resolved) in logins.configured {
        match resolved {
            Ok(resolved) => match resolved.address {
                Some((product, host, port)) => named(&mut known, name, product, (host, port), resolved.login),
                None => match known.iter_mut().find(|k| k.server.name == name || k.server.unit.as_deref() == Some(&name)) {
                    Some(k) => k.login = Some(resolved.login),
                    None => inventory.gaps.push(format!(
                        "[[server]] {name}: no server of this name was found, and it has no url (`opsctl targets` shows all)"
                    )),
                },
            },
            Err(why) => inventory.gaps.push(why),
        }
    }
    for k in &known {
        redactor.register_name(&k.server.name);
    }
    inventory.servers = known.iter().map(|k| k.server.clone()).collect();
    inventory.servers.sort_by(|a, b| (a.product, &a.name).cmp(&(b.product, &b.name)));
    known
}

/// Servers of the same product in one container or unit are distinguished by their ports.
fn add(known: &mut Vec<ServerHandle>, mut new: ServerHandle) {
    if known.iter().any(|k| k.server.product == new.server.product && k.server.name == new.server.name) {
        let port = tcp_port(&new.sockets).unwrap_or_default();
        new.server.name = format!("{}:{port}", new.server.name);
        new.server.id = format!("{}:{port}", new.server.id);
    }
    known.push(new);
}

fn running(f: &FoundServer, inventory: &Inventory) -> ServerRef {
    let found_by = format!("process {} ({})", f.process.pid, f.comm);
    let base = ServerRef {
        product: f.product,
        name: String::new(),
        id: String::new(),
        found_by,
        process: Some(f.process),
        container: None,
        unit: None,
        address: None,
        untrusted: f.untrusted.clone(),
    };
    let prefix = f.product.kind();
    match &f.home {
        Home::Container(id) => {
            let name = inventory.container(id).map_or_else(|| id.chars().take(12).collect(), |c| c.name.clone());
            ServerRef { name, id: format!("{prefix}:{id}"), container: Some(id.clone()), ..base }
        }
        // a scope is a login session, not a service
        Home::Unit(unit) if unit.ends_with(".service") && !unit.starts_with("user@") && inventory_has(inventory, unit) => {
            ServerRef { name: unit.clone(), id: format!("{prefix}:{unit}"), unit: Some(unit.clone()), ..base }
        }
        _ => {
            let address = match f.sockets.iter().find(|s| matches!(s, Socket::Tcp(_))).or_else(|| f.sockets.first()) {
                Some(Socket::Tcp(address)) => address.to_string(),
                Some(Socket::Unix(path)) => path.display().to_string(),
                None => format!("localhost:{}", default_port(f.product)),
            };
            ServerRef { id: format!("{prefix}:{address}"), name: address, ..base }
        }
    }
}

/// Whether the unit is one of this host: cgroups in a system container contain units of the outer host.
fn inventory_has(inventory: &Inventory, unit: &str) -> bool {
    inventory.systemd.iter().flat_map(|s| &s.units).any(|u| u.name == unit)
}

/// Stopped containers of servers.
fn stopped_containers(inventory: &Inventory, known: &[ServerHandle]) -> Vec<ServerRef> {
    let found =
        |id: &str, product| known.iter().any(|k| k.server.container.as_deref() == Some(id) && k.server.product == product);
    let server = |c: &opsctl_core::model::ContainerRef| {
        let product = c.product.filter(|p| !found(&c.id, *p))?;
        Some(ServerRef {
            product,
            name: c.name.clone(),
            id: format!("{}:{}", product.kind(), c.id),
            found_by: format!("image {}", c.image),
            process: None,
            container: Some(c.id.clone()),
            unit: None,
            address: None,
            untrusted: None,
        })
    };
    inventory.containers.iter().filter(|c| c.state != "running").filter_map(server).collect()
}

/// Stopped units of servers: enabled, or failed.
fn stopped_units(inventory: &Inventory, known: &[ServerHandle]) -> Vec<ServerRef> {
    let found = |unit: &str| known.iter().any(|k| k.server.unit.as_deref() == Some(unit));
    let server = |u: &opsctl_core::model::UnitRef| {
        let product = product_of_unit(&u.name)?;
        let expected = u.active == "failed" || (u.active == "inactive" && u.file_state == "enabled");
        (expected && u.load == "loaded" && !found(&u.name)).then(|| ServerRef {
            product,
            name: u.name.clone(),
            id: format!("{}:{}", product.kind(), u.name),
            found_by: format!("unit {}", u.name),
            process: None,
            container: None,
            unit: Some(u.name.clone()),
            address: None,
            untrusted: None,
        })
    };
    inventory.systemd.iter().flat_map(|s| &s.units).filter_map(server).collect()
}

/// A server configured by address: merged with a discovered server at this address, or added.
fn named(known: &mut Vec<ServerHandle>, name: String, product: Product, (host, port): (String, u16), login: Login) {
    // the address is in the network namespace of this host; the same address in another namespace is a different one
    let here = |k: &&mut ServerHandle| {
        let own = k.server.container.is_none() && k.is_local == Some(true);
        own && k.server.product == product && is_at(&k.sockets, &host, port)
    };
    if let Some(k) = known.iter_mut().find(here) {
        k.login = Some(login);
        return;
    }
    let server = ServerRef {
        product,
        id: format!("{}:{}", product.kind(), join(&host, port)),
        name,
        found_by: login.from.clone(),
        process: None,
        container: None,
        unit: None,
        address: Some((host, port)),
        untrusted: None,
    };
    known.push(ServerHandle { server, sockets: Vec::new(), is_local: None, hidden: false, login: Some(login), nginx: None });
}

fn is_at(sockets: &[Socket], host: &str, port: u16) -> bool {
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1");
    sockets.iter().any(|s| match s {
        Socket::Tcp(address) => {
            address.port() == port && (address.ip().to_string() == host || (local && address.ip().is_loopback()))
        }
        Socket::Unix(path) => {
            path.parent().is_some_and(|p| p.as_os_str() == host) && path.to_string_lossy().ends_with(&format!(".{port}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{ContainerRef, ServerProcess};

    use super::*;

    fn found(product: Product, home: Home, pid: i32, at: &str) -> FoundServer {
        let sockets = at.parse().map(Socket::Tcp).into_iter().collect();
        let ids = opsctl_core::probe::io::Ids { real: 0, effective: 0, settled: true };
        let process = ServerProcess { pid, start_ticks: 7 };
        let (cgroups, untrusted, is_local) = (String::new(), None, Some(true));
        FoundServer { product, process, comm: "x".into(), cgroups, ids, is_local, home, untrusted, sockets, hidden: false }
    }

    fn container(id: &str, name: &str, state: &str, product: Option<Product>) -> ContainerRef {
        ContainerRef {
            id: id.into(),
            name: name.into(),
            image: "x:1".into(),
            state: state.into(),
            network_mode: "bridge".into(),
            product,
            celery: None,
            project: None,
            service: None,
            labels: std::collections::BTreeMap::default(),
        }
    }

    #[test]
    fn names_of_servers() {
        let mut inventory = Inventory {
            containers: vec![container("aa", "cache", "running", None), container("bb", "old", "exited", Some(Product::Redis))],
            ..Inventory::default()
        };
        let scan = vec![
            found(Product::Redis, Home::Container("aa".into()), 10, "127.0.0.1:6379"),
            found(Product::Redis, Home::Container("aa".into()), 11, "127.0.0.1:6380"),
            found(Product::Postgres, Home::Host, 12, "127.0.0.1:5432"),
        ];
        let logins = Logins { libpq: None, configured: Vec::new() };
        let known = find(scan, logins, &mut inventory, &Redactor::default());
        let names: Vec<&str> = inventory.servers.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["127.0.0.1:5432", "cache", "cache:6380", "old"]);
        assert_eq!(known.len(), 4);
        assert!(inventory.servers[3].process.is_none());
    }

    #[test]
    fn configured_address_is_merged_with_the_discovered_server() {
        let mut known = vec![];
        let f = found(Product::Postgres, Home::Host, 12, "127.0.0.1:5432");
        let server = running(&f, &Inventory::default());
        let handle = ServerHandle { server, sockets: f.sockets, is_local: Some(true), hidden: false, login: None, nginx: None };
        add(&mut known, handle);
        named(&mut known, "mine".into(), Product::Postgres, ("localhost".into(), 5432), Login::user("me", "test"));
        assert_eq!((known.len(), known[0].login.is_some()), (1, true));
        named(&mut known, "other".into(), Product::Postgres, ("10.0.0.9".into(), 5432), Login::default());
        assert_eq!((known.len(), known[1].server.name.as_str()), (2, "other"));
        known[0].is_local = Some(false);
        known[0].login = None;
        named(&mut known, "mine".into(), Product::Postgres, ("localhost".into(), 5432), Login::user("me", "test"));
        assert_eq!((known.len(), known[0].login.is_some()), (3, false));
    }
}
