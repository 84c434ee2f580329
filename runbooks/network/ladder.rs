//! The steps from a client to the service it needs: observations of each step, and the step that fails.

use std::net::IpAddr;

use jiff::Timestamp;
use opsctl_core::model::Object;
use opsctl_core::model::address::join;
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::{ConnectResult, DependencySource, Health, Listening, ScrapeResult};
use serde::{Deserialize, Serialize};

use super::providers::Providers;

/// Number of steps. Packet sizes are checked by the mtu runbook.
pub(super) const STEPS: u8 = 8;

/// The observations between a client and one port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ladder {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) how: Option<DependencySource>,
    /// Whether the client is in the network namespace of the host.
    pub(super) on_host: bool,
    /// Networks of the client.
    pub(super) networks: Vec<String>,
    pub(super) target: Option<Aim>,
    /// Step 1.
    pub(super) looked: Option<Lookup>,
    /// The probed address.
    pub(super) address: Option<IpAddr>,
    /// Step 2.
    pub(super) owner: Option<Owner>,
    /// Step 3: common networks.
    pub(super) shared: Vec<String>,
    /// Step 5; `None` if unknown.
    pub(super) listening: Option<Vec<Listening>>,
    /// Steps 4 and 6: the connection from the client.
    pub(super) reached: Option<ConnectResult>,
    /// Step 7: the same connection from the host, and inside the target to its loopback and its own address.
    pub(super) from_host: Option<ConnectResult>,
    pub(super) inside_loopback: Option<ConnectResult>,
    pub(super) inside_own: Option<ConnectResult>,
    /// Step 8.
    pub(super) answered: Option<ScrapeResult>,
    /// The unit or process of this host that needs it; `None` for a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer: Option<Object>,
    /// The variable may be unused, or its port is a guess.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) uncertain: bool,
    /// The address is from `/etc/hosts`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) hosts_file: bool,
    /// Containers with the name as alias in networks that the client is not in, each with the network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<(String, String)>,
    /// Running servers of the same product: `container db (port 5432)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) instead: Vec<String>,
    /// Objects of this host that would serve the port.
    #[serde(skip_serializing_if = "Providers::is_empty")]
    pub(super) providers: Providers,
}

/// The target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Aim {
    /// Full id of its container; empty for this host.
    pub(super) id: String,
    pub(super) name: String,
    /// State in the engine: `running`, `exited`, …
    pub(super) state: String,
    pub(super) up: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) networks: Vec<String>,
}

/// The owner of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub(super) enum Owner {
    /// The target.
    Meant,
    /// Another container.
    Other(String),
    /// No owner on this host.
    Nobody,
}

/// The failing step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// 0 before the first step: the target is not running.
    pub(super) step: u8,
    pub(super) why: String,
}

impl Ladder {
    /// `b1:8080`.
    pub(super) fn endpoint(&self) -> String {
        join(&self.host, self.port)
    }

    fn name(&self) -> &str {
        self.target.as_ref().map_or(self.host.as_str(), |t| t.name.as_str())
    }

    /// Listeners on the port.
    fn on_port(&self) -> Option<Vec<&Listening>> {
        self.listening.as_ref().map(|all| all.iter().filter(|l| l.port == self.port).collect())
    }

    /// Whether the port has no known listener.
    pub(super) fn is_silent(&self) -> bool {
        self.on_port().is_some_and(|on| on.is_empty())
    }

    /// The first failing step; `None` if all pass, or if unknown.
    pub(super) fn stop(&self) -> Option<Stop> {
        let at = |step, why: String| Some(Stop { step, why });
        let name = self.name();
        if let Some(target) = self.target.as_ref().filter(|t| !t.up) {
            return at(0, format!("{name} is not running: state {}", target.state));
        }
        match self.looked.as_ref()? {
            Lookup::Up(_) => {}
            _ if self.no_network() => return at(1, format!("its name does not resolve there: {}", self.apart())),
            Lookup::NoSuchName => return at(1, format!("{} does not exist in DNS", self.host)),
            // whether the name exists is not known
            Lookup::NoAnswer(_) if self.target.is_none() => return None,
            Lookup::NoAnswer(why) => return at(1, format!("no DNS server returns the address of {}: {why}", self.host)),
        }
        let address = self.address?;
        let from = if self.hosts_file { " (from its /etc/hosts)" } else { "" };
        match self.owner.as_ref()? {
            Owner::Meant => {}
            Owner::Other(other) => return at(2, format!("{address}{from} now belongs to {other}, not to {name}")),
            Owner::Nobody => {
                return at(2, format!("{address}{from} belongs to no container on this host, not to {name} either"));
            }
        }
        let reached = self.reached.as_ref()?;
        if *reached != ConnectResult::Connected {
            if self.no_network() {
                return at(3, self.apart());
            }
            if let ConnectResult::NoRoute(why) = reached {
                return at(4, format!("no route to {address}: {why}"));
            }
            if let Some(on) = self.on_port() {
                if on.is_empty() {
                    return at(
                        5,
                        format!("{}has no listener on port {}{}", self.listener_of(address), self.port, self.elsewhere_open()),
                    );
                }
                if on.iter().all(|l| l.address.is_loopback()) {
                    return at(5, format!("it listens on {} only", listeners(&on)));
                }
                if on.iter().all(|l| !l.address.is_unspecified() && l.address != address) {
                    return at(5, format!("it listens on {} only, but the client connects to {address}", on_addresses(&on)));
                }
            }
            let diagnosis = self.diagnosis();
            let more = if diagnosis.is_empty() { diagnosis } else { format!("; {diagnosis}") };
            return at(6, format!("{}{more}", reached.words()));
        }
        let error = match &self.how {
            Some(DependencySource::Scrape { error, .. }) => error.as_str(),
            _ => "",
        };
        let Some(answered) = &self.answered else {
            // HTTPS targets are not requested: their clients may have certificates that opsctl lacks
            let secured = matches!(&self.how, Some(DependencySource::Scrape { url, health: Health::Down, .. }) if url.starts_with("https:"));
            return if secured && !error.is_empty() { at(8, format!("Prometheus reports: {error}")) } else { None };
        };
        match answered {
            // Prometheus may have credentials that opsctl lacks
            ScrapeResult::Status(401 | 403, _) if !error.contains("40") => None,
            ScrapeResult::Status(status, _) if !(200..300).contains(status) => at(8, format!("it returns status {status}")),
            ScrapeResult::Status(_, true) => at(8, "it returns a web page instead of metrics".to_owned()),
            ScrapeResult::Status(..) if is_content_error(error) => {
                at(8, format!("the client cannot parse the response: {error}"))
            }
            ScrapeResult::Status(..) => None,
            ScrapeResult::Timeout => at(8, "it accepts the connection, but does not respond within 3 s".to_owned()),
            ScrapeResult::Closed => at(8, "it accepts the connection and closes it without a response".to_owned()),
            ScrapeResult::NotHttp => at(8, "its response is not HTTP".to_owned()),
        }
    }

    /// The container or host of an address, which is the client itself for a loopback address in a container.
    fn listener_of(&self, address: IpAddr) -> String {
        let is_container = self.target.as_ref().is_some_and(|t| !t.id.is_empty());
        if address.is_loopback() && is_container && !self.on_host {
            format!("{} is the container itself, which ", self.host)
        } else {
            format!("{} ", self.name())
        }
    }

    /// `; the same product listens in container db (port 5432)`.
    fn elsewhere_open(&self) -> String {
        if self.instead.is_empty() {
            return String::new();
        }
        format!("; a server of the same product runs: {}", self.instead.join(", "))
    }

    /// Whether client and target have no common network.
    fn no_network(&self) -> bool {
        self.target.as_ref().is_some_and(|t| !t.id.is_empty()) && !self.on_host && self.shared.is_empty()
    }

    fn apart(&self) -> String {
        let target_networks = self.target.as_ref().map(|t| t.networks.join(", ")).filter(|n| !n.is_empty());
        let client_networks = if self.networks.is_empty() { "none".to_owned() } else { self.networks.join(", ") };
        format!(
            "they share no network: {} is in {}, the client in {client_networks}",
            self.name(),
            target_networks.unwrap_or_else(|| "none".to_owned())
        )
    }

    /// Conclusion from the same connection from elsewhere.
    fn diagnosis(&self) -> String {
        let connected = |r: &Option<ConnectResult>| *r == Some(ConnectResult::Connected);
        let (own, lo, host) = (connected(&self.inside_own), connected(&self.inside_loopback), connected(&self.from_host));
        let name = self.name();
        match self.reached.as_ref() {
            Some(ConnectResult::Refused) if own => {
                format!("it answers inside {name}: a firewall between them rejects the connection")
            }
            Some(ConnectResult::Refused) if lo => format!("it answers on the loopback of {name} only"),
            // no connection from elsewhere was made
            _ if self.inside_own.is_none() && self.inside_loopback.is_none() => String::new(),
            Some(ConnectResult::Refused) => "it is refused everywhere".to_owned(),
            _ if own && host => {
                format!("it answers inside {name} and from the host: a firewall or network isolation separates them")
            }
            _ if own => format!("it answers inside {name}: a firewall or network isolation separates them"),
            _ if lo => format!("it answers on the loopback of {name}, but not on its own address"),
            _ => {
                format!("it does not answer inside {name} either: it does not accept connections, or a firewall in it drops them")
            }
        }
    }

    /// The observations up to the failing step: number with title, and observation.
    pub(super) fn seen(&self) -> Vec<(&'static str, String)> {
        let stop = self.stop();
        let last = stop.as_ref().map_or(STEPS, |s| s.step);
        let mut seen = Vec::new();
        let mut pass = |n: u8, title: &'static str, words: String| {
            if n < last && !words.is_empty() {
                seen.push((title, words));
            }
        };
        let address = self.address.map(|a| a.to_string()).unwrap_or_default();
        let name = self.name();
        pass(1, "1 name", if address.is_empty() { String::new() } else { format!("{} resolves to {address}", self.host) });
        pass(2, "2 address", if address.is_empty() { String::new() } else { format!("{address} is {name}") });
        pass(3, "3 network", if self.on_host { "network of the host".to_owned() } else { self.shared.join(", ") });
        pass(4, "4 route", self.reached.as_ref().map(|_| "exists".to_owned()).unwrap_or_default());
        pass(5, "5 listener", self.on_port().map(|on| listeners(&on)).unwrap_or_default());
        pass(6, "6 connection", self.reached.as_ref().map(ConnectResult::words).unwrap_or_default());
        if let Some(stop) = stop.filter(|s| s.step > 0) {
            seen.push((TITLES[usize::from(stop.step) - 1], stop.why));
        }
        seen
    }

    /// The same connection from elsewhere.
    pub(super) fn elsewhere(&self) -> String {
        let name = self.name();
        let tried = [
            ("from it".to_owned(), &self.reached),
            ("from this host".to_owned(), &self.from_host),
            (format!("inside {name} to its own address"), &self.inside_own),
            (format!("inside {name} to 127.0.0.1"), &self.inside_loopback),
        ];
        let words = tried.into_iter().filter_map(|(origin, r)| Some(format!("{origin}: {}", r.as_ref()?.words())));
        words.collect::<Vec<_>>().join(", ")
    }
}

const TITLES: [&str; STEPS as usize] =
    ["1 name", "2 address", "3 network", "4 route", "5 listener", "6 connection", "7 elsewhere", "8 answer"];

/// Whether Prometheus received a response that it cannot parse.
fn is_content_error(error: &str) -> bool {
    ["expected", "invalid", "unsupported", "Content-Type", "parse", "duplicate"].iter().any(|w| error.contains(w))
}

fn listeners(on: &[&Listening]) -> String {
    on.iter().map(|l| l.socket_address()).collect::<Vec<_>>().join(" and ")
}

fn on_addresses(on: &[&Listening]) -> String {
    on.iter().map(|l| l.address.to_string()).collect::<Vec<_>>().join(" and ")
}
