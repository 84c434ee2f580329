//! Search domains that resolve short names to foreign hosts.

use std::net::IpAddr;

use opsctl_core::model::{Code, Severity};
use opsctl_core::probe::ProbeError;
use opsctl_core::probe::names::{NameServer, QueryLimits, Question, Transport, query_each};
use serde::{Deserialize, Serialize};

pub(super) const LEAK: Code = Code {
    id: "dns.search-leak",
    severities: &[Severity::Warn],
    when: "a name that cannot exist has an address in a search domain, or the short name of a container resolves in one to an address that is no container of this host",
    hint: "remove the domain from `search` in resolv.conf (for containers: --dns-search .), or use names with a trailing dot",
    ..Code::BASE
};

/// A name that does not exist in any domain.
const NONEXISTENT_NAME: &str = "opsctl-no-such-name";
/// Limit of domains checked of a search list.
const MAX_SEARCH_DOMAINS: usize = 3;

/// A search domain in which every name has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wildcard {
    /// The domain.
    pub(super) domain: String,
    /// Addresses of a name that cannot exist.
    pub(super) addresses: Vec<IpAddr>,
}

/// The search domains with an address for a name that cannot exist, queried from the namespace of `pid`, or from this host.
pub(super) async fn wildcards(
    pid: Option<i32>,
    server: &NameServer,
    search: &[String],
    limits: QueryLimits,
) -> Result<Vec<Wildcard>, ProbeError> {
    let domains: Vec<&String> = search.iter().take(MAX_SEARCH_DOMAINS).collect();
    let names = domains.iter().map(|d| format!("{NONEXISTENT_NAME}.{d}")).collect();
    let addresses = addresses(pid, server, names, limits).await?;
    let found = domains.into_iter().zip(addresses).filter(|(_, a)| !a.is_empty());
    Ok(found.map(|(domain, addresses)| Wildcard { domain: domain.clone(), addresses }).collect())
}

/// A short name of a container that resolves to a foreign address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leak {
    /// The short name.
    pub(super) name: String,
    /// The container runs; a stopped one is unknown to the engine's name server.
    pub(super) runs: bool,
    /// The search domain with an address for it.
    pub(super) domain: String,
    /// Addresses it resolves to.
    pub(super) addresses: Vec<IpAddr>,
}

/// A short name of a container.
pub(super) struct Short {
    pub(super) name: String,
    pub(super) runs: bool,
}

/// The names that libc would resolve through a search domain to an address other than `own`, queried from the namespace of `pid`.
/// With `ndots:0`, as set by Docker, names are queried without search domains first.
pub(super) async fn leaks(
    pid: i32,
    server: &NameServer,
    names: Vec<Short>,
    search: &[String],
    own: &[IpAddr],
    limits: QueryLimits,
) -> Result<Vec<Leak>, ProbeError> {
    let domains: Vec<&String> = search.iter().take(MAX_SEARCH_DOMAINS).collect();
    let all = names.iter().flat_map(|n| domains.iter().map(move |d| format!("{}.{d}", n.name))).collect();
    let mut addresses = addresses(Some(pid), server, all, limits).await?.into_iter();
    let mut found = Vec::new();
    for short in names {
        // the search ends at the first domain with an address
        let hits: Vec<_> = domains.iter().zip(addresses.by_ref().take(domains.len())).collect();
        if let Some((domain, addresses)) = hits.into_iter().find(|(_, a)| !a.is_empty())
            && !addresses.iter().any(|a| own.contains(a))
        {
            found.push(Leak { name: short.name, runs: short.runs, domain: (*domain).clone(), addresses });
        }
    }
    Ok(found)
}

async fn addresses(
    pid: Option<i32>,
    server: &NameServer,
    names: Vec<String>,
    limits: QueryLimits,
) -> Result<Vec<Vec<IpAddr>>, ProbeError> {
    let jobs = names.into_iter().map(|n| (server.clone(), Transport::Udp, Question::Address(n))).collect();
    // no retry: these queries are optional
    let once = QueryLimits { tries: 1, ..limits };
    Ok(query_each(pid, jobs, once).await?.iter().map(|a| a.addresses().to_vec()).collect())
}

/// Addresses as a list.
pub(super) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
