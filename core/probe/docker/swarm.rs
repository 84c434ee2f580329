//! Tasks of Docker Swarm.
//!
//! Swarm does not restart a container: a task that ended is replaced by a new one in its slot, and the engine keeps the last ones
//! (five by default, `docker swarm update --task-history-limit`) for their logs. A service that fails every 5 s would have a finding
//! for each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::model::ContainerRef;

/// Label of a task: `web.1.TASK`, or `web.NODE.TASK` for a global service.
const TASK_NAME: &str = "com.docker.swarm.task.name";

/// While the newest task runs, the slot is in a loop if two earlier ones were created within this time (judgement: Swarm delays a
/// replacement by 5 s by default, and most failures are immediate).
const LOOP_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// An entry of the container list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) container: ContainerRef,
    /// When it was created, if the engine reports it.
    pub(super) created: Option<Timestamp>,
}

/// The containers without the ended tasks that were replaced.
pub(super) fn without_history(list: Vec<Listed>, now: Timestamp) -> Vec<Listed> {
    let mut slots: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for container in &list {
        if let Some(slot) = slot(container) {
            slots.entry(slot).or_default().push(container);
        }
    }
    let replaced = slots.into_values().flat_map(|tasks| replaced(tasks, now));
    let replaced: HashSet<String> = replaced.map(|c| c.container.id.clone()).collect();
    list.into_iter().filter(|c| !replaced.contains(&c.container.id)).collect()
}

/// Service and slot of a task: `web.1`.
fn slot(listed: &Listed) -> Option<&str> {
    let (slot, _) = listed.container.labels.get(TASK_NAME)?.rsplit_once('.')?;
    Some(slot)
}

/// The replaced tasks of one slot. One ended task remains: the newest, unless the newest is about to be started.
fn replaced(mut tasks: Vec<&Listed>, now: Timestamp) -> Vec<&Listed> {
    tasks.sort_by_key(|c| Reverse(c.created));
    let ended: Vec<&Listed> = tasks.iter().copied().filter(|c| has_ended(c)).collect();
    let kept: Vec<&Listed> = match tasks.as_slice() {
        // waiting for the delay of its start; the start of the earlier one failed
        [newest, before, ..] if is_created(newest) && is_created(before) => vec![*before],
        [newest, before, ..] if is_created(newest) && has_ended(before) => vec![*newest, *before],
        [newest, ..] if has_ended(newest) => vec![*newest],
        _ if is_loop(&ended, now) => ended.iter().copied().take(1).collect(),
        _ => Vec::new(),
    };
    ended.into_iter().filter(|c| !kept.iter().any(|k| k.container.id == c.container.id)).collect()
}

fn is_created(listed: &Listed) -> bool {
    listed.container.state == "created"
}

/// Whether the container does not run, also if its start failed.
fn has_ended(listed: &Listed) -> bool {
    matches!(listed.container.state.as_str(), "created" | "exited" | "dead" | "removing")
}

/// Whether the last two of the ended tasks were created shortly before.
fn is_loop(ended: &[&Listed], now: Timestamp) -> bool {
    let second = ended.get(1).and_then(|c| c.created);
    second.is_some_and(|at| now.duration_since(at) <= LOOP_WINDOW)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::super::inspect;
    use super::*;
    use crate::model::{Gaps, Pick};

    const NOW: i64 = 1_000_000;

    /// A task of a slot with its age in seconds.
    fn task(slot: &str, id: &str, state: &str, age: i64) -> Listed {
        listed(&json!({
            "Id": id, "Names": [format!("/{slot}.{id}")], "State": state, "Created": NOW - age,
            "Labels": {
                "com.docker.swarm.service.name": "web", "com.docker.swarm.task": "",
                "com.docker.swarm.task.name": format!("{slot}.{id}"),
            },
        }))
    }

    fn listed(item: &Value) -> Listed {
        let gaps = Gaps::default();
        inspect::listed(&Pick::new(item, &gaps)).unwrap()
    }

    fn kept(list: Vec<Listed>) -> Vec<String> {
        let now = Timestamp::from_second(NOW).unwrap();
        without_history(list, now).into_iter().map(|c| c.container.id).collect()
    }

    #[test]
    fn failing_service_has_one_ended_task() {
        let exits = |n: i64| task("web.1", &format!("t{n}"), "exited", 8 * n);
        let failed = |n: i64| task("web.1", &format!("t{n}"), "created", 8 * n);
        // the start fails: the newest waits for its delay
        assert_eq!(kept((0..5).map(failed).collect()), ["t1"]);
        // the program exits
        assert_eq!(kept((1..5).map(exits).collect()), ["t1"]);
        assert_eq!(kept([failed(0)].into_iter().chain((1..5).map(exits)).collect()), ["t0", "t1"]);
        // the newest runs for the moment
        assert_eq!(kept([task("web.1", "t0", "running", 2)].into_iter().chain((1..5).map(exits)).collect()), ["t0", "t1"]);
    }

    #[test]
    fn ended_tasks_of_a_running_service_are_history() {
        let list = vec![
            task("web.1", "a", "running", 3000),
            task("web.1", "b", "exited", 3010),
            task("web.1", "c", "exited", 3020),
            task("web.2", "d", "running", 90),
            task("web.2", "e", "exited", 9000),
        ];
        assert_eq!(kept(list), ["a", "d"]);
    }

    #[test]
    fn other_slots_and_services_are_independent() {
        let list = vec![
            task("web.1", "a", "running", 90),
            task("web.2", "b", "exited", 100),
            task("api.1", "c", "exited", 100),
            task("web.k2", "d", "dead", 100),
        ];
        assert_eq!(kept(list), ["a", "b", "c", "d"]);
        let plain = listed(&json!({"Id": "p", "State": "exited"}));
        assert_eq!(kept(vec![plain.clone(), plain]), ["p", "p"]);
    }
}
