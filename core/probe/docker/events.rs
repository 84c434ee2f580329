//! Recent events of the engine.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::encoded;
use super::{Docker, daemon};
use crate::model::{Gaps, Pick};
use crate::probe::ProbeError;
use crate::probe::io::clock;
use crate::probe::systemd::Systemd;

/// An event of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time.
    pub at: Timestamp,
    /// Full container id.
    pub container: String,
    /// `start`, `die`, `kill`, `stop`, `oom`, `restart`, `pause`, …
    pub action: String,
    /// Signal number of a `kill`.
    pub signal: Option<String>,
    /// Exit code of a `die`.
    pub exit_code: Option<String>,
    /// Name of the container at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its image reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// The events that an engine still has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventMemory {
    /// Lifecycle events of containers.
    pub events: Vec<Event>,
    /// Time from which they are complete; `None` if unknown, as with Podman.
    pub since: Option<Timestamp>,
    /// Start of the engine; with Podman, which has no daemon, of the host. `None` if unknown.
    pub engine_since: Option<Timestamp>,
}

/// Number of events of all kinds that Docker keeps in memory (moby daemon/events: `eventsLimit`). A health test adds three per run.
const MAX_EVENTS: usize = 256;

/// Actions of the container lifecycle; health probes alone (`exec_*`) would fill the list. `died` and `remove` are Podman's names.
const ACTIONS: &[&str] =
    &["create", "start", "die", "died", "kill", "stop", "oom", "restart", "pause", "unpause", "destroy", "remove", "update"];

pub(super) fn an_hour_ago() -> Timestamp {
    clock::now().checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The parameter that ends the stream after the stored events.
fn end(docker: &Docker) -> String {
    let now = clock::now();
    if docker.is_podman() {
        // with `until` Podman 4 returns at most one event (podman#10474)
        "stream=false".to_owned()
    } else {
        // with `until` in the past the engine sends its stored events and closes the stream; with the fraction, to include events
        // of the current second
        format!("until={}.{:09}", now.as_second(), now.subsec_nanosecond())
    }
}

/// All events that the engine has, without a filter: only their number shows how far its memory reaches.
pub(super) async fn memory(docker: &Docker, systemd: Option<&Systemd>) -> Result<EventMemory, ProbeError> {
    if docker.is_podman() {
        // its log has no limit, may be that of the journal, and lacks stops (podman#10539)
        let engine_since = (!docker.is_remote()).then(clock::boot_time);
        return Ok(EventMemory { engine_since, ..EventMemory::default() });
    }
    let engine_since = daemon::started(docker, systemd).await;
    let response = docker.read_text("all events", &format!("/events?since=1&{}", end(docker))).await?;
    Ok(memory_of(&response, engine_since))
}

fn memory_of(response: &str, engine_since: Option<Timestamp>) -> EventMemory {
    // an odd event of another kind hides nothing about a container
    let mut events = events(response, &Gaps::default());
    let oldest = events.iter().map(|event| event.at).min();
    let stored = response.lines().filter(|line| line.contains('{')).count();
    let since = if stored < MAX_EVENTS { engine_since.or(oldest) } else { oldest };
    events.retain(|event| ACTIONS.contains(&event.action.as_str()));
    EventMemory { events, since, engine_since }
}

pub(super) async fn since(docker: &Docker, since: Timestamp) -> Result<Vec<Event>, ProbeError> {
    let filters = serde_json::json!({"type": ["container"], "event": ACTIONS}).to_string();
    let path = format!("/events?since={}&{}&filters={}", since.as_second(), end(docker), encoded(&filters));
    let response = docker.read_text("recent events", &path).await?;
    let gaps = Gaps::new("recent events");
    let events = events(&response, &gaps);
    docker.add_gaps(gaps);
    Ok(events)
}

/// The events in a sequence of JSON values: one on each line, since API 1.52 also with a record separator (RFC 7464). Values that
/// are no events of a container are omitted.
pub(super) fn events(response: &str, gaps: &Gaps) -> Vec<Event> {
    let mut events = Vec::new();
    for line in response.lines() {
        for value in serde_json::Deserializer::from_str(line.trim_start_matches('\u{1e}')).into_iter::<Value>() {
            // the rest of the line is not JSON
            let Ok(value) = value else {
                gaps.add("a line is not JSON");
                break;
            };
            events.extend(event(&Pick::new(&value, gaps)));
        }
    }
    events
}

fn event(message: &Pick<'_>) -> Option<Event> {
    if !message.is_object() {
        return None;
    }
    let actor = message.get("Actor");
    let attributes = actor.get("Attributes");
    let text = |pick: &Pick<'_>, name: &str| pick.text(name).filter(|text| !text.is_empty());
    let nanoseconds = message.int("timeNano").filter(|n| *n > 0).and_then(|n| Timestamp::from_nanosecond(n.into()).ok());
    let at = nanoseconds.or_else(|| Timestamp::from_second(message.int("time")?).ok())?;
    // `id`, `from` and `status` are the names before API 1.22
    let action = text(message, "Action").or_else(|| text(message, "status"))?;
    let action = docker_action(&action);
    let exit_code = || text(&attributes, "exitCode").or_else(|| text(&attributes, "containerExitCode"));
    Some(Event {
        at,
        container: text(&actor, "ID").or_else(|| text(message, "id"))?,
        signal: text(&attributes, "signal"),
        // Podman reports an exit code with every event
        exit_code: (action == "die").then(exit_code).flatten(),
        action: action.to_owned(),
        name: text(&attributes, "name"),
        image: text(&attributes, "image").or_else(|| text(message, "from")),
    })
}

/// Docker's name of an action of Podman (podman#12628, podman#16857).
fn docker_action(action: &str) -> &str {
    match action {
        "died" => "die",
        "remove" => "destroy",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(response: &str) -> (Vec<Event>, Vec<String>) {
        let gaps = Gaps::new("recent events");
        let events = events(response, &gaps);
        (events, gaps.into_sentences())
    }

    const DIE: &str = r#"{"status":"die","id":"a","from":"web:1","Type":"container","Action":"die","Actor":{"ID":"a","Attributes":{"exitCode":"3","image":"web:1","name":"web"}},"scope":"local","time":1796032800,"timeNano":1796032800123456789}"#;

    #[test]
    fn podman_event_has_dockers_action() {
        let podman = DIE.replace(r#""die""#, r#""died""#).replace("exitCode", "containerExitCode");
        assert_eq!(read(&podman), read(DIE));
        assert_eq!(read(DIE).0[0].exit_code.as_deref(), Some("3"));
    }

    #[test]
    fn exit_code_of_a_removal_is_ignored() {
        let removed = DIE.replace(r#""die""#, r#""remove""#).replace(r#""exitCode":"3""#, r#""containerExitCode":"0""#);
        let event = read(&removed).0.remove(0);
        assert_eq!((event.action.as_str(), event.exit_code), ("destroy", None));
    }

    #[test]
    fn events_without_the_old_fields_are_read() {
        let new = DIE.replace(r#""status":"die","id":"a","from":"web:1","#, "");
        assert_eq!(read(&new), read(DIE));
    }

    fn flood(events: usize) -> String {
        let test = DIE.replace(r#""die""#, r#""exec_create: curl""#).replace("1796032800123456789", "1796032900000000000");
        let mut lines = vec![test; events - 1];
        lines.insert(0, DIE.to_owned());
        lines.join("\n")
    }

    #[test]
    fn full_memory_begins_with_its_oldest_event() {
        let engine_since = Timestamp::from_second(1_700_000_000).ok();
        let memory = memory_of(&flood(MAX_EVENTS), engine_since);
        assert_eq!(memory.since, Some(memory.events[0].at));
        assert_eq!(memory.events.len(), 1, "health tests are omitted");
    }

    #[test]
    fn memory_that_is_not_full_begins_with_the_engine() {
        let engine_since = Timestamp::from_second(1_700_000_000).ok();
        assert_eq!(memory_of(&flood(MAX_EVENTS - 1), engine_since).since, engine_since);
    }

    #[test]
    fn memory_of_an_unknown_engine_begins_with_its_oldest_event() {
        let memory = memory_of(&flood(9), None);
        assert_eq!(memory.since, Some(memory.events[0].at));
    }

    #[test]
    fn empty_memory_of_an_unknown_engine_reaches_nowhere() {
        assert_eq!(memory_of("", None), EventMemory::default());
    }

    #[test]
    fn record_separators_are_skipped() {
        assert_eq!(read(&format!("\u{1e}{DIE}\n\u{1e}{DIE}\n")).0.len(), 2);
    }

    #[test]
    fn odd_event_costs_only_itself() {
        let (events, gaps) = read(&format!("{DIE}\n{{\"Action\":\n[1]\n{{\"Type\":\"network\"}}\n{DIE}"));
        assert_eq!(events.len(), 2);
        assert_eq!(gaps, ["recent events: a line is not JSON", "recent events: the reply is a list, not an object"]);
    }
}
