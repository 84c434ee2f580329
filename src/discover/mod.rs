//! Discovery of the targets of this host, without configuration; the source of each target is kept for `opsctl targets`.
//!
//! Each source is read in a task of its own with a time limit: one that hangs, blocks or panics loses only its own targets.

mod certificates;
mod engines;
mod servers;
mod units;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opsctl_core::model::{CertificateSource, ContainerRef, EndpointRef, Inventory, Product, SystemdRef, SystemdState, quantity};
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::kernel::{confinement, filesystem};
use opsctl_core::probe::proc::table::ProcessTable;
use opsctl_core::probe::servers::identity;
use opsctl_core::probe::servers::{FoundServer, ServerHandle, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::{Io, ProbeError, Redactor, blocking, docker, lag, nginx, panics};

use crate::config::Server;
use engines::Engines;

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

/// Discovers the targets. Never fails: errors are in `inventory.gaps`. `left` is the rest of the deadline of the run; half of it is
/// reserved for the probes.
pub async fn discover(configured: &ConfiguredTargets, redactor: &Arc<Redactor>, left: Duration) -> Discovered {
    let answer = (left * ANSWER_PERCENT / 100).min(MAX_ANSWER);
    let source = (left * SOURCE_PERCENT / 100).min(MAX_SOURCE);
    let until = Instant::now() + source;
    let mut inventory = Inventory::default();
    let (engine, mounts, units, processes, logins) = tokio::join!(
        // slightly longer than its own limit
        read_source("the container engine", until, engines::find(configured.engine.clone(), redactor.clone(), answer)),
        read_source("mounts", until, async { filesystem::mounts(&[]).await }),
        read_source("systemd", until, units::find(answer)),
        read_source("processes", until, processes()),
        read_source("logins", until, logins(configured.servers.clone(), redactor.clone())),
    );
    let engines = engine.unwrap_or_else(Engines::unknown);
    let (client, podman_users) = (engines.client, engines.podman_users);
    (inventory.engine, inventory.more_engines, inventory.containers) = (engines.first, engines.more, engines.containers);
    inventory.gaps.extend(engines.gaps);
    let (units, systemd) =
        units.unwrap_or_else(|error| (SystemdRef { state: SystemdState::Failed { error }, units: Vec::new() }, None));
    inventory.systemd = Some(units);
    match mounts.and_then(|read| read.map_err(|e| e.to_string())) {
        Ok(mounts) => inventory.mounts = mounts,
        Err(e) => inventory.gaps.push(e),
    }
    let (table, mut found, gaps) = processes.unwrap_or_else(|e| (None, Vec::new(), vec![e]));
    inventory.confined = confined(client.as_ref(), &inventory.containers).await;
    if inventory.confined.is_some() {
        // these are of the container, not of this host
        inventory.mounts.clear();
        inventory.systemd = None;
        found.clear();
    } else {
        inventory.gaps.extend(gaps);
        if let Some(table) = &table {
            inventory.gaps.extend(docker::podman_without_socket(table, &podman_users).await);
        }
    }
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
    if inventory.confined.is_some() {
        inventory.certificates.retain(|c| matches!(c.source, CertificateSource::Endpoint { from: None, .. }));
    }
    Discovered { inventory, docker: client, systemd, servers, table: table.map(Arc::new) }
}

/// The name of the application container in which opsctl runs, or the beginning of its id if the engine does not know it.
async fn confined(docker: Option<&Arc<docker::Docker>>, containers: &[ContainerRef]) -> Option<String> {
    let engine = docker.map(|docker| docker.listener()).filter(|listener| listener.is_here).and_then(|listener| listener.pid);
    let read = move |io: &Io| confinement::enclosing_container(io, engine);
    let id = blocking::run("the mounts of opsctl", "/proc/self/mountinfo", LOCATE_TIMEOUT, read).await.ok().flatten()?;
    let known = containers.iter().find(|c| c.id == id).map(|c| c.name.clone());
    Some(known.unwrap_or_else(|| id.chars().take(12).collect()))
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
