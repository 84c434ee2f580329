//! The ladder from a consumer to what it needs: what was seen on every step, and on which one it stops.

use std::net::IpAddr;

use jiff::Timestamp;
use opsctl_core::probe::names::Looked;
use opsctl_core::probe::needs::{Answered, Health, How, Listening, Reached};
use serde::{Deserialize, Serialize};

/// How many steps there are. What comes after them, larger packets, is the mtu runbook's.
pub(super) const STEPS: u8 = 8;

/// What was seen on the way from a consumer to one port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ladder {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) how: Option<How>,
    /// The consumer is on the host's own network.
    pub(super) on_host: bool,
    /// Networks of the consumer.
    pub(super) networks: Vec<String>,
    pub(super) target: Option<Aim>,
    /// Step 1.
    pub(super) looked: Option<Looked>,
    /// The address that was tried.
    pub(super) address: Option<IpAddr>,
    /// Step 2.
    pub(super) owner: Option<Owner>,
    /// Step 3: networks that both are in.
    pub(super) shared: Vec<String>,
    /// Step 5; none when that could not be seen.
    pub(super) listening: Option<Vec<Listening>>,
    /// Steps 4 and 6: the connection from the consumer.
    pub(super) reached: Option<Reached>,
    /// Step 7: the same from the host, and inside the target to its loopback and its own address.
    pub(super) from_host: Option<Reached>,
    pub(super) inside_loopback: Option<Reached>,
    pub(super) inside_own: Option<Reached>,
    /// Step 8.
    pub(super) answered: Option<Answered>,
}

/// What is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Aim {
    /// Full id of its container; empty for this host.
    pub(super) id: String,
    pub(super) name: String,
    /// As the engine has it: `running`, `exited`, …
    pub(super) state: String,
    pub(super) up: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) networks: Vec<String>,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub(super) enum Owner {
    /// Who is meant.
    Meant,
    /// Another container.
    Other(String),
    /// Nobody on this host.
    Nobody,
}

/// Where a ladder stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// 0 before the first step: what is meant does not run.
    pub(super) step: u8,
    pub(super) why: String,
}

impl Ladder {
    /// `b1:8080`.
    pub(super) fn place(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    fn name(&self) -> &str {
        self.target.as_ref().map_or(self.host.as_str(), |t| t.name.as_str())
    }

    /// Those that listen on the port.
    fn on_port(&self) -> Option<Vec<&Listening>> {
        self.listening.as_ref().map(|all| all.iter().filter(|l| l.port == self.port).collect())
    }

    /// Nobody is known to listen on the port.
    pub(super) fn is_silent(&self) -> bool {
        self.on_port().is_some_and(|on| on.is_empty())
    }

    /// The first step that fails; none when it works, or when it cannot be told.
    pub(super) fn stop(&self) -> Option<Stop> {
        let at = |step, why: String| Some(Stop { step, why });
        let name = self.name();
        if let Some(target) = self.target.as_ref().filter(|t| !t.up) {
            return at(0, format!("{name} does not run: it is {}", target.state));
        }
        match self.looked.as_ref()? {
            Looked::Up(_) => {}
            _ if self.no_network() => return at(1, format!("its name means nothing there: {}", self.apart())),
            Looked::NoSuchName => return at(1, format!("there is no name {}", self.host)),
            // whether there is such a name is not known
            Looked::NoAnswer(_) if self.target.is_none() => return None,
            Looked::NoAnswer(why) => return at(1, format!("no name server tells it the address of {}: {why}", self.host)),
        }
        let address = self.address?;
        match self.owner.as_ref()? {
            Owner::Meant => {}
            Owner::Other(other) => return at(2, format!("{address} belongs to {other} now, not to {name}")),
            Owner::Nobody => return at(2, format!("{address} belongs to no container here, and not to {name}")),
        }
        let reached = self.reached.as_ref()?;
        if *reached != Reached::Connected {
            if self.no_network() {
                return at(3, self.apart());
            }
            if let Reached::NoRoute(why) = reached {
                return at(4, format!("it has no route to {address}: {why}"));
            }
            if let Some(on) = self.on_port() {
                if on.is_empty() {
                    return at(5, format!("nothing in {name} listens on port {}", self.port));
                }
                if on.iter().all(|l| l.address.is_loopback()) {
                    return at(5, format!("it listens on {} only", places(&on)));
                }
                if on.iter().all(|l| !l.address.is_unspecified() && l.address != address) {
                    return at(5, format!("it listens on {} only, and {address} is asked", on_addresses(&on)));
                }
            }
            let diagnosis = self.diagnosis();
            let more = if diagnosis.is_empty() { diagnosis } else { format!("; {diagnosis}") };
            return at(6, format!("{}{more}", reached.words()));
        }
        let error = match &self.how {
            Some(How::Scrape { error, .. }) => error.as_str(),
            _ => "",
        };
        let Some(answered) = &self.answered else {
            // what is secured is not asked: its clients may have certificates that we do not have
            let secured = matches!(&self.how, Some(How::Scrape { url, health: Health::Down, .. }) if url.starts_with("https:"));
            return if secured && !error.is_empty() { at(8, format!("Prometheus says: {error}")) } else { None };
        };
        match answered {
            // who scrapes may have a login that we do not have
            Answered::Status(401 | 403, _) if !error.contains("40") => None,
            Answered::Status(status, _) if !(200..300).contains(status) => at(8, format!("it answers with status {status}")),
            Answered::Status(_, true) => at(8, "it answers with a page for people instead of metrics".to_owned()),
            Answered::Status(..) if speaks_of_content(error) => at(8, format!("it does not understand the answer: {error}")),
            Answered::Status(..) => None,
            Answered::Timeout => at(8, "it takes the connection and does not answer in 3 s".to_owned()),
            Answered::Closed => at(8, "it takes the connection and closes it without an answer".to_owned()),
            Answered::NotHttp => at(8, "its answer is not HTTP".to_owned()),
        }
    }

    /// They can have no network in common: both are in some of their own.
    fn no_network(&self) -> bool {
        self.target.as_ref().is_some_and(|t| !t.id.is_empty()) && !self.on_host && self.shared.is_empty()
    }

    fn apart(&self) -> String {
        let theirs = self.target.as_ref().map(|t| t.networks.join(", ")).filter(|n| !n.is_empty());
        let mine = if self.networks.is_empty() { "none".to_owned() } else { self.networks.join(", ") };
        format!("they share no network: {} is in {}, it is in {mine}", self.name(), theirs.unwrap_or_else(|| "none".to_owned()))
    }

    /// What the same connection from elsewhere says.
    fn diagnosis(&self) -> String {
        let connected = |r: &Option<Reached>| *r == Some(Reached::Connected);
        let (own, lo, host) = (connected(&self.inside_own), connected(&self.inside_loopback), connected(&self.from_host));
        let name = self.name();
        match self.reached.as_ref() {
            Some(Reached::Refused) if own => format!("it answers inside {name}: a firewall between them says no"),
            Some(Reached::Refused) if lo => format!("it answers on the loopback of {name} only"),
            // nothing was tried from elsewhere
            _ if self.inside_own.is_none() && self.inside_loopback.is_none() => String::new(),
            Some(Reached::Refused) => "it is refused everywhere".to_owned(),
            _ if own && host => format!("it answers inside {name} and from the host: a firewall or isolation keeps them apart"),
            _ if own => format!("it answers inside {name}: a firewall or isolation keeps them apart"),
            _ if lo => format!("it answers on the loopback of {name}, and its own address does not"),
            _ => format!("it does not answer inside {name} either: it takes no connections, or a firewall in it drops them"),
        }
    }

    /// What was seen, step by step, up to where it stops: number with title, and what was seen.
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
        pass(1, "1 name", if address.is_empty() { String::new() } else { format!("{} is {address} there", self.host) });
        pass(2, "2 address", if address.is_empty() { String::new() } else { format!("{address} is {name}") });
        pass(3, "3 network", if self.on_host { "it is on the host's own".to_owned() } else { self.shared.join(", ") });
        pass(4, "4 route", self.reached.as_ref().map(|_| "there is one".to_owned()).unwrap_or_default());
        pass(5, "5 listener", self.on_port().map(|on| places(&on)).unwrap_or_default());
        pass(6, "6 connection", self.reached.as_ref().map(Reached::words).unwrap_or_default());
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
        let words = tried.into_iter().filter_map(|(place, r)| Some(format!("{place}: {}", r.as_ref()?.words())));
        words.collect::<Vec<_>>().join(", ")
    }
}

const TITLES: [&str; STEPS as usize] =
    ["1 name", "2 address", "3 network", "4 route", "5 listener", "6 connection", "7 elsewhere", "8 answer"];

/// Prometheus could read the answer and not understand it.
fn speaks_of_content(error: &str) -> bool {
    ["expected", "invalid", "unsupported", "Content-Type", "parse", "duplicate"].iter().any(|w| error.contains(w))
}

fn places(on: &[&Listening]) -> String {
    on.iter().map(|l| l.place()).collect::<Vec<_>>().join(" and ")
}

fn on_addresses(on: &[&Listening]) -> String {
    on.iter().map(|l| l.address.to_string()).collect::<Vec<_>>().join(" and ")
}
