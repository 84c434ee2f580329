//! Created, started, stopped and removed containers: from the engine's state of existing ones, and from its events for others.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Change, ChangeKind};
use crate::probe::docker::{Container, Event};
use crate::probe::{ProbeCx, ProbeError};

/// A start this soon after the creation or after a requested restart is part of the same change.
const SAME_CHANGE_WINDOW: SignedDuration = SignedDuration::from_secs(60);

pub(super) async fn read(cx: &ProbeCx, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let docker = cx.docker()?;
    let events = docker.events_since(since).await?;
    // most have been inspected by a check already; one that was removed meanwhile has an event
    let containers = join_all(cx.inventory.containers.iter().map(|c| docker.inspect(&c.id))).await;
    let containers: Vec<Arc<Container>> = containers.into_iter().filter_map(Result::ok).collect();
    Ok(changes(&containers, &events, since))
}

fn changes(containers: &[Arc<Container>], events: &[Event], since: Timestamp) -> Vec<Change> {
    let change =
        |at, name: &str, description: String| Change::new(at, ChangeKind::Container, format!("container:{name}"), description);
    let mut found = Vec::new();
    for c in containers {
        if let Some(at) = c.created.filter(|at| *at >= since) {
            found.push(change(at, &c.name, created(c, events)));
        }
        // an automatic restart by the engine is an effect, not a change
        let by_hand = c.state.started_at.filter(|at| *at >= since && c.restart_count == 0);
        let reported = |at: Timestamp| {
            let new = c.created.is_some_and(|created| at.duration_since(created) < SAME_CHANGE_WINDOW);
            let requested = |e: &&Event| e.container == c.id && matches!(e.action.as_str(), "restart" | "unpause");
            new || events.iter().filter(requested).any(|e| e.at.duration_since(at).abs() < SAME_CHANGE_WINDOW)
        };
        if let Some(at) = by_hand.filter(|at| !reported(*at)) {
            found.push(change(at, &c.name, "started".to_owned()));
        }
    }
    for e in events {
        let Some(name) = &e.name else { continue };
        let description = match e.action.as_str() {
            // a restart includes a stop
            "stop" if events.iter().any(|r| r.container == e.container && r.action == "restart" && soon(e.at, r.at)) => continue,
            "stop" => "stopped",
            "restart" => "restarted",
            "pause" => "paused",
            "unpause" => "unpaused",
            "update" => "limits updated",
            // a recreated container is reported as such
            "destroy" if containers.iter().all(|c| c.name != *name) => "removed",
            _ => continue,
        };
        found.push(change(e.at, name, description.to_owned()));
    }
    found
}

/// Whether the second came after the first and within [`SAME_CHANGE_WINDOW`].
fn soon(first: Timestamp, second: Timestamp) -> bool {
    let after = second.duration_since(first);
    !after.is_negative() && after < SAME_CHANGE_WINDOW
}

/// Description of a creation: with the previous image if a container of this name existed before.
fn created(c: &Container, events: &[Event]) -> String {
    let earlier = events.iter().filter(|e| e.container != c.id && e.name.as_deref() == Some(&c.name));
    match earlier.max_by_key(|e| e.at).map(|e| e.image.as_deref()) {
        Some(Some(image)) if image != c.image => format!("recreated from image {}, before {image}", c.image),
        Some(_) => format!("recreated from image {}, as before", c.image),
        None => format!("created from image {}", c.image),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::probe::docker::State;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn container(id: &str, name: &str, created: i64, started: i64) -> Arc<Container> {
        let state = State { started_at: Some(at(started)), ..State::default() };
        let (id, name, image) = (id.to_owned(), name.to_owned(), "shop:2".to_owned());
        Arc::new(Container { id, name, image, created: Some(at(created)), state, ..Container::default() })
    }

    fn event(id: &str, name: &str, action: &str, second: i64) -> Event {
        let image = Some("shop:1".to_owned());
        let (container, action, name) = (id.to_owned(), action.to_owned(), Some(name.to_owned()));
        Event { at: at(second), container, action, signal: None, exit_code: None, name, image }
    }

    fn described(containers: &[Arc<Container>], events: &[Event]) -> Vec<String> {
        changes(containers, events, at(0)).iter().map(Change::summary).collect()
    }

    #[test]
    fn recreated_container_names_both_images() {
        let web = [container("new", "web", 100, 101)];
        let events = [event("old", "web", "stop", 98), event("old", "web", "destroy", 99), event("new", "web", "start", 101)];
        assert_eq!(
            described(&web, &events),
            ["container:web recreated from image shop:2, before shop:1", "container:web stopped"]
        );
        assert_eq!(described(&web, &[]), ["container:web created from image shop:2"]);
        assert_eq!(described(&[], &events[1..]), ["container:web removed"]);
    }

    #[test]
    fn start_is_reported_once_and_automatic_restart_is_not() {
        let old = container("a", "web", -1000, 100);
        assert_eq!(described(std::slice::from_ref(&old), &[]), ["container:web started"]);
        assert_eq!(described(std::slice::from_ref(&old), &[event("a", "web", "restart", 101)]), ["container:web restarted"]);
        let restart = [event("a", "web", "stop", 99), event("a", "web", "restart", 101)];
        assert_eq!(described(std::slice::from_ref(&old), &restart), ["container:web restarted"]);
        let stops = [event("a", "web", "restart", 20), event("a", "web", "stop", 99)];
        assert_eq!(described(&[], &stops), ["container:web restarted", "container:web stopped"]);
        let looping = Arc::new(Container { restart_count: 3, ..(*old).clone() });
        assert!(described(&[looping], &[event("a", "web", "die", 99), event("a", "web", "start", 100)]).is_empty());
    }
}
