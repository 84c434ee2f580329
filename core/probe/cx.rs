//! The context that every probe receives.

use std::sync::Arc;

use futures_util::future::join_all;

use super::docker::{Container, Docker, Network};
use super::systemd::Systemd;
use super::{Redactor, Shared};
use crate::model::{ContainerRef, EngineState, Inventory, Object, Sample, SystemdState};
use crate::probe::kernel::activity::SystemSampler;
use crate::probe::kernel::filesystem::Filesystems;
use crate::probe::kernel::kmsg::KernelLog;
use crate::probe::network::firewall::ruleset::Ruleset;
use crate::probe::network::firewall::{Firewall, Ipv6Rules};
use crate::probe::proc::table::{ProcessTable, SharedProcessTable};

/// Shared resources of the probes. One instance per run, so that reads are shared.
pub struct ProbeCx {
    /// The result of discovery.
    pub inventory: Arc<Inventory>,
    /// The container engine, if it responded at discovery.
    pub docker: Option<Arc<Docker>>,
    /// systemd, if it responded at discovery.
    pub systemd: Option<Arc<Systemd>>,
    /// State of the readers that use this context: servers, endpoints, name servers, certificates, dependencies.
    pub shared: Shared,
    /// The rules of the packet filter, read once.
    pub rules: super::Memo<(), Result<Arc<Firewall>, super::ProbeError>>,
    /// The filesystem of a path, and its usage.
    pub filesystems: Filesystems,
    /// The processes of this host, scanned once.
    pub process_table: SharedProcessTable,
    /// Samples of the system at the start of the run and after the window.
    pub watch: SystemSampler,
    /// The kernel log, read once.
    pub kernel_log: KernelLog,
    /// Samples of earlier runs.
    pub history: Arc<dyn History>,
    /// Registers secrets when they are read, so that they can be removed from all output.
    pub redactor: Arc<Redactor>,
    /// Options given by the user.
    pub options: ProbeOptions,
}

/// Options given by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Report disk usage also of filesystems without a finding.
    pub usage: bool,
    /// Report messages to be sent without sending them.
    pub dry_run: bool,
    /// Directories given by the user: disk usage is searched below them instead of in the whole filesystem.
    pub directories: Vec<String>,
}

/// Stored samples of earlier runs.
pub trait History: Send + Sync {
    /// The oldest stored sample of `metric` of `object` that is at most `max_age_s` seconds old.
    fn oldest(&self, object: &str, metric: &str, max_age_s: i64) -> Option<Sample>;
}

/// No history: a first run, a replay, or a state directory that cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct HistoryError;

impl History for HistoryError {
    fn oldest(&self, _object: &str, _metric: &str, _max_age_s: i64) -> Option<Sample> {
        None
    }
}

/// Limit of concurrent inspections per caller.
const MAX_CONCURRENT_INSPECTS: usize = 16;

impl ProbeCx {
    /// A running container, for checks that do not apply to others. Health and listeners of a container that is paused, stopped
    /// or restarting are outdated.
    pub async fn running(&self, target: &Object) -> Result<Arc<Container>, super::ProbeError> {
        let container = self.docker()?.inspect(&target.id).await?;
        if container.is_up() { Ok(container) } else { Err(super::ProbeError::Skip("the container is not running".to_owned())) }
    }

    /// Inspects these containers concurrently, each once per run for all callers. Containers that were removed after listing or
    /// cannot be inspected are omitted; without an engine the result is empty.
    pub async fn inspected<'a>(&self, listed: impl IntoIterator<Item = &'a ContainerRef>) -> Vec<Arc<Container>> {
        self.inspect_each(listed).await.into_iter().filter_map(|(_, inspected)| inspected.ok()).collect()
    }

    /// The containers that cannot be inspected in time although the engine responds: their locks are held.
    pub async fn held_by_engine<'a>(&self, listed: impl IntoIterator<Item = &'a ContainerRef>) -> Vec<&'a ContainerRef> {
        let held = |(c, r): (_, Result<_, super::ProbeError>)| matches!(r, Err(super::ProbeError::Timeout { .. })).then_some(c);
        self.inspect_each(listed).await.into_iter().filter_map(held).collect()
    }

    async fn inspect_each<'a>(
        &self,
        listed: impl IntoIterator<Item = &'a ContainerRef>,
    ) -> Vec<(&'a ContainerRef, Result<Arc<Container>, super::ProbeError>)> {
        let Some(docker) = &self.docker else { return Vec::new() };
        let listed: Vec<&ContainerRef> = listed.into_iter().collect();
        // hundreds of probes inspect all of hundreds of containers: without a limit these requests would use more memory than all
        // other data
        let mut inspected = Vec::with_capacity(listed.len());
        for some in listed.chunks(MAX_CONCURRENT_INSPECTS) {
            inspected.extend(join_all(some.iter().map(|c| async { (*c, docker.inspect(&c.id).await) })).await);
        }
        inspected
    }

    /// The networks of all engines of this host that send packets by its routes and rules, each with its running containers.
    pub async fn routed_networks(&self) -> Result<Vec<(Network, Vec<Arc<Container>>)>, super::ProbeError> {
        let mut networks = Vec::new();
        for engine in self.docker()?.engines().filter(|engine| engine.is_local()) {
            networks.extend(self.routed_networks_of(engine).await?);
        }
        Ok(networks)
    }

    /// [`ProbeCx::routed_networks`] of one engine.
    pub async fn routed_networks_of(&self, engine: &Docker) -> Result<Vec<(Network, Vec<Arc<Container>>)>, super::ProbeError> {
        let networks = engine.own_networks().await?;
        let docker = self.docker()?;
        // two engines may have a network of the same name
        let own = self.inventory.running().filter(|c| std::ptr::eq(docker.of(&c.id), engine));
        let running = self.inspected(own).await;
        let members = |n: &Network| running.iter().filter(|c| c.networks.contains_key(&n.name)).cloned().collect();
        Ok(networks.iter().filter(|n| n.is_routed()).map(|n| (n.clone(), members(n))).collect())
    }

    /// The main process of a running container, by container name.
    pub async fn pid_of(&self, container: &str) -> Result<i32, super::ProbeError> {
        let failed = |why| super::ProbeError::failed("an endpoint", container, why);
        let found = self.inventory.containers.iter().find(|c| c.name == container);
        let inspected = self.docker()?.inspect(&found.ok_or_else(|| failed("there is no container of this name"))?.id).await?;
        inspected.process()
    }

    /// The process table of this host, scanned at first use.
    pub async fn processes(&self) -> Result<Arc<ProcessTable>, super::ProbeError> {
        self.process_table.get().await
    }

    /// The packet filter of this host.
    pub async fn firewall(&self) -> Result<Arc<Firewall>, super::ProbeError> {
        self.rules.get((), || async { crate::probe::network::firewall::read().await.map(Arc::new) }).await
    }

    /// The packet filter of this host with the rules of ip6tables, which are read at the first call.
    pub async fn firewall_ipv6(&self) -> Result<Arc<Ruleset>, super::ProbeError> {
        self.shared.get::<Ipv6Rules>().get(&*self.firewall().await?).await
    }

    /// systemd, or the error for a check that requires it.
    pub fn systemd(&self) -> Result<&Arc<Systemd>, super::ProbeError> {
        self.systemd.as_ref().ok_or_else(|| match self.inventory.systemd.as_ref().map(|s| &s.state) {
            None | Some(SystemdState::NotInit) => super::ProbeError::Skip("systemd is not PID 1 on this host".to_owned()),
            Some(SystemdState::NoBus) => {
                super::ProbeError::Skip("no system bus to query systemd: dbus is not installed".to_owned())
            }
            Some(SystemdState::Failed { error }) => super::ProbeError::failed("units", "systemd", error),
            Some(_) => super::ProbeError::failed("units", "systemd", "no response"),
        })
    }

    /// The engine client, or the error for a check that requires it.
    pub fn docker(&self) -> Result<&Arc<Docker>, super::ProbeError> {
        self.docker.as_ref().ok_or_else(|| match self.inventory.engine.as_ref().map(|e| (&e.state, &e.endpoint)) {
            None => super::ProbeError::Skip("no container engine on this host".to_owned()),
            Some((EngineState::Denied, endpoint)) => super::ProbeError::Denied {
                subject: "containers".to_owned(),
                from: endpoint.clone(),
                needs: "root or group docker".to_owned(),
            },
            Some((EngineState::Unsupported { error }, _)) => {
                super::ProbeError::failed("containers", "the container engine", error)
            }
            Some((_, endpoint)) => super::ProbeError::failed("containers", endpoint, "the engine does not answer"),
        })
    }
}
