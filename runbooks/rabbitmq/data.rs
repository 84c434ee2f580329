//! Messages in the data of an earlier node: the container was created again with another hostname.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity,
    quantity::{ago, bytes},
};
use opsctl_core::probe::servers::rabbitmq_data::{NodeData, OldNode, node_data};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::facts;
use crate::shared::servers::Server;

const OLD_NODE_DATA: Code = Code {
    id: "rabbitmq.old-node-data",
    severities: &[Severity::Warn],
    when: "the data directory contains messages of a node with another hostname, last written before the present node was started",
    hint: "the node name contains the hostname: create the container with the old one (`hostname:`, `--hostname`, or `RABBITMQ_NODENAME`), and keep it fixed; remove the directory only if its messages are not needed",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.data",
    title: "RabbitMQ serves the messages in its data directory",
    codes: &[OLD_NODE_DATA],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Data;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    data: NodeData,
}

impl Check for Data {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Rabbitmq)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let Some(process) = server.get().and_then(|s| s.process) else {
            return Err(ProbeError::Skip("its data is not on this machine".to_owned()));
        };
        let (mut directories, mut cluster) = (Vec::new(), Vec::new());
        // without them the directory follows from the arguments of the node
        if let Ok(facts) = facts(cx, target).await? {
            directories = facts.nodes.iter().map(|n| n.db_dir.clone()).filter(|d| d.starts_with('/')).collect();
            cluster = facts.nodes.iter().map(|n| n.name.clone()).collect();
        }
        let data = node_data(process.pid, process.start_ticks, &cx.inventory, directories, cluster).await?;
        if data.directory.is_empty() {
            return Err(ProbeError::Skip("its data directory is not known".to_owned()));
        }
        Ok(Evidence { server, data })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let finding = |old: &OldNode| -> Finding {
            let name = &judged.target.name;
            let host = old.name.split_once('@').map_or("", |(_, host)| host);
            let message = format!(
                "{} of messages of {} are in {} and are not served: {name} runs as {}",
                bytes(old.bytes),
                old.name,
                old.directory,
                e.data.node
            );
            e.server
                .finding(&OLD_NODE_DATA, Severity::Warn, judged.target, message)
                .part("node", &old.name)
                .weight(old.bytes)
                .cite("its hostname", host)
                .cite_opt("last write", old.modified.map(|at| ago(judged.taken_at, at)))
        };
        let findings = e.data.old.iter().map(finding).collect();
        Judgement { findings, ..Judgement::default() }
    }
}
