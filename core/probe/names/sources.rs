//! A name in each of its sources on this host: the hosts file, the C library, and DNS. They may differ on purpose, and a program
//! uses the C library's.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Lookup, nsswitch, query_concurrently};
use crate::probe::io::command::{self, Argv};
use crate::probe::io::resolv_conf::{self, ResolvConf};
use crate::probe::io::resolve::{self, MAX_SEARCH_DOMAINS};
use crate::probe::names::nsswitch::HostSources;
use crate::probe::{Io, blocking};

/// Timeout of the files and of the name servers together.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Exit status of `getent` for a key that it does not find (getent(1)).
const NOT_FOUND: i32 = 2;

/// Result of the C library of this host, from `getent ahosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum LibcLookup {
    /// `getent` is not installed, or was not run.
    #[default]
    Unknown,
    /// Its addresses.
    Up(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The lookup did not end in time, or `getent` failed.
    Failed(String),
}

/// A name in each source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameSources {
    /// Its addresses in `/etc/hosts`.
    pub file: Vec<IpAddr>,
    /// Result of the C library.
    pub libc: LibcLookup,
    /// Duration of the lookup of the C library in milliseconds.
    pub libc_ms: u64,
    /// Result of the name servers of resolv.conf.
    pub dns: Option<Lookup>,
    /// `hosts` of nsswitch.conf.
    pub sources: HostSources,
}

impl NameSources {
    /// Addresses in DNS.
    #[must_use]
    pub fn in_dns(&self) -> &[IpAddr] {
        match &self.dns {
            Some(Lookup::Up(addresses)) => addresses,
            _ => &[],
        }
    }

    /// The address that programs use first; `None` if the C library finds none.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        match &self.libc {
            LibcLookup::Up(addresses) => addresses.first().copied(),
            LibcLookup::NoSuchName => None,
            // without getent, as the resolver of opsctl itself
            LibcLookup::Unknown | LibcLookup::Failed(_) => self.file.first().or_else(|| self.in_dns().first()).copied(),
        }
    }

    /// Whether `/etc/hosts` and DNS have addresses of one family for the name, and none in common.
    #[must_use]
    pub fn contradict(&self) -> bool {
        let same_family = |a: &IpAddr| self.in_dns().iter().any(|b| a.is_ipv4() == b.is_ipv4());
        self.file.iter().any(same_family) && !self.file.iter().any(|a| self.in_dns().contains(a))
    }
}

/// Looks up `host` in each source, as this process; libc at most for `limit`.
pub async fn name_sources_of(host: &str, limit: Duration) -> NameSources {
    let name = host.to_owned();
    let read = move |io: &Io| read(io, &name);
    let (found, (libc, libc_ms)) =
        tokio::join!(blocking::run("the sources of a name", host, READ_TIMEOUT, read), Box::pin(libc(host, limit)));
    NameSources { libc, libc_ms, ..found.unwrap_or_default() }
}

fn read(io: &Io, name: &str) -> NameSources {
    let file = resolve::in_hosts(&io.read_lossy("/etc/hosts").unwrap_or_default(), name);
    let conf = ResolvConf::parse(&io.read_lossy(resolv_conf::PATH).unwrap_or_default());
    let servers: Vec<SocketAddr> = conf.used().iter().map(|s| s.socket(io)).collect();
    let domains: Vec<String> = conf.search.into_iter().take(MAX_SEARCH_DOMAINS).collect();
    let candidates = super::candidates(name, &domains);
    let names: Vec<&str> = candidates.iter().map(String::as_str).collect();
    let dns =
        query_concurrently(&servers, &names).ok().and_then(|all| all.into_iter().fold(None, |a, b| Some(super::better(a, b))));
    let sources = nsswitch::read(io, None).unwrap_or_default();
    NameSources { file, dns, sources, ..NameSources::default() }
}

async fn libc(host: &str, limit: Duration) -> (LibcLookup, u64) {
    let started = Instant::now();
    let ended = match Argv::new("getent", &["ahosts"]).operand(host) {
        Ok(argv) => command::run(&argv, limit).await,
        Err(why) => Err(why),
    };
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let result = match ended.map(|e| (e.status.code(), e.stdout)) {
        Ok((Some(0), output)) => LibcLookup::Up(addresses(&output)),
        Ok((Some(NOT_FOUND), _)) => LibcLookup::NoSuchName,
        Ok((code, _)) => LibcLookup::Failed(format!("getent exited with {code:?}")),
        Err(why) if why.ends_with("not installed") => LibcLookup::Unknown,
        Err(why) => LibcLookup::Failed(why),
    };
    (result, ms)
}

/// The addresses that `getent ahosts` prints, each once.
pub(super) fn addresses(output: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in output.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) && found.len() < resolve::MAX_ADDRESSES {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn sources(file: &[&str], dns: &[&str]) -> NameSources {
        let parse = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        NameSources { file: parse(file), dns: Some(Lookup::Up(parse(dns))), ..NameSources::default() }
    }

    #[test]
    fn different_addresses_of_one_family_contradict() {
        assert!(sources(&["10.0.0.9"], &["10.0.0.7"]).contradict());
        assert!(!sources(&["10.0.0.9"], &["10.0.0.7", "10.0.0.9"]).contradict());
        assert!(!sources(&["::1"], &["10.0.0.7"]).contradict());
        assert!(!sources(&[], &["10.0.0.7"]).contradict() && !sources(&["10.0.0.9"], &[]).contradict());
    }

    #[test]
    fn addresses_of_getent_are_unique() {
        let output = "2001:db8::7 STREAM db.example\n2001:db8::7 DGRAM \n192.0.2.7 STREAM \nnonsense\n\n";
        assert_eq!(addresses(output).iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8::7", "192.0.2.7"]);
    }
}
