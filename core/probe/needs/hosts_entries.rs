//! Entries of `/etc/hosts` that contradict the addresses of containers: `--add-host`, legacy links, and lines written by hand. The C
//! library reads the file before it queries DNS, so that a stale entry hides the right answer of the engine.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::model::Subnet;
use crate::probe::ProbeCx;
use crate::probe::docker::Container;
use crate::probe::needs::neighbours::Neighbours;
use crate::probe::needs::{Consumer, DependencyCache, consumer_of};

/// Limit of entries of one file.
const MAX_ENTRIES: usize = 2000;

/// An entry with an address that its container does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct HostsEntry {
    /// The container with this file, or this host.
    pub consumer: Consumer,
    /// Line in the file, from 1.
    pub line: usize,
    /// The address in the entry.
    pub address: String,
    /// The name in the entry.
    pub host: String,
    /// The container with this name.
    pub target: String,
    /// Full id of that container.
    pub target_id: String,
    /// Its addresses for the consumer.
    pub expected: Vec<String>,
    /// The network with the address in its subnet.
    pub network: String,
    /// The container that has the address now.
    pub owner: Option<String>,
    /// Variables and files with the name.
    pub needed: Vec<String>,
}

/// A line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    number: usize,
    address: Ipv4Addr,
    names: Vec<String>,
}

/// The IPv4 entries of a hosts file, without loopback addresses: an entry with one disables a name on purpose.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let line = |(number, line): (usize, &str)| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse::<Ipv4Addr>().ok().filter(|ip| !ip.is_loopback() && !ip.is_unspecified())?;
        Some(Line { number: number + 1, address, names: words.map(str::to_owned).collect() })
    };
    text.lines().enumerate().take(MAX_ENTRIES).filter_map(line).collect()
}

/// Whether a subnet (`172.18.0.0/16`) has an address.
fn has(subnet: &str, address: Ipv4Addr) -> bool {
    Subnet::parse(subnet).is_some_and(|subnet| subnet.has(address))
}

/// A bridge network: its name, its subnets and its gateways.
struct Bridge {
    name: String,
    subnets: Vec<String>,
    gateways: Vec<String>,
}

impl ProbeCx {
    /// Entries of the hosts files of containers and of this host that contradict the addresses of containers; read once per run.
    pub async fn hosts_entries(&self) -> Arc<Vec<HostsEntry>> {
        self.shared.get::<DependencyCache>().entries.get((), || read(self).boxed()).await
    }
}

async fn read(cx: &ProbeCx) -> Arc<Vec<HostsEntry>> {
    let (Some(docker), Ok(known)) = (&cx.docker, cx.needs().await) else { return Arc::default() };
    let Ok(networks) = docker.networks().await else { return Arc::default() };
    let bridges: Vec<Bridge> = networks
        .iter()
        .filter(|n| n.driver == "bridge")
        .map(|n| Bridge { name: n.name.clone(), subnets: n.subnets.clone(), gateways: n.gateways.clone() })
        .collect();
    let all = &known.neighbours;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let host = Consumer { container: None, name: "this host".to_owned(), pid: own, unit: None };
    let mut files: Vec<(Option<&Container>, Consumer)> = vec![(None, host)];
    files.extend(all.all().iter().filter_map(|c| Some((Some(&**c), consumer_of(c)?))));
    let read = files.into_iter().map(|(from, consumer)| {
        let (bridges, known) = (&bridges, &known);
        async move {
            let text = cx.hosts_file(consumer.pid).await;
            let mut found = contradictions(all, bridges, from, &consumer, &text);
            for entry in &mut found {
                // an address of this host is one on purpose, for example the gateway
                let address = entry.address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                if cx.is_own_address(address).await {
                    entry.host.clear();
                }
                let needs = known
                    .list
                    .iter()
                    .filter(|n| n.consumer.container == consumer.container && n.host.eq_ignore_ascii_case(&entry.host));
                let labels: BTreeSet<String> = needs.map(crate::probe::needs::Dependency::label).collect();
                entry.needed = labels.into_iter().collect();
            }
            found.retain(|entry| !entry.host.is_empty());
            found
        }
    });
    Arc::new(join_all(read).await.into_iter().flatten().collect())
}

fn contradictions(
    all: &Neighbours,
    bridges: &[Bridge],
    from: Option<&Container>,
    consumer: &Consumer,
    text: &str,
) -> Vec<HostsEntry> {
    let mut found = Vec::new();
    // of several entries for one name the first is tried first
    let mut seen = BTreeSet::new();
    for line in parse(text) {
        for name in line.names.iter().filter(|name| seen.insert(name.to_ascii_lowercase())) {
            let Some(resolved) = all.resolve(from, name).map(|r| r.container).filter(|c| c.is_up()) else { continue };
            if from.is_some_and(|from| all.holder(from).id == all.holder(resolved).id) {
                continue;
            }
            // several containers may have the name
            let same = all.all().iter().filter(|c| c.id == resolved.id || (c.is_up() && all.answers(from, c, name)));
            let expected: Vec<IpAddr> = same.flat_map(|c| addresses(all, from, c)).collect();
            let bridge = bridges.iter().find(|b| b.subnets.iter().any(|s| has(s, line.address)));
            let (Some(bridge), false) = (bridge, expected.is_empty() || expected.contains(&IpAddr::V4(line.address))) else {
                continue;
            };
            if bridge.gateways.iter().any(|g| g.parse() == Ok(line.address)) {
                continue;
            }
            found.push(HostsEntry {
                consumer: consumer.clone(),
                line: line.number,
                address: line.address.to_string(),
                host: name.clone(),
                target: resolved.name.clone(),
                target_id: resolved.id.clone(),
                expected: expected.iter().map(ToString::to_string).collect(),
                network: bridge.name.clone(),
                owner: all.owner(IpAddr::V4(line.address)).map(|c| c.name.clone()),
                needed: Vec::new(),
            });
        }
    }
    found
}

/// The addresses of a container in the networks that it shares with `from`, or all for the host.
fn addresses(all: &Neighbours, from: Option<&Container>, to: &Container) -> Vec<IpAddr> {
    let networks = &all.holder(to).networks;
    if all.on_host(from) {
        return networks.values().filter_map(|ip| ip.parse().ok()).collect();
    }
    all.shared(from, to).iter().filter_map(|n| networks.get(n)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::needs::neighbours::tests::container;

    fn found(text: &str, from: Option<&str>) -> Vec<String> {
        let all = Neighbours::from(vec![
            container("db", &[("app", "172.18.0.3")], None),
            container("web", &[("app", "172.18.0.2")], None),
            container("cache", &[("app", "172.18.0.4")], None),
        ]);
        let bridge =
            Bridge { name: "app".to_owned(), subnets: vec!["172.18.0.0/16".to_owned()], gateways: vec!["172.18.0.1".to_owned()] };
        let entries = contradictions(&all, &[bridge], from.and_then(|name| all.named(name)), &Consumer::default(), text);
        let shown = |e: HostsEntry| format!("{}: {} {} is {} ({:?})", e.line, e.address, e.host, e.expected.join(" "), e.owner);
        entries.into_iter().map(shown).collect()
    }

    #[test]
    fn stale_entry_contradicts_the_engine() {
        let text = "127.0.0.1 localhost\n172.18.0.2 0123456789ab web\n172.18.0.77 db # by hand\n172.18.0.3 db\n";
        assert_eq!(found(text, Some("web")), ["3: 172.18.0.77 db is 172.18.0.3 (None)"]);
        assert_eq!(found("172.18.0.4 db\n", Some("web")), ["1: 172.18.0.4 db is 172.18.0.3 (Some(\"cache\"))"]);
        assert_eq!(found("172.18.0.77 db\n", None), ["1: 172.18.0.77 db is 172.18.0.3 (None)"]);
    }

    #[test]
    fn entries_on_purpose_are_silent() {
        for text in [
            "172.18.0.3 db",
            "172.18.0.1 db",
            "10.0.0.5 db",
            "127.0.0.1 db",
            "172.18.0.77 other",
            "172.18.0.77 web",
            "fd00::9 db",
            "# 172.18.0.77 db",
        ] {
            assert_eq!(found(text, Some("web")), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn subnet_with_any_prefix() {
        let ip = Ipv4Addr::new(172, 18, 5, 5);
        assert!(has("172.18.0.0/16", ip) && has("0.0.0.0/0", ip) && has("172.18.5.5/32", ip));
        assert!(!has("172.19.0.0/16", ip) && !has("172.18.0.0/33", ip) && !has("fd00::/64", ip) && !has("x", ip));
    }
}
