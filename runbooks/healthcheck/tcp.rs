//! Listeners behind published ports, read from the kernel. A connection proves nothing: docker-proxy also accepts it for a dead
//! port, and databases count or log connections without a request.

use std::net::SocketAddr;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity};
use opsctl_core::probe::docker::{Container, PortMap};
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::network::listeners::Listener;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::{Settings, starting};
use crate::shared::dependencies::{PACKETS_DROPPED, PORT_CLOSED, running};
use crate::shared::servers::READ_TIMEOUT;

pub(super) const TCP: Code = Code {
    id: "healthcheck.tcp",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a published TCP port has no listener in the container, or only one on loopback (crit); the same while another of its ports is served or its health test passes (warn)",
    hint: "compare the bind address and port of the service with the published port",
    depends_on: &[&running("its"), PACKETS_DROPPED, PORT_CLOSED],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "healthcheck.tcp",
    title: "published ports have a listener",
    codes: &[TCP],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct Tcp {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    listeners: Vec<Listener>,
}

impl Check for Tcp {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        if container.ports.is_empty() {
            return Err(ProbeError::Skip("no published TCP port".to_owned()));
        }
        let pid = container.process()?;
        let read = move |io: &Io| listeners::listeners_of(io, pid.into());
        let listeners = blocking::run("listening sockets", &container.name, READ_TIMEOUT, read).await?;
        let listeners = listeners.ok_or_else(|| ProbeError::Denied {
            subject: "listening sockets".to_owned(),
            from: format!("/proc/{pid}/net/tcp"),
            needs: "root".to_owned(),
        })?;
        Ok(Evidence { container: (*container).clone(), listeners })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let c = &e.container;
        if starting(c, &self.settings, judged.taken_at) {
            return Judgement::skip("it is still starting");
        }
        let dead: Vec<&PortMap> = c.ports.iter().filter(|p| reach(e, p.container) != Reach::Any).collect();
        let Some(first) = dead.first() else { return Judgement::default() };
        let some_served = c.ports.iter().any(|p| reach(e, p.container) == Reach::Any);
        let healthy = c.state.health.as_ref().is_some_and(|h| h.status == "healthy");
        let severity = if some_served || healthy { Severity::Warn } else { Severity::Crit };
        let why = match reach(e, first.container) {
            Reach::Loopback => "its listener is on loopback only",
            _ => "it has no listener inside",
        };
        let message = format!("{} publishes port {} as {}, but {why}", c.name, first.container, first.host);
        let mut ports: Vec<String> = e.listeners.iter().map(|l| SocketAddr::new(l.address, l.port).to_string()).collect();
        ports.sort();
        let listening = if ports.is_empty() { "nothing".to_owned() } else { ports.join(", ") };
        let finding =
            Finding::new(&TCP, severity, c.subject(), message).key(KeyKind::Container, &c.id).cite("listening inside", listening);
        vec![dead.iter().fold(finding, |f, p| f.key(KeyKind::Port, format!("{}:{}", c.id, p.container)))].into()
    }
}

/// Reachability of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nowhere,
    Loopback,
    Any,
}

/// A wildcard `::` listener serves IPv4 too unless bindv6only is set, which no image does.
fn reach(e: &Evidence, port: u16) -> Reach {
    let on: Vec<&Listener> = e.listeners.iter().filter(|l| l.port == port).collect();
    match on.as_slice() {
        [] => Reach::Nowhere,
        some if some.iter().all(|l| l.is_loopback()) => Reach::Loopback,
        _ => Reach::Any,
    }
}
