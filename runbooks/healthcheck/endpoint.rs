//! Do the addresses of the configuration answer as they should? And what does it prove that one does not: a page that says "not found"
//! with status 200 is no answer, and a frontend that fails is no broken backend.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, EndpointRef, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Product, Severity, Subject, Target,
};
use opsctl_core::probe::endpoint::{self, Asked, Endpoint};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::http::HTTP;
use super::tcp::TCP;
use crate::around_nginx::{behind_of, needs_of};
use crate::processes::of_host;
use crate::tls::served_key;

const CONTENT: Code = Code {
    id: "healthcheck.content",
    severities: &[Severity::Warn, Severity::Crit],
    when: "an address of the configuration answers with a good status and not with what it should: an error page with status 200, another service (crit in 2 of 3 tries, warn in 1)",
    hint: "look at what the page says, and at what it needs behind it",
};

const SLOW: Code = Code {
    id: "healthcheck.slow",
    severities: &[Severity::Warn],
    when: "an address of the configuration takes longer than its `latency_ms`, three times",
    hint: "look at CPU, memory and database of what answers",
};

static SPEC: CheckSpec = CheckSpec {
    id: "healthcheck.endpoint",
    title: "addresses of the configuration answer as they should",
    codes: &[HTTP, CONTENT, SLOW, TCP],
    fixes: &[],
    // three tries of one that does not answer
    timeout: Duration::from_secs(9),
};

/// Tries after a first failure.
const TRIES: usize = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(150);
/// How long one answer may take, so that three tries end before the run does.
const LONGEST: Duration = Duration::from_millis(2500);

pub(super) struct Endpoints {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    endpoint: Option<EndpointRef>,
    from: Option<String>,
    latency_ms: Option<u64>,
    tries: Vec<Asked>,
    /// How the others stand, by what they prove: right ones and all. Only when this one is not right.
    others: Vec<(String, usize, usize)>,
    /// The nginx that answers for it, by its name or its port, and the databases, caches and brokers behind it.
    servers: Vec<String>,
    /// The container that publishes its port.
    container: Option<String>,
    /// `from` is a container that does not run.
    nowhere: Option<String>,
}

impl Check for Endpoints {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        let target = |e: &EndpointRef| Target { kind: Kind::Endpoint, name: e.url.clone(), id: e.id.clone() };
        inventory.endpoints.iter().map(target).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let known = cx.endpoints.iter().find(|e| e.id == target.id).ok_or_else(|| ProbeError::Skip("it is gone".to_owned()))?;
        let mut e = Evidence {
            endpoint: cx.inventory.endpoints.iter().find(|r| r.id == target.id).cloned(),
            from: known.from.clone(),
            latency_ms: known.latency_ms,
            ..Evidence::default()
        };
        if let Some(name) = &known.from
            && cx.inventory.containers.iter().any(|c| c.name == *name && c.state != "running")
        {
            e.nowhere = Some(name.clone());
            return Ok(e);
        }
        for n in 0..TRIES {
            if n > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let asked = if n == 0 { self.first(cx, known).await? } else { self.ask(cx, known).await? };
            let done = asked.is_right() && !is_slow(&asked, known.latency_ms) && n == 0;
            e.tries.push(asked);
            if done {
                return Ok(e);
            }
        }
        e.others = self.others(cx, known).await;
        (e.servers, e.container) = behind(cx, known).await;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let url = &judged.target.name;
        if let Some(name) = &e.nowhere {
            return Judgement {
                gaps: vec![format!("{url} is to be asked from {name}, which does not run")],
                ..Judgement::default()
            };
        }
        let proves = e.endpoint.as_ref().and_then(|r| r.proves.clone());
        let wrong: Vec<&Asked> = e.tries.iter().filter(|t| !t.is_right()).collect();
        let finding = |code, severity, message: String| {
            let subject = Subject { kind: Kind::Endpoint, name: url.clone(), identity: judged.target.id.clone() };
            let mut f = Finding::new(code, severity, subject, message);
            if let Some(at) = authority(url) {
                f = f.key(KeyKind::Address, at);
            }
            for server in &e.servers {
                f = f.key(KeyKind::Server, server).key(KeyKind::Writes, server);
            }
            if let Some(id) = &e.container {
                f = f.key(KeyKind::Container, id);
            }
            f.cite("asked from", e.from.as_deref().unwrap_or(""))
        };
        let Some(last) = wrong.last() else {
            let slow: Vec<u64> = e.tries.iter().filter(|t| is_slow(t, e.latency_ms)).filter_map(took).collect();
            let (Some(limit), Some(fastest)) = (e.latency_ms, slow.iter().min()) else { return Judgement::default() };
            if slow.len() < e.tries.len() {
                return Judgement::default();
            }
            let message = format!("{url} takes {fastest} ms to answer, limit {limit} ms");
            return vec![of_host(finding(&SLOW, Severity::Warn, message))].into();
        };
        let client_error = |t: &&Asked| matches!(t, Asked::Answered { status: 400..=499, .. });
        let severity = match wrong.len() {
            _ if e.tries.iter().all(|t| client_error(&t)) => Severity::Warn,
            n if n >= 2 => Severity::Crit,
            _ => Severity::Warn,
        };
        let content = matches!(last, Asked::Answered { status: 200..=399, .. });
        let code = match last {
            Asked::Answered { .. } if content => &CONTENT,
            _ if url.starts_with("tcp:") => &TCP,
            _ => &HTTP,
        };
        let what = proves.as_ref().map_or_else(String::new, |p| format!(" ({p})"));
        let message =
            format!("{url}{what} does not answer as it should: {} in {} of {} tries", words(last), wrong.len(), e.tries.len());
        let mut f = finding(code, severity, message);
        match last {
            Asked::Answered { body, location, .. } => {
                f = f.cite("it says", body.trim()).cite_opt("leads to", location.as_ref());
            }
            Asked::Tls(_) => f = authority(url).into_iter().fold(f, |f, at| f.key(KeyKind::Certificate, served_key(&at))),
            // what is short for all keeps answers back; it refuses nothing
            Asked::Timeout if e.container.is_some() || !e.servers.is_empty() || e.from.is_some() => f = of_host(f),
            _ => {}
        }
        if let Some(said) = compared(proves.as_deref(), &e.others) {
            f = f.cite("others", said);
        }
        vec![f].into()
    }
}

impl Endpoints {
    async fn ask(&self, cx: &ProbeCx, e: &Endpoint) -> Result<Asked, ProbeError> {
        let (connect, answer) = self.patience();
        Box::pin(endpoint::ask(cx, e, connect, answer)).await
    }

    /// The first answer of this run, which the others are compared with too.
    async fn first(&self, cx: &ProbeCx, e: &Endpoint) -> Result<Asked, ProbeError> {
        let (connect, answer) = self.patience();
        Box::pin(endpoint::first(cx, e, connect, answer)).await
    }

    fn patience(&self) -> (Duration, Duration) {
        let answer = Duration::from_millis(self.settings.http_timeout_ms).min(LONGEST);
        (Duration::from_millis(self.settings.connect_timeout_ms), answer)
    }

    /// How the others stand, by what they prove.
    async fn others(&self, cx: &ProbeCx, this: &Endpoint) -> Vec<(String, usize, usize)> {
        let others = cx.endpoints.iter().filter(|e| e.id != this.id && e.proves.is_some() && e.is_asked());
        let asked =
            join_all(others.map(|e| async move { (e.proves.clone().unwrap_or_default(), self.first(cx, e).await) })).await;
        let mut groups: Vec<(String, usize, usize)> = Vec::new();
        for (proves, asked) in asked {
            let right = usize::from(asked.is_ok_and(|a| a.is_right()));
            match groups.iter_mut().find(|(p, ..)| *p == proves) {
                Some((_, r, n)) => (*r, *n) = (*r + right, *n + 1),
                None => groups.push((proves, right, 1)),
            }
        }
        groups
    }
}

/// The nginx that answers for an endpoint, and the container that publishes its port here.
async fn behind(cx: &ProbeCx, e: &Endpoint) -> (Vec<String>, Option<String>) {
    let local = e.host == "localhost" || e.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let mut servers: Vec<String> = Vec::new();
    let mut container = None;
    let mut published = None;
    for c in cx.inspected(&cx.inventory.containers).await {
        let by_address = c.networks.values().any(|ip| *ip == e.host && !ip.is_empty());
        if by_address || (local && c.ports.iter().any(|p| p.host == e.port)) {
            published = Some(c.id.clone());
        }
    }
    for s in cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx) {
        let target = Target { kind: Kind::Nginx, name: s.name.clone(), id: s.id.clone() };
        let Ok(nginx) = cx.nginx(&target) else { continue };
        let named = nginx.config.sites.iter().any(|site| site.names.contains(&e.host));
        let listens = local && s.container.is_none() && nginx.config.listens.iter().any(|l| l.port == e.port);
        if named || listens || (s.container.is_some() && s.container == published) {
            servers.push(s.id.clone());
            servers.extend(behind_of(cx, s, &nginx).await.into_iter().flat_map(|b| b.needs));
        }
    }
    if servers.is_empty() {
        if let (Some(docker), Some(id)) = (&cx.docker, &published) {
            servers = needs_of(cx, docker, id).await;
        }
        container = published;
    }
    (servers, container)
}

/// `host:port` of a URL, with the port of its scheme where it names none.
fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let host = rest.trim_start_matches('/').split('/').next()?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    match scheme {
        _ if has_port => Some(host.to_owned()),
        "https" => Some(format!("{host}:443")),
        "http" => Some(format!("{host}:80")),
        _ => None,
    }
}

fn took(asked: &Asked) -> Option<u64> {
    match asked {
        Asked::Answered { took_ms, .. } | Asked::Connected { took_ms } => Some(*took_ms),
        _ => None,
    }
}

fn is_slow(asked: &Asked, limit: Option<u64>) -> bool {
    matches!((took(asked), limit), (Some(took), Some(limit)) if took > limit)
}

fn words(asked: &Asked) -> String {
    match asked {
        Asked::Answered { wrong: Some(wrong), .. } => wrong.clone(),
        Asked::Answered { status, .. } => format!("status {status}"),
        Asked::Connected { .. } => "connected".to_owned(),
        Asked::Refused => "connection refused".to_owned(),
        Asked::Timeout => "no answer in time".to_owned(),
        Asked::Closed => "connection closed without an answer".to_owned(),
        Asked::NotHttp => "an answer that is not HTTP".to_owned(),
        Asked::Tls(why) => format!("no TLS: {why}"),
        Asked::Unreachable(why) => why.clone(),
    }
}

/// What the others say about what this failure means.
fn compared(proves: Option<&str>, others: &[(String, usize, usize)]) -> Option<String> {
    if others.is_empty() {
        return None;
    }
    let all: Vec<String> = others
        .iter()
        .map(|(p, right, n)| match (*right, *n) {
            (r, n) if r == n => format!("{p}: well"),
            (0, _) => format!("{p}: failing too"),
            (r, n) => format!("{p}: {r} of {n} well"),
        })
        .collect();
    let elsewhere = others.iter().filter(|(p, ..)| Some(p.as_str()) != proves);
    let well = elsewhere.clone().count() > 0 && elsewhere.clone().all(|(_, right, n)| right == n);
    let note = if well { "; this failure is about this one only" } else { "" };
    Some(format!("{}{note}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_url_has_a_port() {
        let at = |url| authority(url).unwrap_or_default();
        assert_eq!(at("https://shop.example.org/health"), "shop.example.org:443");
        assert_eq!(
            (at("http://b1:8080/x"), at("http://[::1]/"), at("tcp://db:5432")),
            ("b1:8080".into(), "[::1]:80".into(), "db:5432".into())
        );
        assert_eq!((at("tcp://db"), at("nonsense")), (String::new(), String::new()));
    }

    #[test]
    fn what_others_prove_is_said() {
        let others = |list: &[(&str, usize, usize)]| list.iter().map(|(p, r, n)| ((*p).to_owned(), *r, *n)).collect::<Vec<_>>();
        assert_eq!(compared(None, &[]), None);
        let said = compared(Some("frontend only"), &others(&[("deep health", 1, 1)]));
        assert_eq!(said.as_deref(), Some("deep health: well; this failure is about this one only"));
        let said = compared(Some("frontend only"), &others(&[("deep health", 0, 2), ("frontend only", 1, 2)]));
        assert_eq!(said.as_deref(), Some("deep health: failing too, frontend only: 1 of 2 well"));
    }
}
