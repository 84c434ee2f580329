//! Certificates: served by nginx, configured endpoints, files of servers, and lineages of certbot.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use opsctl_core::model::{CertificateRef, CertificateSource, Inventory, StartTls};
use opsctl_core::probe::Redactor;
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::nginx::Nginx;
use opsctl_core::probe::servers::ServerHandle;
use opsctl_core::probe::tls::{lineage_of, lineages};

use super::read_source;

/// Limit of the names of one certificate at one address that are requested one by one.
const MAX_NAMES: usize = 50;

/// Adds the certificates to the inventory.
pub(super) async fn find(
    known: &[ServerHandle],
    endpoints: &[Endpoint],
    inventory: &mut Inventory,
    redactor: &Redactor,
    until: Instant,
) {
    let mut all = Vec::new();
    let running = known.iter().filter_map(|k| Some((k, k.nginx.as_ref()?.as_ref().ok()?)));
    // the certificates of an nginx with unreadable configuration are unknown: one row with the reason represents them
    all.extend(
        known.iter().filter(|k| matches!(k.nginx, Some(Err(_)))).map(|k| unknown_certificate(&k.server.id, &k.server.name)),
    );
    let mut in_use: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut homes: Vec<(Option<i32>, Option<String>)> = vec![(None, None)];
    for (k, nginx) in running {
        all.extend(served(&k.server.id, nginx));
        all.extend(files(&k.server.id, nginx));
        for (path, _) in &nginx.config.certificates {
            if let Some(name) = lineage_of(path) {
                in_use.entry(name.to_owned()).or_default().push(k.server.id.clone());
            }
        }
        if k.server.container.is_some() {
            homes.push((Some(nginx.master), Some(k.server.id.clone())));
        }
    }
    all.extend(endpoints.iter().filter_map(|e| endpoint(e, &all)).collect::<Vec<_>>());
    for (pid, server) in homes {
        let read = read_source("lineages of certbot", until, async move { lineages(pid).await }).await;
        match read.and_then(|names| names.map_err(|e| e.to_string())) {
            Ok(names) => {
                for name in names {
                    // the same directory, mounted into a container
                    if all.iter().any(|c: &CertificateRef| c.id == format!("lineage:{name}")) {
                        continue;
                    }
                    let used_by = in_use.get(&name).cloned().unwrap_or_default();
                    let source = CertificateSource::Lineage { pid, server: server.clone(), used_by };
                    all.push(CertificateRef { id: format!("lineage:{name}"), names: Vec::new(), name, source });
                }
            }
            Err(e) => inventory.gaps.push(e),
        }
    }
    for name in all.iter().flat_map(|c| &c.names) {
        redactor.register_name(name);
    }
    inventory.certificates = all;
}

/// Sites of one address with the same files: they serve one certificate, which is listed once.
#[derive(Default)]
struct Group<'a> {
    names: Vec<&'a str>,
    protocols: &'a [String],
}

fn served(server: &str, nginx: &Nginx) -> Vec<CertificateRef> {
    type ServedCertificate<'a> = (SocketAddr, &'a [(String, String)]);
    let mut groups: BTreeMap<ServedCertificate<'_>, Group<'_>> = BTreeMap::new();
    for site in &nginx.config.sites {
        // the same site on IPv4 and IPv6, or on several ports, has one certificate; a container may have no ::1
        let mut addresses: Vec<SocketAddr> =
            site.listens.iter().filter(|l| l.ssl && !l.udp).filter_map(|l| Some(reachable(l.address?, l.port))).collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let Some(address) = addresses.first().copied() else { continue };
        let group = groups.entry((address, &site.certificates)).or_default();
        for name in &site.names {
            if group.names.len() < MAX_NAMES && !group.names.contains(&name.as_str()) {
                group.names.push(name);
            }
        }
        group.protocols = &site.protocols;
    }
    let mut found = Vec::new();
    for ((address, files), group) in groups {
        let names: Vec<String> = group.names.into_iter().map(str::to_owned).collect();
        let name = names.first().cloned().unwrap_or_else(|| address.to_string());
        found.push(CertificateRef {
            id: format!("served:{server}:{address}:{name}"),
            name,
            names,
            source: CertificateSource::Nginx {
                server: server.to_owned(),
                pid: nginx.master,
                address: address.to_string(),
                files: files.to_vec(),
                protocols: group.protocols.to_vec(),
            },
        });
    }
    found
}

fn unknown_certificate(server: &str, name: &str) -> CertificateRef {
    CertificateRef {
        name: name.to_owned(),
        id: format!("served:{server}"),
        names: Vec::new(),
        source: CertificateSource::Nginx {
            server: server.to_owned(),
            pid: 0,
            address: String::new(),
            files: Vec::new(),
            protocols: Vec::new(),
        },
    }
}

fn reachable(address: IpAddr, port: u16) -> SocketAddr {
    let address = match address {
        IpAddr::V4(a) if a.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(a) if a.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(address, port)
}

fn files(server: &str, nginx: &Nginx) -> Vec<CertificateRef> {
    let mut paths = BTreeMap::new();
    for (path, key) in &nginx.config.certificates {
        paths.entry(path).or_insert(key);
    }
    let reference = |(path, key): (&String, &String)| CertificateRef {
        name: path.clone(),
        id: format!("file:{server}:{path}"),
        names: Vec::new(),
        source: CertificateSource::File {
            path: path.clone(),
            key: Some(key.clone()).filter(|k| !k.is_empty()),
            server: Some(server.to_owned()),
            pid: Some(nginx.master),
            served: true,
        },
    };
    paths.into_iter().map(reference).collect()
}

/// An address of the configuration, unless an nginx of this host serves its name: that server is checked directly.
fn endpoint(e: &Endpoint, known: &[CertificateRef]) -> Option<CertificateRef> {
    let first = match e.scheme.as_str() {
        "https" => None,
        "smtp" => Some(StartTls::Smtp),
        "postgres" => Some(StartTls::Postgres),
        _ => return None,
    };
    if first.is_none() && e.from.is_none() && known.iter().any(|c| c.names.contains(&e.host)) {
        return None;
    }
    let name = e.authority();
    let id = format!("endpoint:{name}{}", e.from.as_ref().map_or_else(String::new, |f| format!("@{f}")));
    if known.iter().any(|c| c.id == id) {
        return None;
    }
    let source = CertificateSource::Endpoint { host: e.host.clone(), port: e.port, first, from: e.from.clone() };
    Some(CertificateRef { name, id, names: vec![e.host.clone()], source })
}
