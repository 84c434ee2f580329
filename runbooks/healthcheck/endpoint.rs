//! Responses of the configured endpoints, compared with their expectations: an error page with status 200 is a failure, and a
//! failing frontend does not prove a broken backend.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opsctl_core::model::address::{Address, join};
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, EndpointRef, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Product, Role,
    Severity, quantity,
};
use opsctl_core::probe::endpoint;
use opsctl_core::probe::endpoint::{Endpoint, EndpointResult};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::Settings;
use super::http::HTTP;
use super::tcp::TCP;
use super::walk::{Behind, Walk, walk};
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
    when: "a configured endpoint responds as expected, and takes longer than its `latency_ms`, by default {http_timeout_ms}, in every try",
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
    // `Endpoints::time_limit` ends it before the deadline of the run
    timeout: Duration::from_secs(600),
};

/// Number of tries, the first included.
const TRIES: usize = 3;
/// Delay between two tries.
const RETRY_DELAY: Duration = Duration::from_millis(150);
/// Smallest time limit of one more try.
const MIN_TRY: Duration = Duration::from_millis(300);
/// Time without a response after which the other tries are sent at the same time, unless `latency_ms` is larger.
const OVERLAP: Duration = Duration::from_secs(2);
/// Time for all tries of a run without a deadline.
const DEFAULT_TIME: Duration = Duration::from_secs(8);
/// Time that is reserved for the steps of a failing request.
const WALK_TIME: Duration = Duration::from_millis(2500);

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
    /// Time waited for the responses in milliseconds, if one did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    /// The steps of the failing request.
    walk: Walk,
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
        let started = Instant::now();
        let left = cx.time_for_endpoints().filter(|left| !left.is_zero()).unwrap_or(DEFAULT_TIME);
        e.tries = self.tries(cx, known, self.time_limit(left, known.latency_ms)).await?;
        let limit = self.limit_ms(known.latency_ms);
        let fails = e.tries.iter().any(|t| !t.is_right()) || e.tries.iter().all(|t| is_slow(t, limit));
        if !fails {
            return Ok(e);
        }
        if e.tries.contains(&EndpointResult::Timeout) {
            e.waited_ms = u64::try_from(started.elapsed().as_millis()).ok();
        }
        // data that is missing by the end of the run is left out: the failure itself is known
        let end = started + left.mul_f32(0.96);
        if let Ok(others) = timeout_at(end.into(), self.others(cx, known)).await {
            e.others = others;
        }
        if let Ok(found) = timeout_at(end.into(), Box::pin(behind(cx, known))).await {
            (e.servers, e.container) = found;
        }
        if e.container.is_none() && e.from.is_none() {
            e.units = timeout_at(end.into(), cx.units_of(&known.host, known.port)).await.unwrap_or_default();
        }
        if let Some(last) = e.tries.iter().rev().find(|t| !t.is_right()).or(e.tries.last()) {
            let behind = Behind { servers: &e.servers, container: e.container.as_deref(), units: &e.units };
            e.walk = timeout_at(end.into(), Box::pin(walk(cx, known, last, &behind))).await.unwrap_or_default();
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
            if e.walk.is_unresolved() {
                f = f.key(KeyKind::Names, "host");
            }
            f = e.units.iter().fold(f, |f, unit| f.key(KeyKind::Unit, unit));
            f.cite("requested from", e.from.as_deref().unwrap_or(""))
        };
        let Some(last) = wrong.last() else {
            let limit = self.limit_ms(e.latency_ms);
            let slow: Vec<u64> = e.tries.iter().filter(|t| is_slow(t, limit)).filter_map(took).collect();
            let Some(fastest) = slow.iter().min().filter(|_| slow.len() == e.tries.len()) else { return Judgement::default() };
            let message = format!("{url} takes {fastest} ms to respond, limit {limit} ms");
            let slow = e.walk.describe(finding(&SLOW, Severity::Warn, message), None, false);
            return vec![of_host(slow)].into();
        };
        if let (Some(waited), Some(limit)) = (e.waited_ms, e.latency_ms)
            && waited < limit
            && wrong.iter().all(|t| **t == EndpointResult::Timeout)
        {
            let gap =
                format!("{url} did not respond in {waited} ms, and its latency_ms is {limit}: run with a longer --deadline");
            return Judgement { gaps: vec![gap], ..Judgement::default() };
        }
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
            format!("{url}{scope} does not respond as expected: {} in {} of {} tries", e.words(last), wrong.len(), e.tries.len());
        let failed = e.walk.failed(last);
        let mut f = e.walk.describe(finding(code, severity, message), failed.as_ref(), !content);
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

impl Evidence {
    fn words(&self, outcome: &EndpointResult) -> String {
        match (outcome, self.waited_ms) {
            (EndpointResult::Timeout, Some(ms)) => format!("no answer in {}", quantity::seconds(ms as f64 / 1000.0)),
            _ => words(outcome),
        }
    }
}

impl Endpoints {
    /// Limit from which a correct response is slow, in milliseconds.
    fn limit_ms(&self, latency_ms: Option<u64>) -> u64 {
        latency_ms.unwrap_or(self.settings.http_timeout_ms)
    }

    /// Time for all tries: a slow response is waited for as long as the run permits, up to twice the limit of a response, or a little
    /// longer than `latency_ms`.
    fn time_limit(&self, left: Duration, latency_ms: Option<u64>) -> Duration {
        let wanted = (self.settings.http_timeout_ms * 2).max(latency_ms.unwrap_or(0).saturating_mul(5) / 4);
        Duration::from_millis(wanted).min(left.saturating_sub(WALK_TIME.min(left / 4))).max(MIN_TRY)
    }

    /// Requests the endpoint once if it responds as expected and in time, otherwise three times.
    async fn tries(&self, cx: &ProbeCx, e: &Endpoint, limit: Duration) -> Result<Vec<EndpointResult>, ProbeError> {
        let until = Instant::now() + limit;
        let left = || until.saturating_duration_since(Instant::now());
        let overlap = e.latency_ms.map_or(OVERLAP, |ms| OVERLAP.max(Duration::from_millis(ms))).min(limit / 2);
        let mut first = Box::pin(self.first(cx, e, limit));
        if let Ok(result) = tokio::time::timeout(overlap, &mut first).await {
            let result = result?;
            let done = result.is_right() && !is_slow(&result, self.limit_ms(e.latency_ms));
            let mut tries = vec![result];
            while !done && tries.len() < TRIES {
                tokio::time::sleep(RETRY_DELAY).await;
                if left() < MIN_TRY {
                    break;
                }
                tries.push(self.request(cx, e, left()).await?);
            }
            return Ok(tries);
        }
        let again = |n: u32| async move {
            tokio::time::sleep(RETRY_DELAY * n).await;
            self.request(cx, e, left()).await
        };
        let (first, second, third) = tokio::join!(first, Box::pin(again(0)), Box::pin(again(1)));
        let first = first?;
        // a later try had less time: its timeout is no evidence if the first one has a response
        let counts = |t: &EndpointResult| *t != EndpointResult::Timeout || first == EndpointResult::Timeout;
        let others = [second?, third?].into_iter().filter(counts).collect::<Vec<_>>();
        Ok(std::iter::once(first).chain(others).collect())
    }

    async fn request(&self, cx: &ProbeCx, e: &Endpoint, limit: Duration) -> Result<EndpointResult, ProbeError> {
        Box::pin(endpoint::request(cx, e, self.connect_limit(e, limit), limit)).await
    }

    /// The first response of this run, shared with the comparison of the other endpoints.
    async fn first(&self, cx: &ProbeCx, e: &Endpoint, limit: Duration) -> Result<EndpointResult, ProbeError> {
        Box::pin(endpoint::first(cx, e, self.connect_limit(e, limit), limit)).await
    }

    /// A connection takes longer than usual if the queue of the service is full.
    fn connect_limit(&self, e: &Endpoint, limit: Duration) -> Duration {
        Duration::from_millis(self.settings.connect_timeout_ms.max(e.latency_ms.unwrap_or(0))).min(limit)
    }

    /// Results of the other endpoints by `proves`.
    async fn others(&self, cx: &ProbeCx, this: &Endpoint) -> Vec<(String, usize, usize)> {
        let others = cx.endpoints().iter().filter(|e| e.id != this.id && e.proves.is_some() && e.is_queried());
        let left = cx.time_for_endpoints().filter(|left| !left.is_zero()).unwrap_or(DEFAULT_TIME);
        let limit = |e: &Endpoint| self.time_limit(left, e.latency_ms);
        let results =
            join_all(others.map(|e| async move { (e.proves.clone().unwrap_or_default(), self.first(cx, e, limit(e)).await) }))
                .await;
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

fn is_slow(outcome: &EndpointResult, limit_ms: u64) -> bool {
    took(outcome).is_some_and(|took| took > limit_ms)
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
