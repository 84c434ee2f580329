//! The spool of undelivered messages: one file each in the state directory, written atomically. It contains no addresses and no
//! credentials; they are read from the configuration at the next attempt.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::quantity;
use opsctl_core::probe::io::clock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::QueuedMessage;
use crate::config::{Delivery, Destination};
use crate::state::dir;

/// Directory in the state directory.
const SPOOL_DIR: &str = "spool";

/// Limits of the number and the age of spooled messages.
const MAX_MESSAGES: usize = 200;
const MAX_MESSAGE_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Limit of a spool file, in bytes; larger than any report.
const MAX_FILE_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Content {
    delivery: String,
    made_at: Timestamp,
    parcel: QueuedMessage,
}

/// Whether this is the content of a spool file.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn is_parcel(text: &str) -> bool {
    serde_json::from_str::<Content>(text).is_ok()
}

/// A spooled message.
pub(super) struct SpooledMessage {
    path: PathBuf,
    pub(super) key: String,
    pub(super) parcel: QueuedMessage,
}

impl SpooledMessage {
    /// Removes it after delivery or a permanent error.
    pub(super) fn remove(&self) {
        // if it cannot be removed, it is sent twice, which is better than a lost message
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Identifies a destination without revealing its address.
pub(super) fn key(delivery: &Delivery) -> String {
    let destination = match &delivery.destination {
        Destination::Mail { host, port, to, .. } => format!("mail {host} {port} {}", to.join(" ")),
        Destination::Webhook { url, .. } => format!("webhook {url}"),
        Destination::File { path, .. } => format!("file {}", path.display()),
    };
    let digest = Sha256::digest(format!("{destination} {}", delivery.owner.as_deref().unwrap_or_default()));
    quantity::hex(&digest[..8])
}

/// Stores a message.
pub(super) fn put(state_dir: &Path, key: &str, parcel: &QueuedMessage) -> io::Result<()> {
    let directory = state_dir.join(SPOOL_DIR);
    dir::ensure(state_dir)?;
    dir::ensure(&directory)?;
    let made_at = clock::now();
    let text = serde_json::to_vec(&Content { delivery: key.to_owned(), made_at, parcel: parcel.clone() })?;
    // names sort by age
    dir::write(&directory.join(format!("{:020}-{key}.json", made_at.as_nanosecond())), &text)
}

/// The spooled messages, oldest first; messages beyond the limits are dropped with a note.
pub(super) fn waiting(state_dir: &Path, notes: &mut Vec<String>) -> Vec<SpooledMessage> {
    let directory = state_dir.join(SPOOL_DIR);
    // reports that another user put there are not delivered in root's name
    if let Err(e) = dir::check(state_dir).and_then(|()| dir::check(&directory)) {
        notes.push(format!("queued reports in {} are not sent: {e}", directory.display()));
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let mut dropped = 0;
    while paths.len() > MAX_MESSAGES {
        let _ = std::fs::remove_file(paths.remove(0));
        dropped += 1;
    }
    let mut all = Vec::new();
    for path in paths {
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_FILE_BYTES);
        let read = std::fs::read(&path).ok().filter(|_| small);
        match read.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok()) {
            Some(c) if clock::now().duration_since(c.made_at) < MAX_MESSAGE_AGE => {
                all.push(SpooledMessage { path, key: c.delivery, parcel: c.parcel });
            }
            _ => {
                let _ = std::fs::remove_file(&path);
                dropped += 1;
            }
        }
    }
    if dropped > 0 {
        notes.push(format!("{dropped} reports that could not be delivered for a week were dropped"));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parcel(text: &str) -> QueuedMessage {
        QueuedMessage::Mail { subject: text.into(), text: text.into(), html: None }
    }

    #[test]
    fn spool_is_ordered_and_limited() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        let mut notes = Vec::new();
        assert!(waiting(&state, &mut notes).is_empty());
        for i in 0..(MAX_MESSAGES + 3) {
            put(&state, "k", &parcel(&i.to_string())).unwrap();
        }
        let found = waiting(&state, &mut notes);
        assert_eq!((found.len(), &found[0].parcel), (MAX_MESSAGES, &parcel("3")));
        assert_eq!(notes.len(), 1);
        found[0].remove();
        std::fs::write(state.join(SPOOL_DIR).join("0-broken.json"), "{").unwrap();
        assert_eq!(waiting(&state, &mut notes).len(), MAX_MESSAGES - 1);
        assert!(!state.join(SPOOL_DIR).join("0-broken.json").exists());
    }

    #[test]
    fn spool_contains_no_address() {
        let url = "https://hooks.slack.com/services/T0/B0/canary".to_owned();
        let destination = Destination::Webhook { url, shape: crate::config::WebhookFormat::Slack };
        let delivery = Delivery { destination, when: vec![], owner: None };
        assert_eq!(key(&delivery).len(), 16);
        assert!(!delivery.name().contains("canary"), "{}", delivery.name());
    }
}
