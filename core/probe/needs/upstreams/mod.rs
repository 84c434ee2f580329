//! Upstreams in the configuration files of reverse proxies. nginx has a reader of its own.

mod apache;
mod caddy;
#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe::needs) mod fuzz;
mod haproxy;
mod traefik;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::address::is_host;
use crate::probe::io::Root;
use crate::probe::needs::neighbours::Neighbours;
use crate::probe::needs::services::unit_of;
use crate::probe::needs::{Consumer, Dependency, DependencySource, MAX_NEEDS};
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::table::ProcessTable;
use crate::probe::{Io, ProbeCx, blocking};

/// Timeout of reading the configuration of one proxy.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of proxies on one host.
const MAX_PROXIES: usize = 50;

/// Limit of the files of one configuration.
const MAX_FILES: usize = 200;

/// Size limit of one file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A server to which a proxy sends requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upstream {
    pub(super) host: String,
    pub(super) port: u16,
    /// `/etc/haproxy/haproxy.cfg:12`.
    pub(super) place: String,
    /// The servers with the same purpose: `backend web`.
    pub(super) group: String,
    /// It is used only if the others fail.
    pub(super) spare: bool,
}

impl Upstream {
    /// An upstream with a valid address; values with variables and placeholders have none.
    fn new(host: &str, port: Option<u16>, place: String, group: &str) -> Option<Self> {
        let port = port.filter(|port| *port > 0)?;
        let valid = is_host(host) && !host.starts_with('_');
        valid.then(|| Self { host: host.to_owned(), port, place, group: group.to_owned(), spare: false })
    }
}

/// The files of a configuration, as its process sees them.
struct Files<'a> {
    root: &'a Root,
    read: BTreeSet<String>,
}

impl Files<'_> {
    /// The text of a file that was not read before.
    fn text(&mut self, path: &str) -> Option<String> {
        if self.read.len() >= MAX_FILES || !self.read.insert(path.to_owned()) {
            return None;
        }
        Some(String::from_utf8_lossy(&self.root.bytes(path, MAX_FILE_BYTES).ok()?).into_owned())
    }

    /// The files that a path, a pattern or a directory refers to.
    fn matching(&self, path: &str) -> Vec<String> {
        let mut found: Vec<String> = if path.contains(['*', '?', '[']) { self.root.glob(path) } else { vec![path.to_owned()] };
        found.truncate(MAX_FILES);
        found
    }

    /// The files in a directory with one of these endings, sorted as the proxies read them.
    fn of_directory(&self, directory: &str, endings: &[&str]) -> Vec<String> {
        let names = self.root.names(directory.as_ref()).into_iter();
        let listed = names.filter(|name| !name.starts_with('.') && endings.iter().any(|end| name.ends_with(end)));
        listed.map(|name| format!("{}/{name}", directory.trim_end_matches('/'))).take(MAX_FILES).collect()
    }
}

/// A process of a proxy, and its reader.
struct Proxy {
    product: &'static str,
    pid: i32,
    words: Vec<String>,
}

/// Programs with a reader.
const PROGRAMS: &[(&str, &str)] =
    &[("haproxy", "haproxy"), ("apache2", "apache"), ("httpd", "apache"), ("caddy", "caddy"), ("traefik", "traefik")];

fn read(io: &Io, proxy: &Proxy) -> Vec<Upstream> {
    let Ok(root) = Root::of(io, proxy.pid) else { return Vec::new() };
    let directory = io.working_directory(proxy.pid).unwrap_or_else(|| "/".to_owned());
    let mut files = Files { root: &root, read: BTreeSet::new() };
    match proxy.product {
        "haproxy" => haproxy::upstreams(&mut files, &proxy.words, &directory),
        "apache" => apache::upstreams(&mut files, &proxy.words),
        "caddy" => caddy::upstreams(&mut files, &proxy.words, &directory),
        _ => traefik::upstreams(&mut files, &proxy.words),
    }
}

/// A path of the arguments, relative to the working directory.
fn absolute(path: &str, directory: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", directory.trim_end_matches('/')) }
}

/// The values of an option: `-f FILE`, `--config FILE`, `--config=FILE`.
fn options<'w>(words: &'w [String], names: &[&str]) -> Vec<&'w str> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        if names.contains(&name) {
            found.extend(value.or_else(|| words.get(at + 1).map(String::as_str)));
        }
    }
    found
}

/// The containers of processes, proven by the process ids of the engine and the parents in the kernel.
pub(super) fn container_of(table: &ProcessTable, containers: &BTreeMap<i32, String>, pid: i32) -> Option<String> {
    let mut at = pid;
    // no process has more ancestors than there are processes; a chain is far shorter
    for _ in 0..64 {
        if let Some(id) = containers.get(&at) {
            return Some(id.clone());
        }
        at = table.get(at).map(|p| p.parent).filter(|parent| *parent > 1)?;
    }
    None
}

/// The upstreams of the proxies on this host and in its containers.
pub(super) async fn proxies(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Dependency> {
    let Ok(table) = cx.processes().await else { return Vec::new() };
    let names: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
    let all: Vec<_> = table.named(&names).collect();
    // workers have the same name as their parent
    let first = |pid: i32| !all.iter().any(|p| p.pid == pid);
    let masters: Vec<_> = all.iter().filter(|p| first(p.parent)).take(MAX_PROXIES).copied().collect();
    if masters.is_empty() {
        return Vec::new();
    }
    let containers: BTreeMap<i32, String> = neighbours.all().iter().filter_map(|c| Some((c.pid()?, c.id.clone()))).collect();
    let pids: Vec<i32> = masters.iter().map(|p| p.pid).collect();
    let (lines, system) = tokio::join!(table.command_lines(pids.clone()), of_origin(pids, &[Origin::System]));
    let read = masters.into_iter().map(|p| {
        let (table, containers, lines, system) = (&table, &containers, &lines, &system);
        async move {
            let product = PROGRAMS.iter().find(|(name, _)| *name == p.comm)?.1;
            let container = container_of(table, containers, p.pid).and_then(|id| neighbours.get(&id));
            // a process of a regular user is no proxy of this host
            if container.is_none() && !system.contains(&p.pid) {
                return None;
            }
            let words = lines.get(&p.pid)?.split('\0').filter(|w| !w.is_empty()).map(str::to_owned).collect();
            let proxy = Proxy { product, pid: p.pid, words };
            let from = format!("the configuration of {product} (pid {})", p.pid);
            let mut upstreams = blocking::run("upstreams", &from, READ_TIMEOUT, move |io| read(io, &proxy)).await.ok()?;
            upstreams.sort();
            upstreams.dedup_by(|a, b| (&a.host, a.port, &a.group) == (&b.host, b.port, &b.group));
            let consumer = match container {
                Some(c) => Consumer { container: Some(c.id.clone()), name: c.name.clone(), pid: p.pid, unit: None },
                None => Consumer { container: None, name: product.to_owned(), pid: p.pid, unit: unit_of(cx, p.pid).await },
            };
            Some((consumer, container, product, upstreams))
        }
    });
    let found = join_all(read).await.into_iter().flatten();
    let mut needs = Vec::new();
    for (consumer, container, product, mut upstreams) in found {
        if product == "traefik" {
            upstreams.extend(traefik::of_labels(neighbours, container));
        }
        for upstream in upstreams.iter().take(MAX_NEEDS) {
            let resolved = neighbours.resolve(container, &upstream.host).map(|m| m.container.id.clone());
            // a name that only the engine knows does not resolve on the host
            let target = resolved.filter(|_| container.is_some() || upstream.host.parse::<std::net::IpAddr>().is_ok());
            if target.is_some() && target.as_deref() == container.map(|c| c.id.as_str()) {
                continue;
            }
            let servers = upstreams.iter().filter(|u| u.group == upstream.group && !u.spare).count();
            needs.push(Dependency {
                consumer: consumer.clone(),
                host: upstream.host.clone(),
                port: upstream.port,
                how: DependencySource::Upstream {
                    product: product.to_owned(),
                    place: upstream.place.clone(),
                    group: upstream.group.clone(),
                    servers: u32::try_from(servers).unwrap_or(u32::MAX),
                },
                target,
            });
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_option() {
        let words: Vec<String> = ["haproxy", "-Ws", "-f", "/a.cfg", "-f", "/conf.d", "--config=/b"].map(str::to_owned).to_vec();
        assert_eq!(options(&words, &["-f"]), ["/a.cfg", "/conf.d"]);
        assert_eq!(options(&words, &["--config", "-c"]), ["/b"]);
        assert_eq!((absolute("a", "/etc/"), absolute("/a", "/etc")), ("/etc/a".to_owned(), "/a".to_owned()));
    }
}
