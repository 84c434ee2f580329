//! What every probe is given.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    Redactor,
    activity::Watch,
    docker::{Container, Docker, Network},
    endpoint::{Endpoint, FirstAnswers},
    filesystem::Filesystems,
    firewall::Firewall,
    kmsg::KernelLog,
    names::Resolvers,
    needs,
    servers::Servers,
    systemd::Systemd,
    table::{ProcessTable, SharedProcessTable},
    tls::Tls,
};
use crate::model::{ContainerRef, EngineState, Inventory, Sample, SystemdState, Target};

/// Everything a probe may use. One per run: reads are shared through it.
pub struct ProbeCx {
    /// What discovery found.
    pub inventory: Arc<Inventory>,
    /// The container engine, when it answered at discovery.
    pub docker: Option<Arc<Docker>>,
    /// systemd, when it answered at discovery.
    pub systemd: Option<Arc<Systemd>>,
    /// Databases, caches and brokers, and the one connection to each.
    pub servers: Servers,
    /// What certificates are traced to, and how many are asked for at once.
    pub tls: Tls,
    /// The addresses of the configuration, with what they should answer.
    pub endpoints: Vec<Endpoint>,
    /// What they answered first.
    pub first_answers: FirstAnswers,
    /// The rules of the packet filter, read once.
    pub rules: super::Memo<(), Result<Arc<Firewall>, super::ProbeError>>,
    /// Which filesystem a path lies on, and how full it is.
    pub filesystems: Filesystems,
    /// The processes of this host, scanned once.
    pub process_table: SharedProcessTable,
    /// What the name servers of this host answer.
    pub resolvers: Resolvers,
    /// Who needs whom, and who gets there.
    pub needs: needs::Known,
    /// The machine at the beginning of the run and a moment later.
    pub watch: Watch,
    /// The kernel log, read once.
    pub kernel_log: KernelLog,
    /// Numbers of earlier runs.
    pub history: Arc<dyn History>,
    /// Learns secrets as they are seen, so that they can be removed from everything later.
    pub redactor: Arc<Redactor>,
    /// What the person asked for beyond the ordinary.
    pub ask: Ask,
}

/// What the person asked for beyond the ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Show what eats the space even of filesystems that are fine.
    pub usage: bool,
    /// What would be sent is only told, and nothing is.
    pub dry_run: bool,
    /// Folders named by the person: what uses the space is looked for below them instead of the whole filesystem.
    pub folders: Vec<String>,
}

/// Numbers remembered from earlier runs.
pub trait History: Send + Sync {
    /// The oldest remembered sample of `metric` of `object` that is at most `max_age_s` seconds old.
    fn oldest(&self, object: &str, metric: &str, max_age_s: i64) -> Option<Sample>;
}

/// No history: a first run, a replay, or a state directory that cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct NoHistory;

impl History for NoHistory {
    fn oldest(&self, _object: &str, _metric: &str, _max_age_s: i64) -> Option<Sample> {
        None
    }
}

/// Containers that are inspected at the same time for one who asks.
const AT_ONCE: usize = 16;

impl ProbeCx {
    /// A container that runs right now, for checks that say nothing about others. Health and listeners of a container that is
    /// paused, stopped or between two starts are an old picture.
    pub async fn running(&self, target: &Target) -> Result<Arc<Container>, super::ProbeError> {
        let container = self.docker()?.inspect(&target.id).await?;
        if container.is_up() { Ok(container) } else { Err(super::ProbeError::Skip("it does not run at the moment".to_owned())) }
    }

    /// These containers, inspected side by side; each is read once per run, whoever asks. What is gone since it was listed, or is not
    /// told, is left out; all of them are without an engine.
    pub async fn inspected<'a>(&self, listed: impl IntoIterator<Item = &'a ContainerRef>) -> Vec<Arc<Container>> {
        self.inspect_each(listed).await.into_iter().filter_map(|(_, inspected)| inspected.ok()).collect()
    }

    /// Of these containers those that the engine does not answer about in time although it answers: something holds their locks.
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
        // hundreds of probes ask for all of hundreds of containers: all at once they would hold more memory than everything else
        let mut inspected = Vec::with_capacity(listed.len());
        for some in listed.chunks(AT_ONCE) {
            inspected.extend(join_all(some.iter().map(|c| async { (*c, docker.inspect(&c.id).await) })).await);
        }
        inspected
    }

    /// The engine's networks from which packets leave by this host's routes and rules, each with the running containers in it.
    pub async fn routed_networks(&self) -> Result<Vec<(Network, Vec<Arc<Container>>)>, super::ProbeError> {
        let networks = self.docker()?.networks().await?;
        let running = self.inspected(self.inventory.running()).await;
        let members = |n: &Network| running.iter().filter(|c| c.networks.contains_key(&n.name)).cloned().collect();
        Ok(networks.iter().filter(|n| n.is_routed()).map(|n| (n.clone(), members(n))).collect())
    }

    /// The first process of a running container, by its name.
    pub async fn pid_of(&self, container: &str) -> Result<i32, super::ProbeError> {
        let gone = |why| super::ProbeError::failed("an endpoint", container, why);
        let found = self.inventory.containers.iter().find(|c| c.name == container);
        let inspected = self.docker()?.inspect(&found.ok_or_else(|| gone("there is no container of this name"))?.id).await?;
        inspected.process()
    }

    /// The processes of this host, as they were when first needed.
    pub async fn processes(&self) -> Result<Arc<ProcessTable>, super::ProbeError> {
        self.process_table.get().await
    }

    /// The packet filter of this host.
    pub async fn firewall(&self) -> Result<Arc<Firewall>, super::ProbeError> {
        self.rules.get((), || async { super::firewall::read().await.map(Arc::new) }).await
    }

    /// systemd, or the error for a check that cannot do without.
    pub fn systemd(&self) -> Result<&Arc<Systemd>, super::ProbeError> {
        self.systemd.as_ref().ok_or_else(|| match self.inventory.systemd.as_ref().map(|s| &s.state) {
            None | Some(SystemdState::NotInit) => super::ProbeError::Skip("systemd is not PID 1 on this host".to_owned()),
            Some(SystemdState::NoBus) => {
                super::ProbeError::Skip("there is no system bus to ask systemd on: dbus is not installed".to_owned())
            }
            Some(SystemdState::Failed { error }) => super::ProbeError::failed("units", "systemd", error),
            Some(_) => super::ProbeError::failed("units", "systemd", "it does not answer"),
        })
    }

    /// The engine client, or the error for a check that cannot do without.
    pub fn docker(&self) -> Result<&Arc<Docker>, super::ProbeError> {
        self.docker.as_ref().ok_or_else(|| match self.inventory.engine.as_ref().map(|e| (&e.state, &e.endpoint)) {
            None => super::ProbeError::Skip("no container engine on this host".to_owned()),
            Some((EngineState::Denied, endpoint)) => super::ProbeError::Denied {
                what: "containers".to_owned(),
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
