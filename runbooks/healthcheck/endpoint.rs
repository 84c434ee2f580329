//! Responses of the configured endpoints, compared with their expectations: an error page with status 200 is a failure, and a
//! failing frontend does not prove a broken backend.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::address::{Address, join};
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, EndpointRef, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Product, Role,
    Severity,
};
use opsctl_core::probe::endpoint;
use opsctl_core::probe::endpoint::{Endpoint, EndpointResult};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::http::HTTP;
use super::tcp::TCP;
use crate::shared::dependencies::{NEEDED_SERVERS, STARVED};
use crate::shared::needed_servers::{needs_of, tied_to_needs};
use crate::shared::nginx_context::upstreams_of;
use crate::shared::processes::of_host;
use crate::tls::served_key;

const CONTENT: Code = Code {
    id: "healthcheck.content",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a configured endpoint returns a success status with unexpected content: an error page with status 200, another service (crit in 2 of 3 tries, warn in 1)",
    hint: "read the response body, and check the upstreams and dependencies of the endpoint",
    depends_on: &[&[DependsOn::likely(Role::PacketsDropped, KeyKind::Address, "")], NEEDED_SERVERS],
    ..Code::BASE
};

const SLOW: Code = Code {
    id: "healthcheck.slow",
    severities: &[Severity::Warn],
    when: "a configured endpoint takes longer than its `latency_ms`, three times",
    hint: "check CPU, memory and database of the service",
    depends_on: &[
        STARVED,
        &[
            DependsOn::likely(Role::PacketsDropped, KeyKind::Address, ""),
            DependsOn::likely(Role::Exhausted, KeyKind::Server, "the application's"),
        ],
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "healthcheck.endpoint",
    title: "configured endpoints respond as expected",
    codes: &[HTTP, CONTENT, SLOW, TCP],
    fixes: &[],
    // three tries of an endpoint that times out
    timeout: Duration::from_secs(9),
};

/// Number of tries, the first included.
const TRIES: usize = 3;
/// Delay between two tries.
const RETRY_DELAY: Duration = Duration::from_millis(150);
/// Time limit of one response, so that three tries end before the run.
const MAX_RESPONSE_TIME: Duration = Duration::from_millis(2500);

pub(super) struct Endpoints {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    endpoint: Option<EndpointRef>,
    from: Option<String>,
    latency_ms: Option<u64>,
    tries: Vec<EndpointResult>,
    /// Results of the other endpoints by `proves`: `(proves, passed, total)`. Only if this endpoint fails.
    others: Vec<(String, usize, usize)>,
    /// The nginx that serves it, by its name or port, and the databases, caches and brokers behind that.
    servers: Vec<String>,
    /// The container that publishes its port.
    container: Option<String>,
    /// The units that serve its port, for an endpoint on this host.
    units: Vec<String>,
    /// `from` is a container that does not run.
    nowhere: Option<String>,
}

impl Check for Endpoints {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let target = |e: &EndpointRef| Object::new(Kind::Endpoint, e.url.clone(), e.id.clone());
        inventory.endpoints.iter().map(target).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let known = cx
            .endpoints()
            .iter()
            .find(|e| e.id == target.id)
            .ok_or_else(|| ProbeError::Skip("no longer in the configuration".to_owned()))?;
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
                tokio::time::sleep(RETRY_DELAY).await;
            }
            let outcome = if n == 0 { self.first(cx, known).await? } else { self.request(cx, known).await? };
            let done = outcome.is_right() && !is_slow(&outcome, known.latency_ms) && n == 0;
            e.tries.push(outcome);
            if done {
                return Ok(e);
            }
        }
        e.others = self.others(cx, known).await;
        (e.servers, e.container) = behind(cx, known).await;
        if e.container.is_none() && e.from.is_none() {
            e.units = cx.units_of(&known.host, known.port).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let url = &judged.target.name;
        if let Some(name) = &e.nowhere {
            return Judgement {
                gaps: vec![format!("{url} is to be requested from {name}, which is not running")],
                ..Judgement::default()
            };
        }
        let proves = e.endpoint.as_ref().and_then(|r| r.proves.clone());
        let wrong: Vec<&EndpointResult> = e.tries.iter().filter(|t| !t.is_right()).collect();
        let finding = |code, severity, message: String| {
            let subject = Object::new(Kind::Endpoint, url.clone(), judged.target.id.clone());
            let mut f = Finding::new(code, severity, subject, message);
            if let Some(at) = authority(url) {
                f = f.key(KeyKind::Address, at);
            }
            let by_needs = proves_needs(code, e);
            // the nginx that serves it can cause any failure
            f = tied_to_needs(f, e.servers.iter().filter(|id| by_needs || id.starts_with("nginx:")));
            if let Some(id) = &e.container {
                f = f.key(KeyKind::Container, id);
            }
            f = e.units.iter().fold(f, |f, unit| f.key(KeyKind::Unit, unit));
            f.cite("requested from", e.from.as_deref().unwrap_or(""))
        };
        let Some(last) = wrong.last() else {
            let slow: Vec<u64> = e.tries.iter().filter(|t| is_slow(t, e.latency_ms)).filter_map(took).collect();
            let (Some(limit), Some(fastest)) = (e.latency_ms, slow.iter().min()) else { return Judgement::default() };
            if slow.len() < e.tries.len() {
                return Judgement::default();
            }
            let message = format!("{url} takes {fastest} ms to respond, limit {limit} ms");
            return vec![of_host(finding(&SLOW, Severity::Warn, message))].into();
        };
        let client_error = |t: &&EndpointResult| matches!(t, EndpointResult::Answered { status: 400..=499, .. });
        let severity = match wrong.len() {
            _ if e.tries.iter().all(|t| client_error(&t)) => Severity::Warn,
            n if n >= 2 => Severity::Crit,
            _ => Severity::Warn,
        };
        let content = matches!(last, EndpointResult::Answered { status: 200..=399, .. });
        let code = match last {
            EndpointResult::Answered { .. } if content => &CONTENT,
            _ if url.starts_with("tcp:") => &TCP,
            _ => &HTTP,
        };
        let scope = proves.as_ref().map_or_else(String::new, |p| format!(" ({p})"));
        let message =
            format!("{url}{scope} does not respond as expected: {} in {} of {} tries", words(last), wrong.len(), e.tries.len());
        let mut f = finding(code, severity, message);
        match last {
            EndpointResult::Answered { body, location, .. } => {
                f = f.cite("body", body.trim()).cite_opt("redirects to", location.as_ref());
            }
            EndpointResult::Tls(_) => {
                f = authority(url).into_iter().fold(f, |f, at| f.key(KeyKind::Certificate, served_key(&at)));
            }
            // a shortage of the host causes timeouts, not refusals
            EndpointResult::Timeout if e.container.is_some() || !e.servers.is_empty() || e.from.is_some() => f = of_host(f),
            _ => {}
        }
        if let Some(comparison) = compared(proves.as_deref(), &e.others) {
            f = f.cite("others", comparison);
        }
        vec![f].into()
    }
}

impl Endpoints {
    async fn request(&self, cx: &ProbeCx, e: &Endpoint) -> Result<EndpointResult, ProbeError> {
        let (connect, response) = self.timeouts();
        Box::pin(endpoint::request(cx, e, connect, response)).await
    }

    /// The first response of this run, shared with the comparison of the other endpoints.
    async fn first(&self, cx: &ProbeCx, e: &Endpoint) -> Result<EndpointResult, ProbeError> {
        let (connect, response) = self.timeouts();
        Box::pin(endpoint::first(cx, e, connect, response)).await
    }

    fn timeouts(&self) -> (Duration, Duration) {
        let response = Duration::from_millis(self.settings.http_timeout_ms).min(MAX_RESPONSE_TIME);
        (Duration::from_millis(self.settings.connect_timeout_ms), response)
    }

    /// Results of the other endpoints by `proves`.
    async fn others(&self, cx: &ProbeCx, this: &Endpoint) -> Vec<(String, usize, usize)> {
        let others = cx.endpoints().iter().filter(|e| e.id != this.id && e.proves.is_some() && e.is_queried());
        let results =
            join_all(others.map(|e| async move { (e.proves.clone().unwrap_or_default(), self.first(cx, e).await) })).await;
        let mut groups: Vec<(String, usize, usize)> = Vec::new();
        for (proves, result) in results {
            let right = usize::from(result.is_ok_and(|a| a.is_right()));
            match groups.iter_mut().find(|(p, ..)| *p == proves) {
                Some((_, r, n)) => (*r, *n) = (*r + right, *n + 1),
                None => groups.push((proves, right, 1)),
            }
        }
        groups
    }
}

/// The nginx that serves an endpoint, and the container that publishes its port on this host.
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
        let target = s.object();
        let Ok(nginx) = cx.nginx(&target) else { continue };
        let named = nginx.config.sites.iter().any(|site| site.names.contains(&e.host));
        let listens = local && s.container.is_none() && nginx.config.listens.iter().any(|l| l.port == e.port);
        if named || listens || (s.container.is_some() && s.container == published) {
            servers.push(s.id.clone());
            servers.extend(upstreams_of(cx, s, &nginx).await.into_iter().flat_map(|b| b.needs));
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

/// `host:port` of a URL, with the default port of its scheme if it has none.
fn authority(url: &str) -> Option<String> {
    let address = Address::parse(url);
    address.scheme?;
    Some(join(address.host(), address.port_or_known_default()?))
}

fn took(outcome: &EndpointResult) -> Option<u64> {
    match outcome {
        EndpointResult::Answered { took_ms, .. } | EndpointResult::Connected { took_ms } => Some(*took_ms),
        _ => None,
    }
}

fn is_slow(outcome: &EndpointResult, limit: Option<u64>) -> bool {
    matches!((took(outcome), limit), (Some(took), Some(limit)) if took > limit)
}

fn words(outcome: &EndpointResult) -> String {
    match outcome {
        EndpointResult::Answered { wrong: Some(wrong), .. } => wrong.clone(),
        EndpointResult::Answered { status, .. } => format!("status {status}"),
        EndpointResult::Connected { .. } => "connected".to_owned(),
        EndpointResult::Refused => "connection refused".to_owned(),
        EndpointResult::Timeout => "timed out".to_owned(),
        EndpointResult::Closed => "connection closed without a response".to_owned(),
        EndpointResult::NotHttp => "a response that is not HTTP".to_owned(),
        EndpointResult::Tls(why) => format!("TLS handshake failed: {why}"),
        EndpointResult::Unreachable(why) => why.clone(),
    }
}

/// Whether a fault of a database can cause this: a rejected connection or a status below 500 is not its fault.
fn proves_needs(code: &Code, e: &Evidence) -> bool {
    let by_needs = |t: &EndpointResult| matches!(t, EndpointResult::Timeout | EndpointResult::Answered { status: 500.., .. });
    ![HTTP.id, TCP.id].contains(&code.id) || e.tries.iter().any(by_needs)
}

/// Summary of the other endpoints, which narrows down the failure.
fn compared(proves: Option<&str>, others: &[(String, usize, usize)]) -> Option<String> {
    if others.is_empty() {
        return None;
    }
    let all: Vec<String> = others
        .iter()
        .map(|(p, right, n)| match (*right, *n) {
            (r, n) if r == n => format!("{p}: passing"),
            (0, _) => format!("{p}: failing too"),
            (r, n) => format!("{p}: {r} of {n} passing"),
        })
        .collect();
    let elsewhere = others.iter().filter(|(p, ..)| Some(p.as_str()) != proves);
    let well = elsewhere.clone().count() > 0 && elsewhere.clone().all(|(_, right, n)| right == n);
    let note = if well { "; only this endpoint fails" } else { "" };
    Some(format!("{}{note}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_of_url_has_port() {
        let at = |url| authority(url).unwrap_or_default();
        assert_eq!(at("https://shop.example.org/health"), "shop.example.org:443");
        assert_eq!(
            (at("http://b1:8080/x"), at("http://[::1]/"), at("tcp://db:5432")),
            ("b1:8080".into(), "[::1]:80".into(), "db:5432".into())
        );
        assert_eq!((at("tcp://db"), at("nonsense")), (String::new(), String::new()));
        assert_eq!((at("https://[fd00::2]:8443/x"), at("postgres://db")), ("[fd00::2]:8443".into(), "db:5432".into()));
    }

    #[test]
    fn comparison_groups_other_endpoints_by_proves() {
        let others = |list: &[(&str, usize, usize)]| list.iter().map(|(p, r, n)| ((*p).to_owned(), *r, *n)).collect::<Vec<_>>();
        assert_eq!(compared(None, &[]), None);
        let summary = compared(Some("frontend only"), &others(&[("deep health", 1, 1)]));
        assert_eq!(summary.as_deref(), Some("deep health: passing; only this endpoint fails"));
        let summary = compared(Some("frontend only"), &others(&[("deep health", 0, 2), ("frontend only", 1, 2)]));
        assert_eq!(summary.as_deref(), Some("deep health: failing too, frontend only: 1 of 2 passing"));
    }
}
