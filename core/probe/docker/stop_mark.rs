//! Docker's mark of a requested stop.
//!
//! The engine marks a container when a client stops it or sends it a signal, and removes the mark at its next start
//! (moby daemon/kill.go). It needs the mark after its own restart, for the policy `unless-stopped`, and stores it in the container's
//! `config.v2.json`. The API does not return it.

use std::time::Duration;

use serde::Deserialize;

use super::Docker;
use crate::probe::io::Root;
use crate::probe::{Io, blocking};

/// Timeout of reading the file.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Size limit of the file, in bytes. It contains the environment and all labels.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The only field that is read: others contain secrets.
#[derive(Debug, Deserialize)]
struct Stored {
    #[serde(rename = "HasBeenManuallyStopped")]
    marked: Option<bool>,
}

impl Docker {
    /// Whether a client requested the last stop of a container, or sent it any signal in its last run. `None` with Podman, for an engine
    /// of another machine or user, and without permission to read the engine's files.
    pub async fn stop_mark(&self, id: &str) -> Option<bool> {
        let engine = self.of(id);
        // an id is a part of a path here
        if engine.is_podman || id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let path = format!("{}/containers/{id}/config.v2.json", engine.data_root().await.ok()?);
        let from = path.clone();
        let read = move |io: &Io| Root::own(io).and_then(|root| root.bytes(&path, MAX_FILE_BYTES)).ok();
        mark_in(&blocking::run("the state of a container", &from, READ_TIMEOUT, read).await.ok().flatten()?)
    }
}

fn mark_in(file: &[u8]) -> Option<bool> {
    serde_json::from_slice::<Stored>(file).ok()?.marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_of_a_stopped_container() {
        let file =
            br#"{"State":{"Running":false},"Config":{"Env":["A=b"]},"HasBeenStartedBefore":true,"HasBeenManuallyStopped":true}"#;
        assert_eq!(mark_in(file), Some(true));
    }

    #[test]
    fn missing_mark_is_unknown() {
        assert_eq!((mark_in(br#"{"Name":"/web"}"#), mark_in(b"")), (None, None));
    }
}
