//! Discovery of the targets of this host, without configuration; the source of each target is kept for `opsctl targets`.
//!
//! Each source is read in a task of its own with a time limit: one that hangs, blocks or panics loses only its own targets.

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
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::proc::table::ProcessTable;
use opsctl_core::probe::servers::identity;
use opsctl_core::probe::servers::{FoundServer, ServerHandle, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::{Io, ProbeError, Redactor, blocking, docker, lag, nginx, panics};

use crate::config::Server;

/// Time limit for a response of the container engine, or of an idle systemd, in percent of the remaining time.
const ANSWER_PERCENT: u32 = 30;

/// Maximum of this limit.
const MAX_ANSWER: Duration = Duration::from_secs(3);

/// The limits of the other sources, and of the whole discovery.
const SOURCE_PERCENT: u32 = 50;
const MAX_SOURCE: Duration = Duration::from_secs(8);

/// Targets named in the configuration.
pub struct ConfiguredTargets {
    /// The engine's endpoint.
    pub engine: Option<String>,
    /// Servers.
    pub servers: Vec<Server>,
    /// Addresses.
    pub endpoints: Vec<Endpoint>,
}

/// Time limit of reading password and service files.
const LOGINS_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit of locating the socket of the engine.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(1);

/// The discovered targets, and the connections used for discovery.
pub struct Discovered {
    /// Targets for the checks.
    pub inventory: Inventory,
    /// The engine, if it responds.
    pub docker: Option<Arc<docker::Docker>>,
    /// systemd, if it responds.
    pub systemd: Option<Arc<Systemd>>,
    /// Databases, caches and brokers, with their credentials.
    pub servers: Vec<ServerHandle>,
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

/// Discovers the targets. Never fails: errors are in `inventory.gaps`. `left` is the rest of the deadline of the run; half of it is
/// reserved for the probes.
pub async fn discover(configured: &ConfiguredTargets, redactor: &Arc<Redactor>, left: Duration) -> Discovered {
    let answer = (left * ANSWER_PERCENT / 100).min(MAX_ANSWER);
    let source = (left * SOURCE_PERCENT / 100).min(MAX_SOURCE);
    let until = Instant::now() + source;
    let mut inventory = Inventory::default();
    let (engine, mounts, units, processes, logins) = tokio::join!(
        // slightly longer than its own limit
        read_source("the container engine", until, engine(configured.engine.clone(), redactor.clone(), answer)),
        read_source("mounts", until, async { filesystem::mounts(&[]).await }),
        read_source("systemd", until, units::find(answer)),
        read_source("processes", until, processes()),
        read_source("logins", until, logins(configured.servers.clone(), redactor.clone())),
    );
    let Engine { found: engine, containers, client } =
        engine.unwrap_or_else(|error| Engine { found: Some(engine_in_unknown_state(error)), ..Engine::default() });
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
    let proven = read_source("the identity of servers", until, async move {
        let mut found = proof;
        identity::prove(&mut found, docker.as_ref(), manager.as_ref()).await;
        found
    });
    let found = proven.await.unwrap_or_else(|e| {
        inventory.gaps.push(e);
        Vec::new()
    });
    let mut servers = servers::find(found, logins, &mut inventory, redactor);
    join_all(servers.iter_mut().map(|known| nginx_configuration(known, until))).await;
    inventory.endpoints = configured
        .endpoints
        .iter()
        .filter(|e| e.is_queried())
        .map(|e| EndpointRef { url: e.url.clone(), id: e.id.clone(), proves: e.proves.clone() })
        .collect();
    certificates::find(&servers, &configured.endpoints, &mut inventory, redactor, until).await;
    Discovered { inventory, docker: client, systemd, servers, table: table.map(Arc::new) }
}

/// The process table, and the servers in it.
async fn processes() -> (Option<ProcessTable>, Vec<FoundServer>, Vec<String>) {
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

/// The credentials of the environment and the configuration.
async fn logins(configured: Vec<Server>, redactor: Arc<Redactor>) -> Result<servers::Logins, ProbeError> {
    let read = move |io: &Io| servers::Logins::read(io, &configured, &redactor);
    blocking::run("logins", "the configuration", LOGINS_TIMEOUT, read).await
}

/// Reads one source in a task of its own. The error names the source and the reason.
async fn read_source<T: Send + 'static>(
    source: &str,
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
    Err(format!("discovery of {source}: {why}"))
}

/// Reads the configuration of an nginx, which names further targets.
async fn nginx_configuration(known: &mut ServerHandle, until: Instant) {
    if let (Product::Nginx, Some(process)) = (known.server.product, known.server.process) {
        if known.server.untrusted.is_some() {
            return;
        }
        let read = read_source("nginx", until, async move { nginx::read(process.pid).await }).await;
        let failed = |why: String| Err(ProbeError::failed("nginx's configuration", format!("process {}", process.pid), &why));
        known.nginx = Some(read.unwrap_or_else(failed).map(Arc::new));
    }
}

/// An engine in unknown state, with the reason.
fn engine_in_unknown_state(error: String) -> EngineRef {
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
        // the endpoint is configured: an error is no proof of its absence
        Err(error) => return Engine { found: Some(engine_in_unknown_state(error)), ..Engine::default() },
    };
    let began = Instant::now();
    let hung = |after: Duration| EngineState::Hung { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) };
    let query = async {
        let (state, client) = docker::connect(&located.endpoint, redactor, limit).await;
        let Some(client) = client else { return (state, None) };
        match client.list().await {
            Ok(containers) => (state, Some((client, containers))),
            // /_ping succeeds and the list times out: the lock of a container is stuck (moby#36661)
            Err(ProbeError::Timeout { after, .. }) => (hung(after), None),
            Err(e) => (EngineState::Garbage { error: e.to_string() }, None),
        }
    };
    let (answered, late) = Box::pin(lag::watched(tokio::time::timeout(limit, query))).await;
    let (mut state, found) = answered.unwrap_or_else(|_| (hung(began.elapsed()), None));
    if let (EngineState::Hung { .. }, Some(late)) = (&state, late.or_else(|| lag::was_late(began))) {
        // if opsctl itself was late, the engine is not considered hung
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
