//! Data of earlier nodes beside that of a RabbitMQ node.
//!
//! A node keeps its data in a directory of its own name, `mnesia/rabbit@HOST` (rabbitmq.com, "File and Directory Locations"). A
//! container without a fixed hostname has another name each time it is created: it starts empty, and its messages stay in the
//! directory of the old name (docker-library/rabbitmq#51, #106, #391; rabbitmq/rabbitmq-server#8582).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::rabbitmq::{is_node_name, node_of};
use crate::model::{Inventory, Product};
use crate::probe::io::{Root, clock};
use crate::probe::kernel::tasks;
use crate::probe::{Io, ProbeError, blocking};

/// Timeout of the search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Entries of a directory of an old node that are read (judgement).
const MAX_ENTRIES: usize = 3000;

/// Depth below it: `msg_stores/vhosts/HASH/queues/QUEUE`.
const MAX_DEPTH: usize = 6;

/// Old nodes that are read (judgement).
const MAX_NODES: usize = 8;

/// Suffixes of directories that belong to a node and hold no messages.
const SATELLITES: &[&str] = &["-plugins-expand", "-feature_flags", "-rename"];

/// The data of a node that does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OldNode {
    /// `rabbit@9f6c1a0b7d3e`.
    pub name: String,
    /// Its directory, as the present node sees it.
    pub directory: String,
    /// Bytes of its message stores and queues.
    pub bytes: u64,
    /// Last write to them.
    pub modified: Option<Timestamp>,
}

/// The data directory of a node, and the old ones beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeData {
    /// Name of the node that runs.
    pub node: String,
    /// Its directory; empty if it was not found.
    pub directory: String,
    /// Nodes of the same name on other hosts, with messages that were last written before this node was started.
    pub old: Vec<OldNode>,
}

/// The data of the node of a process. `reported` are directories that the node itself reports, `cluster` the names of the nodes of
/// its cluster.
pub async fn node_data(
    pid: i32,
    start_ticks: u64,
    inventory: &Inventory,
    reported: Vec<String>,
    cluster: Vec<String>,
) -> Result<NodeData, ProbeError> {
    let brokers = inventory.servers.iter().filter(|s| s.product == Product::Rabbitmq);
    let others: Vec<i32> = brokers.filter_map(|s| s.process).map(|p| p.pid).filter(|other| *other != pid).collect();
    let since_boot = i64::try_from(tasks::seconds(start_ticks)).unwrap_or(i64::MAX);
    let started = clock::boot_time().checked_add(SignedDuration::from_secs(since_boot)).ok();
    blocking::run("data of a node", &format!("process {pid}"), SEARCH_TIMEOUT, move |io| {
        let Some((node, home)) = node_of(io, pid) else { return NodeData::default() };
        let mut known = cluster;
        known.extend(others.iter().filter_map(|other| Some(node_of(io, *other)?.0)));
        let base = base_of(io, pid).unwrap_or_else(|| format!("{home}/mnesia"));
        let candidates = reported.into_iter().chain([format!("{base}/{node}")]);
        let Ok(root) = Root::of(io, pid) else { return NodeData::default() };
        let is_directory = |path: &str| root.metadata(path).is_ok_and(|m| m.is_dir());
        let own = candidates.filter(|dir| dir.ends_with(&format!("/{node}"))).find(|dir| is_directory(dir));
        let Some(directory) = own else { return NodeData { node, ..NodeData::default() } };
        let parent = directory.rsplit_once('/').map_or("/", |(parent, _)| parent).to_owned();
        let names = root.names(parent.as_ref());
        let old = names.into_iter().filter(|name| is_old(name, &node, &known)).take(MAX_NODES);
        let read = |name: String| {
            let directory = format!("{parent}/{name}");
            let (bytes, modified) = is_directory(&directory).then(|| messages(&root, &directory))?;
            (bytes > 0 && (started.is_none() || modified < started)).then_some(OldNode { name, directory, bytes, modified })
        };
        let old = old.filter_map(read).collect();
        NodeData { node, directory, old }
    })
    .await
}

/// `RABBITMQ_MNESIA_BASE` of the process.
fn base_of(io: &Io, pid: i32) -> Option<String> {
    let environ = io.read_lossy(format!("/proc/{pid}/environ")).ok()?;
    environ.split('\0').find_map(|e| e.strip_prefix("RABBITMQ_MNESIA_BASE=")).filter(|b| b.starts_with('/')).map(str::to_owned)
}

/// Whether a name is that of the same node on another host. Several nodes of one host have other names before the `@`.
fn is_old(name: &str, node: &str, known: &[String]) -> bool {
    let (Some((old, old_host)), Some((own, host))) = (name.split_once('@'), node.split_once('@')) else { return false };
    let is_satellite = SATELLITES.iter().any(|suffix| name.ends_with(suffix));
    // a fully qualified name of the same host
    let is_same_host = old_host.split('.').next() == host.split('.').next();
    is_node_name(name) && old == own && !is_same_host && !is_satellite && !known.iter().any(|k| k == name)
}

/// Bytes of messages below the directory of a node, and their last write.
fn messages(root: &Root, directory: &str) -> (u64, Option<Timestamp>) {
    let (mut bytes, mut modified, mut left) = (0_u64, None, MAX_ENTRIES);
    let mut pending = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        for name in root.names(directory.as_ref()) {
            if left == 0 {
                return (bytes, modified);
            }
            left -= 1;
            let path = format!("{directory}/{name}");
            let Ok(metadata) = root.metadata(&path) else { continue };
            if metadata.is_dir() {
                // the metadata store of 4.x has the file format of quorum queues
                if depth < MAX_DEPTH && name != "coordination" {
                    pending.push((path, depth + 1));
                }
            } else if metadata.is_file() && holds_messages(&name, metadata.len()) {
                bytes = bytes.saturating_add(metadata.len());
                modified = modified.max(metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok()));
            }
        }
    }
    (bytes, modified)
}

/// Whether a file of this name and size holds messages. Headers, and journals with acknowledged messages only, are small
/// (judgement).
fn holds_messages(name: &str, bytes: u64) -> bool {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rdq" | "idx" | "qs" | "segment") => bytes > 64,
        Some("jif" | "wal") => bytes > 4096,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_the_same_name_on_other_hosts() {
        let old = |name: &str| is_old(name, "rabbit@new", &["rabbit@peer".to_owned()]);
        assert!(old("rabbit@9f6c1a0b7d3e"));
        for other in
            ["rabbit@new", "rabbit@new.example.com", "rabbit2@new", "hare@old", "rabbit@peer", "rabbit@old-plugins-expand"]
        {
            assert!(!old(other), "{other}");
        }
        assert!(!old("rabbit") && !old("rabbit@") && !old("rabbit@$(x)"));
    }

    #[test]
    fn files_with_messages() {
        assert!(holds_messages("0.rdq", 4096) && holds_messages("7.qs", 90) && holds_messages("journal.jif", 30_000));
        for (name, bytes) in [("0.rdq", 0), ("journal.jif", 300), ("00000001.wal", 5), ("recovery.dets", 5464), ("x", 9)] {
            assert!(!holds_messages(name, bytes), "{name}");
        }
    }
}
