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
use opsctl_core::probe::servers::{Found, Known, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::table::ProcessTable;
use opsctl_core::probe::{Io, ProbeError, Redactor, blocking, docker, filesystem, identity, lag, nginx, panics};

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

/// Time limit of reading password and service files.
const LOGINS_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit of looking for the engine's socket.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// The process table.
    pub table: Option<Arc<ProcessTable>>,
}

/// The engine, its containers and a connection to it.
#[derive(Default)]
struct Engine {
    found: Option<EngineRef>,
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
    let (engine, mounts, units, processes, logins) = tokio::join!(
        // a moment longer than its own limit
        part("the container engine", until, engine(wanted.engine.clone(), redactor.clone(), answer)),
        part("mounts", until, async { filesystem::mounts(&[]).await }),
        part("systemd", until, units::find(answer)),
        part("processes", until, processes()),
        part("logins", until, logins(wanted.servers.clone(), redactor.clone())),
    );
    let Engine { found: engine, containers, client } =
        engine.unwrap_or_else(|error| Engine { found: Some(unasked(error)), ..Engine::default() });
    (inventory.engine, inventory.containers) = (engine, containers);
    let (units, systemd) =
        units.unwrap_or_else(|error| (SystemdRef { state: SystemdState::Failed { error }, units: Vec::new() }, None));
    inventory.systemd = Some(units);
    match mounts.and_then(|read| read.map_err(|e| e.to_string())) {
        Ok(mounts) => inventory.mounts = mounts,
        Err(e) => inventory.gaps.push(e),
    }
    let (table, mut found, gaps) = processes.unwrap_or_else(|e| (None, Vec::new(), vec![e]));
    inventory.gaps.extend(gaps);
    let logins = logins.and_then(|read| read.map_err(|e| e.to_string())).unwrap_or_else(|e| {
        inventory.gaps.push(e);
        servers::Logins::default()
    });
    let (proof, docker, manager) = (std::mem::take(&mut found), client.clone(), systemd.clone());
    let proven = part("the identity of servers", until, async move {
        let mut found = proof;
        identity::prove(&mut found, docker.as_ref(), manager.as_ref()).await;
        found
    });
    let found = proven.await.unwrap_or_else(|e| {
        inventory.gaps.push(e);
        Vec::new()
    });
    let mut servers = servers::find(found, logins, &mut inventory, redactor);
    join_all(servers.iter_mut().map(|known| edge(known, until))).await;
    inventory.endpoints = wanted
        .endpoints
        .iter()
        .filter(|e| e.is_asked())
        .map(|e| EndpointRef { url: e.url.clone(), id: e.id.clone(), proves: e.proves.clone() })
        .collect();
    certificates::find(&servers, &wanted.endpoints, &mut inventory, redactor, until).await;
    Discovered { inventory, docker: client, systemd, servers, table: table.map(Arc::new) }
}

/// The process table, and the servers in it.
async fn processes() -> (Option<ProcessTable>, Vec<Found>, Vec<String>) {
    let table = match ProcessTable::read().await {
        Ok(table) => table,
        Err(e) => return (None, Vec::new(), vec![e.to_string()]),
    };
    let found = scan(&table).await;
    let mut gaps = table.gaps();
    let found = found.unwrap_or_else(|e| {
        gaps.push(e.to_string());
        Vec::new()
    });
    (Some(table), found, gaps)
}

/// The logins of the environment and the configuration.
async fn logins(configured: Vec<Server>, redactor: Arc<Redactor>) -> Result<servers::Logins, ProbeError> {
    let read = move |io: &Io| servers::Logins::read(io, &configured, &redactor);
    blocking::run("logins", "the configuration", LOGINS_TIMEOUT, read).await
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
        if known.server.untrusted.is_some() {
            return;
        }
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
    let locate = move |io: &Io| docker::locate(io, configured.as_deref());
    let located = blocking::run("the container engine", "its socket", LOCATE_TIMEOUT, locate).await;
    let located = match located.map_err(|e| e.to_string()).flatten() {
        Ok(Some(located)) => located,
        Ok(None) => return Engine::default(),
        // somebody said where the engine is: not being able to look there is no "there is none"
        Err(error) => return Engine { found: Some(unasked(error)), ..Engine::default() },
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
    let (answered, late) = Box::pin(lag::watched(tokio::time::timeout(limit, asked))).await;
    let (mut state, found) = answered.unwrap_or_else(|_| (hung(began.elapsed()), None));
    if let (EngineState::Hung { .. }, Some(late)) = (&state, late.or_else(|| lag::was_late(began))) {
        // an engine that opsctl had no time for is not hung
        state = EngineState::Unsupported { error: lag::too_busy(late) };
    }
    let podman = docker::is_podman_socket(&located.endpoint) || found.as_ref().is_some_and(|(d, _)| d.is_podman());
    let engine = EngineRef {
        name: if podman { "podman" } else { "docker" }.to_owned(),
        endpoint: located.endpoint.to_string(),
        found_by: located.found_by,
        state,
    };
    let (client, containers) = found.map_or((None, Vec::new()), |(client, containers)| (Some(client), containers));
    Engine { found: Some(engine), containers, client }
}
