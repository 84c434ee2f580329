//! What the Prometheus servers of this host scrape, asked from where they are. Alloy and the agent have no such list.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::places;
use crate::probe::home::Home;
use crate::probe::http::{self, NoAnswer};
use crate::probe::netns::{self, NoConnection};
use crate::probe::{ProbeError, blocking};

/// A list of thousands of targets is longer, in bytes.
const KEEP: usize = 8 << 20;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What a Prometheus says of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
    /// It has not been scraped yet.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A Prometheus that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) pid: i32,
    pub(super) home: Home,
    address: SocketAddr,
    /// `--web.route-prefix`, with a slash in front and none behind.
    prefix: String,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scraped {
    pub(super) url: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) health: Health,
    pub(super) error: String,
}

/// The Prometheus servers that run here, by their processes.
pub(super) async fn running() -> Result<Vec<Server>, ProbeError> {
    blocking::run("processes", "/proc", Duration::from_secs(2), || {
        let processes = fs::read_dir("/proc").map_err(|e| ProbeError::io("processes", "/proc", &e))?;
        let mut found: Vec<Server> =
            processes.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).filter_map(server).collect();
        found.sort_by_key(|s| s.pid);
        Ok(found)
    })
    .await?
}

fn server(pid: i32) -> Option<Server> {
    if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != "prometheus" {
        return None;
    }
    let arguments = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).into_owned();
    let (address, prefix) = web_of(&arguments)?;
    let home = fs::read_to_string(format!("/proc/{pid}/cgroup")).map(|t| Home::of_cgroups(&t)).unwrap_or_default();
    Some(Server { pid, home, address, prefix })
}

/// Where it listens and below which path, from its arguments (separated by NUL); none for an agent, which has no list of targets.
fn web_of(arguments: &str) -> Option<(SocketAddr, String)> {
    let words: Vec<&str> = arguments.split('\0').collect();
    let value = |flag: &str| {
        words.iter().enumerate().find_map(|(i, w)| {
            let rest = w.trim_start_matches('-').strip_prefix(flag)?;
            rest.strip_prefix('=').or_else(|| if rest.is_empty() { words.get(i + 1).copied() } else { None })
        })
    };
    if value("enable-feature").is_some_and(|f| f.split(',').any(|f| f == "agent")) {
        return None;
    }
    let listen = value("web.listen-address").unwrap_or(":9090");
    let (host, port) = listen.rsplit_once(':')?;
    let ip: IpAddr = host.trim_matches(['[', ']']).parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
    let external = value("web.external-url").and_then(places::url).map(|u| u.path);
    let prefix = value("web.route-prefix").map(str::to_owned).or(external).unwrap_or_default();
    let prefix = prefix.trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    Some((SocketAddr::new(ip, port.parse().ok()?), prefix))
}

/// Its active targets; the error says why it did not tell.
pub(super) async fn targets(server: &Server) -> Result<Vec<Scraped>, String> {
    let what = "the targets of Prometheus";
    let connected = netns::connect_as(Some(server.pid), server.address, Duration::from_secs(1)).await;
    let stream = connected.map_err(|e| format!("{what}: {e}"))?.map_err(|e| match e {
        NoConnection::Refused => format!("{what}: {} refuses connections", server.address),
        NoConnection::Timeout => format!("{what}: {} does not answer", server.address),
        NoConnection::Other(why) => format!("{what}: {}: {why}", server.address),
    })?;
    let path = format!("{}/api/v1/targets?state=active", server.prefix);
    let answer = http::get(stream, &server.address.to_string(), &path, KEEP, ANSWER).await.map_err(|e| match e {
        NoAnswer::Timeout => format!("{what}: no answer in {} s", ANSWER.as_secs()),
        NoAnswer::Closed(_) => format!("{what}: it closed the connection without an answer"),
        NoAnswer::NotHttp(_) => format!("{what}: its answer is not HTTP"),
    })?;
    match answer.status {
        200 if answer.truncated => Err(format!("{what}: the list is too long")),
        200 => parse(&answer.body).ok_or_else(|| format!("{what}: its answer is not a list of targets")),
        401 | 403 => Err(format!("{what}: it wants a login (status {})", answer.status)),
        status => Err(format!("{what}: status {status}")),
    }
}

/// The answer of `GET /api/v1/targets` (<https://prometheus.io/docs/prometheus/latest/querying/api/#targets>).
fn parse(body: &str) -> Option<Vec<Scraped>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Target {
        scrape_url: String,
        #[serde(default)]
        health: Health,
        #[serde(default)]
        last_error: String,
    }
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let active = json.pointer("/data/activeTargets")?.as_array()?;
    let scraped = |value: &serde_json::Value| {
        let target = Target::deserialize(value).ok()?;
        let url = places::url(&target.scrape_url)?;
        Some(Scraped {
            url: target.scrape_url.split(['?', '#']).next().map(without_login).unwrap_or_default(),
            host: url.place.host,
            port: url.place.port,
            path: url.path,
            health: target.health,
            error: without_url(&target.last_error),
        })
    };
    Some(active.iter().filter_map(scraped).collect())
}

fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[start..])
        }
        None => url.to_owned(),
    }
}

/// `Get "http://b1:8080/metrics?token=x": dial tcp 172.18.0.2:8080: connect: connection refused` without its URL, bounded.
fn without_url(error: &str) -> String {
    let said = error.strip_prefix("Get \"").and_then(|rest| rest.split_once("\": ")).map_or(error, |(_, said)| said);
    let words: Vec<&str> = said.split_whitespace().filter(|w| !w.contains("://")).collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn arguments_say_where_it_listens() {
        let web = |a: &str| web_of(a).map(|(address, prefix)| format!("{address}{prefix}"));
        assert_eq!(web("prometheus\0--config.file=/x\0").as_deref(), Some("127.0.0.1:9090"));
        assert_eq!(web("prometheus\0--web.listen-address=0.0.0.0:9999\0").as_deref(), Some("127.0.0.1:9999"));
        assert_eq!(
            web("prometheus\0--web.listen-address\x0010.0.0.1:9091\0--web.external-url=https://a/prom/\0").as_deref(),
            Some("10.0.0.1:9091/prom")
        );
        assert_eq!(
            web("prometheus\0--web.external-url=https://a/prom/\0--web.route-prefix=/\0").as_deref(),
            Some("127.0.0.1:9090")
        );
        assert_eq!(web("prometheus\0--enable-feature=agent\0"), None);
    }

    #[test]
    fn a_list_of_targets_is_read_without_what_is_secret() {
        let body = r#"{"status":"success","data":{"activeTargets":[
            {"scrapeUrl":"http://u:canary@b1:8080/metrics?token=canary","health":"down",
             "lastError":"Get \"http://b1:8080/metrics?token=canary\": dial tcp 172.18.0.2:8080: connect: connection refused"},
            {"scrapeUrl":"https://x.test/metrics","health":"odd"},{"no":"url"}]}}"#;
        let found = parse(body).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].url.as_str(), found[0].health), ("http://b1:8080/metrics", Health::Down));
        assert_eq!(found[0].error, "dial tcp 172.18.0.2:8080: connect: connection refused");
        assert_eq!((found[0].path.as_str(), found[0].port), ("/metrics?token=canary", 8080));
        assert_eq!((found[1].health, found[1].port), (Health::Unknown, 443));
        assert_eq!(parse("<html>"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".*") {
            let _ = (parse(&text), web_of(&text), without_url(&text), without_login(&text));
        }
    }
}
