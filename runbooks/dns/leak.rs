//! Short names that a search domain turns into somebody else's.

use std::net::IpAddr;

use opsctl_core::model::{Code, Severity};
use opsctl_core::probe::ProbeError;
use opsctl_core::probe::names::{NameServer, Patience, Question, Transport, ask_each};
use serde::{Deserialize, Serialize};

pub(super) const LEAK: Code = Code {
    id: "dns.search-leak",
    severities: &[Severity::Warn],
    when: "a name that cannot exist has an address in a search domain, or the short name of a container leads through one to an address that is no container of this host",
    hint: "take the domain out of `search` of resolv.conf (for containers: --dns-search .), or write names with a final dot",
};

/// A name that nobody gives to anything.
const NO_SUCH_NAME: &str = "opsctl-no-such-name";
/// How many domains of a search list are looked at.
const MOST_DOMAINS: usize = 3;

/// A search domain in which every name has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wildcard {
    /// The domain.
    pub(super) domain: String,
    /// What a name that cannot exist leads to.
    pub(super) addresses: Vec<IpAddr>,
}

/// Which of these search domains have an address for a name that cannot exist, asked from `pid`, or from this host.
pub(super) async fn wildcards(
    pid: Option<i32>,
    server: &NameServer,
    search: &[String],
    patience: Patience,
) -> Result<Vec<Wildcard>, ProbeError> {
    let domains: Vec<&String> = search.iter().take(MOST_DOMAINS).collect();
    let names = domains.iter().map(|d| format!("{NO_SUCH_NAME}.{d}")).collect();
    let addresses = addresses(pid, server, names, patience).await?;
    let found = domains.into_iter().zip(addresses).filter(|(_, a)| !a.is_empty());
    Ok(found.map(|(domain, addresses)| Wildcard { domain: domain.clone(), addresses }).collect())
}

/// A short name of this host that leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leak {
    /// The short name.
    pub(super) name: String,
    /// It runs; what does not is not known to the engine's name server.
    pub(super) runs: bool,
    /// The domain in which it was found.
    pub(super) domain: String,
    /// Where it leads.
    pub(super) addresses: Vec<IpAddr>,
}

/// A short name that should be a container's.
pub(super) struct Short {
    pub(super) name: String,
    pub(super) runs: bool,
}

/// Which of these names libc would find through a search domain, asked from `pid`, where none of `own` is an answer. Names are found as
/// they are first when `ndots` is 0, as Docker sets it.
pub(super) async fn leaks(
    pid: i32,
    server: &NameServer,
    names: Vec<Short>,
    search: &[String],
    own: &[IpAddr],
    patience: Patience,
) -> Result<Vec<Leak>, ProbeError> {
    let domains: Vec<&String> = search.iter().take(MOST_DOMAINS).collect();
    let all = names.iter().flat_map(|n| domains.iter().map(move |d| format!("{}.{d}", n.name))).collect();
    let mut addresses = addresses(Some(pid), server, all, patience).await?.into_iter();
    let mut found = Vec::new();
    for short in names {
        // the first domain that has an address is where the search ends
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
    patience: Patience,
) -> Result<Vec<Vec<IpAddr>>, ProbeError> {
    let jobs = names.into_iter().map(|n| (server.clone(), Transport::Udp, Question::Address(n))).collect();
    // nobody waits for these
    let once = Patience { tries: 1, ..patience };
    Ok(ask_each(pid, jobs, once).await?.iter().map(|a| a.addresses().to_vec()).collect())
}

/// Addresses as a list.
pub(super) fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
