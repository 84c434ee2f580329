//! What is on this host. No configuration is needed; what was looked for and why is kept for `opsctl targets`.
//!
//! Each source is read in a task of its own with a limit: one that hangs, blocks or panics costs what it would have found.

mod certificates;
mod servers;
mod units;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opsctl_core::model::{
    ContainerRef, EndpointRef, EngineRef, EngineState, Inventory, Product, SystemdRef, SystemdState, quantity,
};
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::servers::{Known, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::{ProbeError, Redactor, docker, filesystem, lag, nginx, panics};

use crate::config::Server;

/// The part of the time that is left, in percent, that the container engine, or a systemd that idles, may take to answer.
const ANSWER_PERCENT: u32 = 30;

/// At most so long.
const MAX_ANSWER: Duration = Duration::from_secs(3);

/// The same for everything else, and for all of it together.
const SOURCE_PERCENT: u32 = 50;
const MAX_SOURCE: Duration = Duration::from_secs(8);

/// What the configuration says of what is to be found.
pub struct Wanted {
    /// The engine's endpoint.
    pub engine: Option<String>,
    /// Servers.
    pub servers: Vec<Server>,
    /// Addresses.
    pub endpoints: Vec<Endpoint>,
}

/// What was found, and the connection it was found with.
pub struct Discovered {
    /// Targets for the checks.
    pub inventory: Inventory,
    /// The engine, when it answers.
    pub docker: Option<Arc<docker::Docker>>,
    /// systemd, when it answers.
    pub systemd: Option<Arc<Systemd>>,
    /// Databases, caches and brokers, with what it takes to log in.
    pub servers: Vec<Known>,
}

/// The engine, its containers and a connection to it.
#[derive(Default)]
struct Engine {
    engine: Option<EngineRef>,
    containers: Vec<ContainerRef>,
    client: Option<Arc<docker::Docker>>,
}

/// Looks at the host. Never fails: what could not be looked at is in `inventory.gaps`. `left` is what is left of the deadline of the run;
/// half of it is for the probes.
pub async fn discover(wanted: &Wanted, redactor: &Arc<Redactor>, left: Duration) -> Discovered {
    let answer = (left * ANSWER_PERCENT / 100).min(MAX_ANSWER);
    let source = (left * SOURCE_PERCENT / 100).min(MAX_SOURCE);
    let until = Instant::now() + source;
    let mut inventory = Inventory::default();
    let (engine, mounts, units, processes) = tokio::join!(
        // a moment longer than its own limit
        part("the container engine", until, engine(wanted.engine.clone(), redactor.clone(), answer)),
        part("mounts", until, async { filesystem::mounts(&[]).await }),
        part("systemd", until, units::find(answer)),
        part("processes", until, scan()),
    );
    let Engine { engine, containers, client } =
        engine.unwrap_or_else(|error| Engine { engine: Some(unasked(error)), ..Engine::default() });
    (inventory.engine, inventory.containers) = (engine, containers);
    let (units, systemd) =
        units.unwrap_or_else(|error| (SystemdRef { state: SystemdState::Failed { error }, units: Vec::new() }, None));
    inventory.systemd = Some(units);
    match mounts.and_then(|read| read.map_err(|e| e.to_string())) {
        Ok(mounts) => inventory.mounts = mounts,
        Err(e) => inventory.gaps.push(e),
    }
    let found = processes.and_then(|read| read.map_err(|e| e.to_string())).unwrap_or_else(|e| {
        inventory.gaps.push(e);
        Vec::new()
    });
    let mut servers = servers::find(found, &wanted.servers, &mut inventory, redactor);
    join_all(servers.iter_mut().map(|known| edge(known, until))).await;
    inventory.endpoints = wanted
        .endpoints
        .iter()
        .filter(|e| e.is_asked())
        .map(|e| EndpointRef { url: e.url.clone(), id: e.id.clone(), proves: e.proves.clone() })
        .collect();
    certificates::find(&servers, &wanted.endpoints, &mut inventory, redactor, until).await;
    Discovered { inventory, docker: client, systemd, servers }
}

/// Reads one source, in a task of its own. The error says what was not read and why.
async fn part<T: Send + 'static>(
    what: &str,
    until: Instant,
    read: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let began = Instant::now();
    let read = tokio::spawn(panics::caught_async(read));
    let why = match tokio::time::timeout_at(until.into(), read).await {
        Ok(Ok(Ok(value))) => return Ok(value),
        Ok(Ok(Err(panic))) => panic.to_string(),
        Ok(Err(_)) => "the task ended".to_owned(),
        Err(_) => lag::was_late(began).map_or_else(
            || format!("did not finish within {}", quantity::duration(began.elapsed().try_into().unwrap_or_default())),
            lag::too_busy,
        ),
    };
    Err(format!("discovery of {what}: {why}"))
}

/// What an nginx is configured to do decides what else is to be looked at.
async fn edge(known: &mut Known, until: Instant) {
    if let (Product::Nginx, Some(process)) = (known.server.product, known.server.process) {
        let read = part("nginx", until, async move { nginx::read(process.pid).await }).await;
        let failed = |why: String| Err(ProbeError::failed("nginx's configuration", format!("process {}", process.pid), &why));
        known.nginx = Some(read.unwrap_or_else(failed).map(Arc::new));
    }
}

/// An engine about which nothing is known; why.
fn unasked(error: String) -> EngineRef {
    EngineRef {
        name: "docker".to_owned(),
        endpoint: "unknown".to_owned(),
        found_by: "configuration or DOCKER_HOST".to_owned(),
        state: EngineState::Unsupported { error },
    }
}

async fn engine(configured: Option<String>, redactor: Arc<Redactor>, limit: Duration) -> Engine {
    let located = match docker::locate(configured.as_deref()) {
        Ok(Some(located)) => located,
        Ok(None) => return Engine::default(),
        // somebody said where the engine is: not being able to look there is no "there is none"
        Err(error) => return Engine { engine: Some(unasked(error)), ..Engine::default() },
    };
    let began = Instant::now();
    let hung = |after: Duration| EngineState::Hung { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) };
    let asked = async {
        let (state, client) = docker::connect(&located.endpoint, redactor, limit).await;
        let Some(client) = client else { return (state, None) };
        match client.list().await {
            Ok(containers) => (state, Some((client, containers))),
            // it answers /_ping and cannot list: one container's lock is stuck (moby#36661)
            Err(ProbeError::Timeout { after, .. }) => (hung(after), None),
            Err(e) => (EngineState::Garbage { error: e.to_string() }, None),
        }
    };
    let (answered, late) = lag::watched(tokio::time::timeout(limit, asked)).await;
    let (mut state, found) = answered.unwrap_or_else(|_| (hung(began.elapsed()), None));
    if let (EngineState::Hung { .. }, Some(late)) = (&state, late.or_else(|| lag::was_late(began))) {
        // an engine that opsctl had no time for is not hung
        state = EngineState::Unsupported { error: lag::too_busy(late) };
    }
    let podman = docker::is_podman_socket(&located.endpoint);
    let engine = EngineRef {
        name: if podman { "podman" } else { "docker" }.to_owned(),
        endpoint: located.endpoint.to_string(),
        found_by: located.found_by,
        state,
    };
    let (client, containers) = found.map_or((None, Vec::new()), |(client, containers)| (Some(client), containers));
    Engine { engine: Some(engine), containers, client }
}
