//! Recent events of the engine.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Docker;
use crate::probe::ProbeError;
use crate::probe::io::clock;

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

/// Actions of the container lifecycle; health probes alone (`exec_*`) would fill the list.
const ACTIONS: &[&str] = &["create", "start", "die", "kill", "stop", "oom", "restart", "pause", "unpause", "destroy", "update"];

pub(super) async fn recent(docker: &Docker) -> Result<Vec<Event>, ProbeError> {
    let hour_ago = clock::now().checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::UNIX_EPOCH);
    since(docker, hour_ago).await
}

pub(super) async fn since(docker: &Docker, since: Timestamp) -> Result<Vec<Event>, ProbeError> {
    let now = clock::now();
    let filters: HashMap<&str, Vec<&str>> = HashMap::from([("type", vec!["container"]), ("event", ACTIONS.to_vec())]);
    // with `until` in the past the engine sends its stored events and closes the stream
    let options = EventsOptionsBuilder::new()
        .since(&since.as_second().to_string())
        // with the fraction, to include events of the current second
        .until(&format!("{}.{:09}", now.as_second(), now.subsec_nanosecond()))
        .filters(&filters)
        .build();
    let read = || async {
        let mut events = Vec::new();
        let mut stream = docker.client.events(Some(options));
        while let Some(message) = stream.next().await {
            let message = message?;
            let attributes = message.actor.as_ref().and_then(|a| a.attributes.as_ref());
            let attribute = |name: &str| attributes.and_then(|a| a.get(name)).cloned();
            let at = message
                .time_nano
                .and_then(|n| Timestamp::from_nanosecond(n.into()).ok())
                .or_else(|| message.time.and_then(|s| Timestamp::from_second(s).ok()));
            if let (Some(at), Some(container), Some(action)) =
                (at, message.actor.as_ref().and_then(|a| a.id.clone()), message.action.clone())
            {
                let (signal, exit_code) = (attribute("signal"), attribute("exitCode"));
                events.push(Event {
                    at,
                    container,
                    action,
                    signal,
                    exit_code,
                    name: attribute("name"),
                    image: attribute("image"),
                });
            }
        }
        Ok::<_, bollard::errors::Error>(events)
    };
    docker.request("recent events", read).await
}
