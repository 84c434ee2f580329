//! Alarms, blocked publishers, partitions and file descriptors.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
    quantity::{bytes, count, percent},
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::servers::rabbitmq::{Facts, FactsError, Node};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, facts};
use crate::shared::servers::{Server, filesystem_at};

const ALARMS: Code = Code {
    id: "rabbitmq.alarms",
    severities: &[Severity::Crit],
    when: "a node is above its memory watermark or below its free disk limit: publishers are blocked on every node, while consumers continue and the node looks healthy",
    hint: "drain the queues or add memory or disk; raising the watermark only postpones the alarm",
    impacts: &[Impact::confirmed(Role::RejectsWrites, KeyKind::Server, "broker rejects messages")],
    ..Code::BASE
};
const BLOCKED: Code = Code {
    id: "rabbitmq.blocked-connections",
    severities: &[Severity::Warn],
    when: "connections are blocked from publishing",
    hint: "the cause is an alarm, or without one flow control: a queue or the disk is slower than the publishers",
    ..Code::BASE
};
const PARTITION: Code = Code {
    id: "rabbitmq.partition",
    severities: &[Severity::Crit],
    when: "nodes of the cluster cannot reach each other, or a node is down",
    hint: "choose the partition to keep, then restart the nodes of the other: `rabbitmqctl stop_app; rabbitmqctl start_app`",
    ..Code::BASE
};
const FDS: Code = Code {
    id: "rabbitmq.fds",
    severities: &[Severity::Warn],
    when: "{descriptors_warn_percent} of its file descriptors or sockets are in use",
    hint: "find the client that opens a connection per message; then raise LimitNOFILE",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.node",
    title: "RabbitMQ publishers are not blocked and the cluster is not partitioned",
    codes: &[ALARMS, BLOCKED, PARTITION, FDS],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct NodeCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    facts: Facts,
    /// The reason for missing facts.
    gap: Option<String>,
    /// The filesystem of its data directory.
    space: Option<FsUsage>,
}

impl Check for NodeCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Rabbitmq)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        match facts(cx, target).await? {
            Ok(facts) => {
                let dir = facts.nodes.first().map(|n| n.db_dir.clone()).filter(|d| d.starts_with('/'));
                let alarm = facts.nodes.iter().any(|n| n.disk_free_alarm);
                let space = match dir.filter(|_| alarm) {
                    Some(dir) => filesystem_at(cx, &server, &dir).await,
                    None => None,
                };
                Ok(Evidence { server, facts: (*facts).clone(), space, ..Evidence::default() })
            }
            Err(FactsError::Login(why)) => {
                let line = format!("[[server]] name = \"{}\" user = \"…\" password = \"${{RABBITMQ_PASSWORD}}\"", target.name);
                let gap = Some(format!("{why}; add to the configuration (the user needs the tag monitoring): {line}"));
                Ok(Evidence { server, gap, ..Evidence::default() })
            }
            Err(FactsError::Unavailable(why)) => Ok(Evidence { server, gap: Some(why), ..Evidence::default() }),
        }
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.facts.nodes.iter().flat_map(|n| alarms(judged, e, n)).collect();
        findings.extend(blocked(judged, e, !findings.is_empty()));
        findings.extend(partition(judged, e));
        findings.extend(e.facts.nodes.iter().filter_map(|n| self.fds(judged, e, n)));
        let gap = e.gap.iter().map(|why| format!("{} does not report its state: {why}", judged.target.name));
        let gaps = gap.chain(e.facts.gaps.iter().cloned()).collect();
        Judgement { findings, gaps, ..Judgement::default() }
    }
}

/// ` (rabbit@b)` in a cluster; empty for a single node.
fn of(e: &Evidence, node: &Node) -> String {
    if e.facts.nodes.len() > 1 { format!(" ({})", node.name) } else { String::new() }
}

fn alarms(judged: &Judged<'_>, e: &Evidence, node: &Node) -> Vec<Finding> {
    let name = format!("{}{}", judged.target.name, of(e, node));
    let finding = |message: String| {
        let published: Vec<&str> = e.facts.blocked.iter().take(5).map(String::as_str).collect();
        e.server
            .finding(&ALARMS, Severity::Crit, judged.target, message)
            .cite("blocked connections", published.join("\n"))
            .cite("source", &e.facts.source)
    };
    let mut findings = Vec::new();
    if node.mem_alarm {
        findings.push(
            finding(match node.mem_limit {
                0 => format!("{name} is above its memory watermark: all publishers are blocked"),
                limit => format!(
                    "{name} uses {} of memory, watermark {}: all publishers are blocked",
                    bytes(node.mem_used),
                    bytes(limit)
                ),
            })
            .key(KeyKind::Host, "host"),
        );
    }
    if node.disk_free_alarm {
        let message = match node.disk_free_limit {
            0 => format!("{name} is below its free disk limit: all publishers are blocked"),
            limit => {
                format!("{name} has {} of disk left, limit {}: all publishers are blocked", bytes(node.disk_free), bytes(limit))
            }
        };
        let tied = finding(message);
        findings.push(match &e.space {
            Some(space) => tied.key(KeyKind::Filesystem, &space.dev),
            None => tied,
        });
    }
    findings
}

fn blocked(judged: &Judged<'_>, e: &Evidence, alarm: bool) -> Option<Finding> {
    // with an alarm they are evidence of the alarm's finding
    (!alarm && !e.facts.blocked.is_empty()).then(|| {
        let message = format!("{} of {} blocked from publishing", count(e.facts.blocked.len(), "connection"), judged.target.name);
        let names: Vec<&str> = e.facts.blocked.iter().take(5).map(String::as_str).collect();
        e.server.finding(&BLOCKED, Severity::Warn, judged.target, message).cite("connections", names.join("\n"))
    })
}

fn partition(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let apart: Vec<String> = e
        .facts
        .nodes
        .iter()
        .filter(|n| !n.partitions.is_empty())
        .map(|n| format!("{} cannot reach {}", n.name, n.partitions.join(", ")))
        .collect();
    let down: Vec<String> = e.facts.nodes.iter().filter(|n| !n.running).map(|n| format!("{} is down", n.name)).collect();
    let faults: Vec<String> = apart.into_iter().chain(down).collect();
    (!faults.is_empty()).then(|| {
        let message = format!("the cluster of {} is degraded: {}", judged.target.name, faults.join("; "));
        e.server.finding(&PARTITION, Severity::Crit, judged.target, message)
    })
}

impl NodeCheck {
    fn fds(&self, judged: &Judged<'_>, e: &Evidence, node: &Node) -> Option<Finding> {
        let share = |used: u64, total: u64| used as f64 * 100.0 / total.max(1) as f64;
        let pairs = [("file descriptors", node.fd_used, node.fd_total), ("sockets", node.sockets_used, node.sockets_total)];
        let limit = self.settings.descriptors_warn_percent;
        let (resource, used, total) = pairs.into_iter().find(|(_, used, total)| *total > 0 && share(*used, *total) >= limit)?;
        let message = format!(
            "{}{} has {used} of {total} {resource} in use, {}, limit {}",
            judged.target.name,
            of(e, node),
            percent(share(used, total)),
            percent(limit)
        );
        Some(e.server.finding(&FDS, Severity::Warn, judged.target, message))
    }
}
