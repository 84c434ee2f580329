//! Response of the service to the request of its health test, sent by opsctl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::join;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Plan, Refusal, Role, Severity,
};
use opsctl_core::probe::docker::{Container, NAME_SERVER};
use opsctl_core::probe::io::http::HttpError;
use opsctl_core::probe::io::{clock, http};
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::network::netns::ConnectError;
use opsctl_core::probe::network::{listeners, netns};
use opsctl_core::probe::product::restart_is_by_hand;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::command::{Command, TestRequest};
use super::{Settings, starting};
use crate::shared::dependencies::{NEEDED, NEEDED_SERVERS, PACKETS_DROPPED, PORT_CLOSED, UNRESPONSIVE, running};
use crate::shared::log_reason::{with_log, with_reason};
use crate::shared::needed_servers::{needs_of, tied_to_needs};
use crate::shared::obstacle::{Failed, Obstacle, of_log};
use crate::shared::processes::of_host;
use crate::shared::restart_container::{self, RESTART};
use crate::shared::servers::READ_TIMEOUT;

pub(super) const HTTP: Code = Code {
    id: "healthcheck.http",
    severities: &[Severity::Warn, Severity::Crit],
    when: "opsctl's own request to the URL of the health test gets 5xx, is refused or times out in 2 of 3 tries (crit), in 1 of 3 or a 4xx (warn)",
    hint: "the service itself fails: read its log (docker logs) before restarting it",
    depends_on: &[
        &running("its"),
        PACKETS_DROPPED,
        PORT_CLOSED,
        UNRESPONSIVE,
        &[
            DependsOn::likely(Role::NoDescriptors, KeyKind::Container, "its"),
            DependsOn::likely(Role::NamesBroken, KeyKind::Names, ""),
            DependsOn::confirmed(Role::Unresponsive, KeyKind::Server, "its"),
            DependsOn::confirmed(Role::Unresponsive, KeyKind::Certificate, "the"),
        ],
        NEEDED,
        NEEDED_SERVERS,
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "healthcheck.http",
    title: "services respond to the request of their health test",
    codes: &[HTTP],
    fixes: &[RESTART],
    // three tries of a service that times out
    timeout: Duration::from_secs(9),
};

/// Number of tries, the first included (judgement: 3).
const TRIES: usize = 3;
/// Delay between two tries.
const RETRY_DELAY: Duration = Duration::from_millis(150);
/// Age of the errors in its log that can be the reason (judgement: 10 min).
const RECENT_ERRORS: SignedDuration = SignedDuration::from_mins(10);
/// Limit of bytes read of a response.
const MAX_BODY_BYTES: usize = 4096;

pub(super) struct Http {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    /// `http://host:port/path` as requested inside.
    url: String,
    /// Its port; `None` in recordings of 0.1.0.
    port: Option<u16>,
    /// Tries from inside the container's network namespace; one when it succeeds.
    inside: Vec<Try>,
    /// One try from the host to the container's address, after success inside.
    address: Option<Try>,
    /// One try through the published port, after success inside.
    published: Option<Try>,
    /// Address of the published port.
    published_at: Option<String>,
    /// Ids of the servers that its environment names; only if it fails inside the container.
    needs: Vec<String>,
    /// Ports that are served inside; only if every connection was refused.
    served: Vec<u16>,
    /// Errors that it has logged lately; only if it fails inside the container.
    log: LogEvidence,
    /// The reason in its log, checked again now.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_obstacle: Option<Obstacle>,
    /// Data for a restart; only if a restart would help.
    restart: restart_container::RestartContext,
}

/// Result of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Try {
    Status(u16),
    Refused,
    Timeout,
    /// Connected, then closed without a response.
    Closed,
    NotHttp,
    Failed(String),
}

impl Try {
    fn words(&self) -> String {
        match self {
            Self::Status(status) => format!("status {status}"),
            Self::Refused => "connection refused".to_owned(),
            Self::Timeout => "timed out".to_owned(),
            Self::Closed => "connection closed without a response".to_owned(),
            Self::NotHttp => "a response that is not HTTP".to_owned(),
            Self::Failed(why) => why.clone(),
        }
    }

    /// Redirects count as success: the service is up, whether the client of the health test follows them or not.
    fn answers(&self) -> bool {
        matches!(self, Self::Status(200..=399))
    }

    fn client_error(&self) -> bool {
        matches!(self, Self::Status(400..=499))
    }
}

impl Check for Http {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let command = container.health_test.as_ref().map(|t| Command::parse(&t.test)).unwrap_or_default();
        let Some(request) = command.request.filter(|a| a.scheme == "http") else {
            return Err(ProbeError::Skip("no plain HTTP URL in its health test".to_owned()));
        };
        let mut e = Evidence { container: (*container).clone(), ..Evidence::default() };
        e.url = format!("http://{}{}", join(&request.host, request.port), request.path);
        e.port = Some(request.port);
        for n in 0..TRIES {
            if n > 0 {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            let outcome = self.inside(&container, &request).await?;
            let done = outcome.answers() && n == 0;
            e.inside.push(outcome);
            if done {
                break;
            }
        }
        if e.inside.iter().all(Try::answers) {
            let port = container.ports.iter().find(|p| p.container == request.port);
            if let Some(address) = container.networks.values().find_map(|ip| ip.parse::<IpAddr>().ok()) {
                e.address = Some(self.host(SocketAddr::new(address, request.port), &request).await?);
            }
            if let Some(port) = port {
                let ip = match port.host_ip.parse() {
                    Ok(IpAddr::V4(ip)) if !ip.is_unspecified() => IpAddr::V4(ip),
                    Ok(IpAddr::V6(ip)) if !ip.is_unspecified() => IpAddr::V6(ip),
                    _ => Ipv4Addr::LOCALHOST.into(),
                };
                let at = SocketAddr::new(ip, port.host);
                e.published = Some(self.host(at, &request).await?);
                e.published_at = Some(at.to_string());
            }
        }
        if !e.inside.iter().all(Try::answers) {
            e.restart = restart_container::RestartContext::of(cx, &container).await;
            e.needs = needs_of(cx, cx.docker()?, &container.id).await;
            let since = clock::now().checked_sub(RECENT_ERRORS).unwrap_or(Timestamp::UNIX_EPOCH);
            e.log = cx.errors_since(&container, since).await;
            e.log_obstacle = Box::pin(of_log(cx, Failed::Container(&container), &e.log)).await;
        }
        if e.inside.iter().all(|t| *t == Try::Refused) {
            let pid = container.process()?;
            let read = move |io: &Io| listeners::listeners_of(io, pid.into());
            let found = blocking::run("listening sockets", &container.name, READ_TIMEOUT, read).await?.unwrap_or_default();
            e.served = found.iter().filter(|l| l.address != NAME_SERVER).map(|l| l.port).collect();
            e.served.sort_unstable();
            e.served.dedup();
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &e.container.name;
        let failed: Vec<&Try> = e.inside.iter().filter(|t| !t.answers()).collect();
        let finding = |severity, message: String| {
            Finding::new(&HTTP, severity, e.container.subject(), message)
                .key(KeyKind::Container, &e.container.id)
                .cite("inside the container", words(&e.inside))
        };
        let Some(worst) = failed.last() else {
            let dead = e.published.as_ref().filter(|p| !p.answers() && !p.client_error());
            let Some(dead) = dead else { return Judgement::default() };
            let at = e.published_at.as_deref().unwrap_or_default();
            let message = format!("{name} responds inside, but not through its published port {at}: {}", dead.words());
            let hint = match &e.address {
                Some(a) if a.answers() => "the path from the published port is broken: docker-proxy or the firewall's NAT rules",
                _ => {
                    "the service listens on loopback only, or a firewall blocks the port; bind the service to 0.0.0.0 inside the container"
                }
            };
            let found = finding(Severity::Crit, message)
                .cite_opt("at the container's address", e.address.as_ref().map(Try::words))
                .hint(hint);
            // a finding about this port of the container is the cause
            let port = e.container.ports.iter().find(|p| at.ends_with(&format!(":{}", p.host)));
            // a timeout, not a rejection by the service
            let found = if matches!(dead, Try::Timeout | Try::Failed(_)) { of_host(found) } else { found };
            return vec![match port {
                Some(p) => found.key(KeyKind::Port, format!("{}:{}", e.container.id, p.container)),
                None => found,
            }]
            .into();
        };
        if starting(&e.container, &self.settings, judged.taken_at) {
            return Judgement::skip("it is still starting");
        }
        let tries = e.inside.len();
        let severity = match failed.len() {
            _ if failed.iter().all(|t| t.client_error()) => Severity::Warn,
            n if n >= 2 => Severity::Crit,
            _ => Severity::Warn,
        };
        let message =
            format!("{name} does not respond to {} as expected: {} in {} of {tries} tries", e.url, worst.words(), failed.len());
        if let Some(port) = e.port.filter(|port| !e.served.is_empty() && !e.served.contains(port)) {
            // the service listens elsewhere: neither its log nor a restart changes the port of the test
            let served = e.served.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let hint = format!(
                "the service listens on {served}: correct the port of the health test or of the service; a restart does not help"
            );
            let found = finding(severity, message).cite("listening inside", served).hint(hint);
            return vec![found.key(KeyKind::Port, format!("{}:{port}", e.container.id))].into();
        }
        let mut found = with_log(finding(severity, with_reason(message, &e.log)), &e.log);
        // a rejected connection or a status below 500 is not the fault of a database
        if failed.iter().any(|t| matches!(t, Try::Timeout | Try::Status(500..))) {
            found = tied_to_needs(found, &e.needs);
        }
        // a peer that is missing, or a permanent reason, is the same after a restart, unless it was removed meanwhile
        let is_gone = matches!(e.log_obstacle, Some(Obstacle::Gone(_)));
        let remains = !is_gone && e.log.reason().is_some_and(|r| r.is_permanent() || r.peer().is_some());
        vec![found.fix_if(severity == Severity::Crit && !remains, RESTART.id)].into()
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let c = &e.container;
        if restart_is_by_hand(&c.image, &c.program) {
            return Err(Refusal::ByHand(format!(
                "{} is the image of a database or broker; restart it by hand when its state allows",
                c.image
            )));
        }
        restart_container::plan(c, &e.restart, &SPEC, finding, judged.target)
    }
}

impl Http {
    async fn inside(&self, c: &Container, request: &TestRequest) -> Result<Try, ProbeError> {
        let timeout = Duration::from_millis(self.settings.connect_timeout_ms);
        let pid = c.process()?.into();
        let mut last = Try::Refused;
        for ip in addresses(c, &request.host) {
            match netns::connect_inside(pid, SocketAddr::new(ip, request.port), timeout).await? {
                Ok(stream) => return Ok(self.request(stream, request).await),
                Err(e) => last = no_connection(e),
            }
        }
        Ok(last)
    }

    async fn host(&self, at: SocketAddr, request: &TestRequest) -> Result<Try, ProbeError> {
        let timeout = Duration::from_millis(self.settings.connect_timeout_ms);
        Ok(match netns::connect(at, timeout).await? {
            Ok(stream) => self.request(stream, request).await,
            Err(e) => no_connection(e),
        })
    }

    async fn request(&self, stream: tokio::net::TcpStream, request: &TestRequest) -> Try {
        let host = join(&request.host, request.port);
        match http::get(stream, &host, &request.path, MAX_BODY_BYTES, Duration::from_millis(self.settings.http_timeout_ms)).await
        {
            Ok(answer) => Try::Status(answer.status),
            Err(HttpError::Timeout) => Try::Timeout,
            Err(HttpError::Closed(_)) => Try::Closed,
            Err(HttpError::NotHttp(_)) => Try::NotHttp,
        }
    }
}

fn no_connection(e: ConnectError) -> Try {
    match e {
        ConnectError::Refused => Try::Refused,
        ConnectError::Timeout => Try::Timeout,
        ConnectError::Other(why) => Try::Failed(why),
    }
}

/// Addresses of the test's host inside the container: loopback of both families for `localhost`, an address as written, and the
/// container's own addresses for any other name (its name, its alias).
fn addresses(c: &Container, host: &str) -> Vec<IpAddr> {
    match host {
        "localhost" | "0.0.0.0" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        _ => match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => c.networks.values().filter_map(|ip| ip.parse().ok()).chain([Ipv4Addr::LOCALHOST.into()]).collect(),
        },
    }
}

fn words(tries: &[Try]) -> String {
    tries.iter().map(Try::words).collect::<Vec<_>>().join(", then ")
}
