//! JSON of the management API and of the command line tools of RabbitMQ (3.8 to 4.x), read value by value.
//!
//! Erlang terms become JSON as they are: a value that is not known is the text `undefined`, `unknown` or `NaN`, a disabled monitor
//! reports `disk_free_monitoring_disabled` instead of a number, and an alarm is an object, a list or a sentence, depending on the
//! version. A node or a queue with an odd value costs that value; a missing value that the checks need is named in [`Facts::gaps`].

use serde_json::Value;

use super::rabbitmq::{Facts, Node, Queue};
use crate::model::{Gaps, Pick};

/// Address of a connection, and whether its publishers are blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectionOf {
    /// Client address: `10.0.0.3:40112`.
    pub(super) client: Option<String>,
    /// Name and user of a blocked connection.
    pub(super) blocked: Option<String>,
}

/// The nodes in the reply to `GET /api/nodes`; `None` if it is no list.
pub(super) fn nodes(reply: &Value, gaps: &mut Vec<String>) -> Option<Vec<Node>> {
    let list = reply.as_array()?;
    let mut found = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let name = item.get("name").and_then(Value::as_str).map_or_else(|| format!("node {}", i + 1), str::to_owned);
        let unexpected = Gaps::new(&name);
        let pick = Pick::new(item, &unexpected);
        if pick.is_object() {
            found.push(node(&pick, name, &unexpected));
        }
        gaps.extend(unexpected.into_sentences());
    }
    Some(found)
}

fn node(pick: &Pick<'_>, name: String, unexpected: &Gaps) -> Node {
    let running = pick.flag("running");
    if running.is_none() {
        unexpected.add("running is not reported");
    }
    // a node that is down reports nothing else
    let alarm = |field: &str| {
        let found = pick.flag(field);
        if found.is_none() && running != Some(false) {
            unexpected.add(&format!("{field} is not reported"));
        }
        found.unwrap_or(false)
    };
    // a number that is not known is only missing in texts: it is not a gap
    let quiet = Gaps::default();
    let number = |field: &str| Pick::new(pick.value(), &quiet).count(field).unwrap_or(0);
    Node {
        name,
        running: running.unwrap_or(true),
        mem_alarm: alarm("mem_alarm"),
        disk_free_alarm: alarm("disk_free_alarm"),
        mem_used: number("mem_used"),
        mem_limit: number("mem_limit"),
        disk_free: number("disk_free"),
        disk_free_limit: number("disk_free_limit"),
        fd_used: number("fd_used"),
        fd_total: number("fd_total"),
        sockets_used: number("sockets_used"),
        sockets_total: number("sockets_total"),
        partitions: pick.texts("partitions"),
        db_dir: pick.text("db_dir").unwrap_or_default(),
    }
}

/// The queues in the reply to `GET /api/queues` (a page or a list) or of `list_queues`; `None` if it is neither.
pub(super) fn queues(reply: &Value, gaps: &mut Vec<String>) -> Option<Vec<Queue>> {
    let unexpected = Gaps::new("queues");
    let root = Pick::new(reply, &unexpected);
    let is_page = reply.get("items").is_some_and(Value::is_array);
    let items = if is_page { root.list("items") } else { root.items() };
    if !is_page && !reply.is_array() {
        return None;
    }
    let mut found = Vec::new();
    for item in items.iter().filter(|item| item.is_object()) {
        if let Some(name) = item.text("name") {
            found.push(Queue {
                name,
                vhost: item.text("vhost").unwrap_or_default(),
                // absent while the statistics are disabled, and for a queue without a leader
                ready: item.count("messages_ready").unwrap_or(0),
                unacked: item.count("messages_unacknowledged").unwrap_or(0),
                consumers: item.count("consumers"),
                state: item.text("state").unwrap_or_default(),
                kind: item.text("type").unwrap_or_default(),
            });
        } else {
            unexpected.add("a queue without a name was left out");
        }
    }
    gaps.extend(unexpected.into_sentences());
    Some(found)
}

/// Queue name and virtual host of each consumer in the reply to `GET /api/consumers`; `None` if it is no list.
pub(super) fn consumers(reply: &Value) -> Option<Vec<(String, String)>> {
    let text = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let consumer = |v: &Value| Some((text(v, "/queue/name")?, text(v, "/queue/vhost")?));
    Some(reply.as_array()?.iter().filter_map(consumer).collect())
}

/// The connections in the reply to `GET /api/connections`.
pub(super) fn connections(reply: &Value) -> Vec<ConnectionOf> {
    let text = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let connection = |v: &Value| {
        let (name, state) = (text(v, "name"), text(v, "state"));
        ConnectionOf {
            client: name.split_once(" -> ").map(|(client, _)| client.to_owned()),
            blocked: matches!(state.as_str(), "blocked" | "blocking").then(|| format!("{name} ({})", text(v, "user"))),
        }
    };
    reply.as_array().into_iter().flatten().map(connection).collect()
}

/// The document in the output of a command line tool: warnings and headings may precede it.
pub(super) fn document(output: &str) -> Option<Value> {
    let begins = |line: &str| line.starts_with(['{', '[']);
    let mut at = 0;
    for line in output.split_inclusive('\n') {
        if begins(line.trim_start())
            && let Some(Ok(value)) = serde_json::Deserializer::from_str(&output[at..]).into_iter::<Value>().next()
            && (value.is_object() || value.is_array())
        {
            return Some(value);
        }
        at += line.len();
    }
    None
}

/// The facts in `rabbitmq-diagnostics status --formatter json`, for the node with this name.
pub(super) fn status(reply: &Value, node: String, queues: Vec<Queue>, gaps: &mut Vec<String>) -> Facts {
    let unexpected = Gaps::new(&node);
    let pick = Pick::new(reply, &unexpected);
    if pick.get("alarms").is_missing() {
        unexpected.add("its alarms are not reported");
    }
    let alarms = pick.list("alarms");
    let of = |resource: &str| alarms.iter().any(|alarm| is_alarm(alarm.value(), resource));
    let quiet = Gaps::default();
    let details = Pick::new(reply, &quiet);
    let number = |of: &Pick<'_>, field: &str| of.count(field).unwrap_or(0);
    let total = details.get("memory").get("total");
    let mem_used = if total.value().is_object() { number(&total, "rss") } else { number(&details.get("memory"), "total") };
    let descriptors = details.get("file_descriptors");
    let mut facts = Facts {
        source: "rabbitmqctl".to_owned(),
        nodes: vec![Node {
            running: true,
            mem_alarm: of("memory"),
            disk_free_alarm: of("disk"),
            mem_used,
            mem_limit: number(&details, "vm_memory_high_watermark_limit"),
            disk_free: number(&details, "disk_free"),
            disk_free_limit: number(&details, "disk_free_limit"),
            fd_used: number(&descriptors, "total_used"),
            fd_total: number(&descriptors, "total_limit"),
            sockets_used: number(&descriptors, "sockets_used"),
            sockets_total: number(&descriptors, "sockets_limit"),
            partitions: Vec::new(),
            db_dir: details.text("data_directory").unwrap_or_default(),
            name: node,
        }],
        queues,
        log_files: details.texts("log_files"),
        ..Facts::default()
    };
    for queue in facts.queues.iter_mut().filter(|q| q.vhost.is_empty()) {
        "/".clone_into(&mut queue.vhost);
    }
    facts.queues.sort_by_key(|q| std::cmp::Reverse(q.ready.saturating_add(q.unacked)));
    gaps.extend(unexpected.into_sentences());
    facts
}

/// Whether an alarm is about this resource, `memory` or `disk`: `{"resource": "memory", "node": …}`, the term
/// `[["resource_limit","memory","rabbit@a"],[]]`, `Memory alarm on node rabbit@a`. The name of the node proves nothing.
fn is_alarm(alarm: &Value, resource: &str) -> bool {
    match alarm {
        Value::Object(fields) => match fields.get("resource") {
            Some(named) => named.as_str().is_some_and(|r| r.eq_ignore_ascii_case(resource)),
            None => fields.iter().any(|(key, value)| key != "node" && is_alarm(value, resource)),
        },
        Value::Array(parts) => parts.iter().any(|part| is_alarm(part, resource)),
        Value::String(text) => {
            let words = text.split(" on node ").next().unwrap_or_default().to_ascii_lowercase();
            // a sentence, or the bare resource; a name of a node has neither a space nor only this word
            words == resource || (words.contains(' ') && words.split(' ').any(|word| word == resource))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;
    use crate::corpus;

    fn words(words: &[&str]) -> String {
        words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn corpus_of_nodes() {
        let node = |n: &Node| {
            let apart = n.partitions.iter().map(|other| format!("apart {other}")).collect::<Vec<_>>().join(" ");
            let state = if n.running { "running" } else { "down" };
            let memory = if n.mem_alarm { "memory" } else { "" };
            words(&[&n.name, state, memory, if n.disk_free_alarm { "disk" } else { "" }, &apart])
        };
        let limits = |n: &Node| format!("mem {} disk {} fd {}", n.mem_limit, n.disk_free_limit, n.fd_total);
        corpus::check("rabbitmq-nodes", 15, |text| {
            let mut gaps = Vec::new();
            let found = nodes(&serde_json::from_str(text).unwrap(), &mut gaps).unwrap();
            let all = |show: &dyn Fn(&Node) -> String| found.iter().map(show).collect::<Vec<_>>().join("; ");
            vec![("nodes", all(&node)), ("limits", all(&limits)), ("gaps", gaps.join("; "))]
        });
    }

    #[test]
    fn corpus_of_queues() {
        let queue = |q: &Queue| {
            let consumers = q.consumers.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let counts = format!("{} {} consumers {consumers}", q.ready, q.unacked);
            words(&[&q.vhost, &q.name, &counts, &q.state, &q.kind])
        };
        corpus::check("rabbitmq-queues", 16, |text| {
            let mut gaps = Vec::new();
            let found = queues(&document(text).unwrap(), &mut gaps).unwrap();
            vec![("queues", found.iter().map(queue).collect::<Vec<_>>().join("; ")), ("gaps", gaps.join("; "))]
        });
    }

    #[test]
    fn corpus_of_the_tools() {
        let number = |n: u64| if n == 0 { String::new() } else { n.to_string() };
        corpus::check("rabbitmq-status", 11, |text| {
            let mut gaps = Vec::new();
            let facts = status(&document(text).unwrap(), "rabbit@a".to_owned(), Vec::new(), &mut gaps);
            let node = &facts.nodes[0];
            let memory = if node.mem_alarm { "memory" } else { "" };
            let alarms = words(&[memory, if node.disk_free_alarm { "disk" } else { "" }]);
            let gaps = gaps.join("; ");
            vec![("alarms", alarms), ("disk", number(node.disk_free)), ("memory", number(node.mem_used)), ("gaps", gaps)]
        });
    }

    #[test]
    fn alarm_is_not_read_from_the_name_of_a_node() {
        let memory = [
            json!({"resource": "memory", "node": "rabbit@disk-1"}),
            json!([["resource_limit", "memory", "rabbit@disk"], []]),
            json!("Memory alarm on node rabbit@disk"),
            json!({"type": ["resource_limit", "memory"], "node": "rabbit@disk"}),
        ];
        for alarm in memory {
            assert!(is_alarm(&alarm, "memory") && !is_alarm(&alarm, "disk"), "{alarm}");
        }
        for alarm in [json!({"resource": "disk", "node": "rabbit@memory"}), json!("Free disk space alarm on node rabbit@memory")]
        {
            assert!(is_alarm(&alarm, "disk") && !is_alarm(&alarm, "memory"), "{alarm}");
        }
        assert!(!is_alarm(&json!("file_descriptor_limit"), "disk") && !is_alarm(&Value::Null, "memory"));
    }

    #[test]
    fn disabled_monitor_costs_its_number_only() {
        let reply = json!([{"name": "rabbit@a", "running": true, "mem_alarm": false, "disk_free_alarm": false, "fd_total": 1024,
            "disk_free": "disk_free_monitoring_disabled", "disk_free_limit": "disk_free_monitoring_disabled", "fd_used": "unknown"}, "odd"]);
        let mut gaps = Vec::new();
        let found = nodes(&reply, &mut gaps).unwrap();
        assert_eq!((found.len(), found[0].fd_total, found[0].disk_free), (1, 1024, 0));
        assert_eq!(gaps, ["node 2: the reply is \"odd\", not an object"]);
    }

    #[test]
    fn alarm_that_is_not_reported_is_a_gap() {
        let mut gaps = Vec::new();
        let found = nodes(&json!([{"name": "rabbit@a", "running": true, "mem_alarm": null, "disk_free_alarm": "?"}]), &mut gaps);
        assert!(!found.unwrap()[0].mem_alarm);
        assert_eq!(gaps.len(), 3, "{gaps:?}");
        gaps.clear();
        // only its name and type are known
        nodes(&json!([{"name": "rabbit@b", "running": false, "type": "disc", "partitions": []}]), &mut gaps).unwrap();
        assert!(gaps.is_empty(), "{gaps:?}");
    }

    #[test]
    fn queue_without_messages_is_kept() {
        let reply = json!({"items": [{"name": "a", "vhost": "/"}, {"name": "b", "messages_ready": "", "consumers": "", "state": "down"}, {}]});
        let mut gaps = Vec::new();
        let found = queues(&reply, &mut gaps).unwrap();
        let found: Vec<_> = found.iter().map(|q| (q.name.as_str(), q.ready, q.consumers)).collect();
        assert_eq!(found, [("a", 0, None), ("b", 0, None)]);
        assert_eq!(gaps, ["queues: a queue without a name was left out"]);
    }

    #[test]
    fn document_behind_warnings() {
        let output = "warning: the VM is running with native name encoding of latin1\n[not json\n[\n{\"name\":\"q\"}\n,{\"name\":\"r\"}\n]\n";
        assert_eq!(document(output).unwrap().as_array().unwrap().len(), 2);
        assert_eq!((document("Error: unable to connect\n"), document("")), (None, None));
    }
}
