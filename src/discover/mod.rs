//! What is on this host. No configuration is needed; what was looked for and why is kept for `opsctl targets`.

mod certificates;
mod servers;
mod units;

use std::sync::Arc;

use futures_util::future::join_all;
use opsctl_core::model::{EndpointRef, EngineRef, EngineState, Inventory, Product};
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::servers::{Known, scan};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::{Redactor, docker, filesystem, nginx};

use crate::config::Server;

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

/// Looks at the host. Never fails: what could not be looked at is in `inventory.gaps`.
pub async fn discover(
    configured_endpoint: Option<&str>,
    configured: &[Server],
    endpoints: &[Endpoint],
    redactor: &Arc<Redactor>,
) -> Discovered {
    let mut inventory = Inventory::default();
    let (docker, mounts, (units, systemd), processes) =
        tokio::join!(engine(configured_endpoint, redactor, &mut inventory), filesystem::mounts(&[]), units::find(), scan());
    inventory.systemd = Some(units);
    match mounts {
        Ok(mounts) => inventory.mounts = mounts,
        Err(e) => inventory.gaps.push(e.to_string()),
    }
    let found = processes.unwrap_or_else(|e| {
        inventory.gaps.push(e.to_string());
        Vec::new()
    });
    let mut servers = servers::find(found, configured, &mut inventory, redactor);
    join_all(servers.iter_mut().map(edge)).await;
    inventory.endpoints = endpoints
        .iter()
        .filter(|e| e.is_asked())
        .map(|e| EndpointRef { url: e.url.clone(), id: e.id.clone(), proves: e.proves.clone() })
        .collect();
    certificates::find(&servers, endpoints, &mut inventory, redactor).await;
    Discovered { inventory, docker, systemd, servers }
}

/// What an nginx is configured to do decides what else is to be looked at.
async fn edge(known: &mut Known) {
    if let (Product::Nginx, Some(process)) = (known.server.product, known.server.process) {
        known.nginx = Some(nginx::read(process.pid).await.map(Arc::new));
    }
}

async fn engine(configured: Option<&str>, redactor: &Arc<Redactor>, inventory: &mut Inventory) -> Option<Arc<docker::Docker>> {
    let located = match docker::locate(configured) {
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
    let podman = docker::is_podman_socket(&located.endpoint);
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
