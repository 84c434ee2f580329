//! What is on this host. No configuration is needed; what was looked for and why is kept for `opsctl targets`.

mod certificates;
mod servers;
mod units;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{EndpointRef, EngineRef, EngineState, Inventory, Product};
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::servers::{Found, Known, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::table::ProcessTable;
use opsctl_core::probe::{Io, ProbeError, Redactor, blocking, docker, filesystem, identity, nginx};

use crate::config::Server;

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

/// Looks at the host. Never fails: what could not be looked at is in `inventory.gaps`.
pub async fn discover(
    configured_endpoint: Option<&str>,
    configured: &[Server],
    endpoints: &[Endpoint],
    redactor: &Arc<Redactor>,
) -> Discovered {
    let mut inventory = Inventory::default();
    let (docker, mounts, (units, systemd), processes, logins) = tokio::join!(
        engine(configured_endpoint, redactor, &mut inventory),
        filesystem::mounts(&[]),
        units::find(),
        processes(),
        logins(configured, redactor)
    );
    inventory.systemd = Some(units);
    match mounts {
        Ok(mounts) => inventory.mounts = mounts,
        Err(e) => inventory.gaps.push(e.to_string()),
    }
    let (table, mut found, gaps) = processes;
    inventory.gaps.extend(gaps);
    let logins = logins.unwrap_or_else(|e| {
        inventory.gaps.push(e.to_string());
        servers::Logins::default()
    });
    identity::prove(&mut found, docker.as_ref(), systemd.as_ref()).await;
    let mut servers = servers::find(found, logins, &mut inventory, redactor);
    join_all(servers.iter_mut().map(edge)).await;
    inventory.endpoints = endpoints
        .iter()
        .filter(|e| e.is_asked())
        .map(|e| EndpointRef { url: e.url.clone(), id: e.id.clone(), proves: e.proves.clone() })
        .collect();
    certificates::find(&servers, endpoints, &mut inventory, redactor).await;
    Discovered { inventory, docker, systemd, servers, table: table.map(Arc::new) }
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
async fn logins(configured: &[Server], redactor: &Arc<Redactor>) -> Result<servers::Logins, ProbeError> {
    let (configured, redactor) = (configured.to_vec(), redactor.clone());
    let read = move |io: &Io| servers::Logins::read(io, &configured, &redactor);
    blocking::run("logins", "the configuration", LOGINS_TIMEOUT, read).await
}

/// What an nginx is configured to do decides what else is to be looked at.
async fn edge(known: &mut Known) {
    if let (Product::Nginx, Some(process)) = (known.server.product, known.server.process) {
        if known.server.untrusted.is_some() {
            return;
        }
        known.nginx = Some(nginx::read(process.pid).await.map(Arc::new));
    }
}

async fn engine(configured: Option<&str>, redactor: &Arc<Redactor>, inventory: &mut Inventory) -> Option<Arc<docker::Docker>> {
    let configured = configured.map(str::to_owned);
    let locate = move |io: &Io| docker::locate(io, configured.as_deref());
    let located = blocking::run("the container engine", "its socket", LOCATE_TIMEOUT, locate).await;
    let located = match located.map_err(|e| e.to_string()).flatten() {
        Ok(located) => located?,
        Err(error) => {
            // somebody said where the engine is: not being able to look there is no "there is none"
            inventory.engine = Some(EngineRef {
                name: "docker".to_owned(),
                endpoint: "unknown".to_owned(),
                found_by: "configuration or DOCKER_HOST".to_owned(),
                state: EngineState::Unsupported { error },
            });
            return None;
        }
    };
    let (state, client) = docker::connect(&located.endpoint, redactor.clone()).await;
    let podman = docker::is_podman_socket(&located.endpoint) || client.as_ref().is_some_and(|d| d.is_podman());
    let mut engine = EngineRef {
        name: if podman { "podman" } else { "docker" }.to_owned(),
        endpoint: located.endpoint.to_string(),
        found_by: located.found_by,
        state,
    };
    let mut client = client;
    if let Some(docker) = &client {
        match docker.list().await {
            Ok(containers) => inventory.containers = containers,
            Err(opsctl_core::probe::ProbeError::Timeout { after, .. }) => {
                // it answers /_ping and cannot list: one container's lock is stuck (moby#36661)
                engine.state = EngineState::Hung { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) };
                client = None;
            }
            Err(e) => {
                engine.state = EngineState::Garbage { error: e.to_string() };
                client = None;
            }
        }
    }
    inventory.engine = Some(engine);
    client
}
