//! What could not be delivered: one file each in the state directory, whole or not at all. No address and no login is in it: the
//! configuration has them when it is tried again.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::quantity;
use opsctl_core::probe::clock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Parcel;
use crate::audit::dir;
use crate::config::{Delivery, Destination};

/// Folder in the state directory.
const FOLDER: &str = "spool";

/// How many wait at most, and how long: yesterday's news is history.
const MOST: usize = 200;
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Larger than any report, in bytes.
const LARGEST: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Content {
    delivery: String,
    made_at: Timestamp,
    parcel: Parcel,
}

/// Whether this is what a file of the spool holds.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn is_parcel(text: &str) -> bool {
    serde_json::from_str::<Content>(text).is_ok()
}

/// Something that waits.
pub(super) struct Waiting {
    path: PathBuf,
    pub(super) key: String,
    pub(super) parcel: Parcel,
}

impl Waiting {
    /// It is delivered, or never will be.
    pub(super) fn remove(&self) {
        // if it cannot be removed it is sent twice, which is better than not at all
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What tells a delivery from others without telling its address.
pub(super) fn key(delivery: &Delivery) -> String {
    let place = match &delivery.place {
        Destination::Mail { host, port, to, .. } => format!("mail {host} {port} {}", to.join(" ")),
        Destination::Webhook { url, .. } => format!("webhook {url}"),
        Destination::File { path, .. } => format!("file {}", path.display()),
    };
    let digest = Sha256::digest(format!("{place} {}", delivery.owner.as_deref().unwrap_or_default()));
    quantity::hex(&digest[..8])
}

/// Keeps a parcel.
pub(super) fn put(state_dir: &Path, key: &str, parcel: &Parcel) -> io::Result<()> {
    let folder = state_dir.join(FOLDER);
    dir::ensure(state_dir)?;
    dir::ensure(&folder)?;
    let made_at = clock::now();
    let text = serde_json::to_vec(&Content { delivery: key.to_owned(), made_at, parcel: parcel.clone() })?;
    // names sort by age
    dir::write(&folder.join(format!("{:020}-{key}.json", made_at.as_nanosecond())), &text)
}

/// Everything that waits, oldest first; what is too old or too much is dropped, and said.
pub(super) fn waiting(state_dir: &Path, notes: &mut Vec<String>) -> Vec<Waiting> {
    let folder = state_dir.join(FOLDER);
    // reports that another user put there are not delivered in root's name
    if let Err(e) = dir::check(state_dir).and_then(|()| dir::check(&folder)) {
        notes.push(format!("reports that wait in {} are left there: {e}", folder.display()));
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let mut dropped = 0;
    while paths.len() > MOST {
        let _ = std::fs::remove_file(paths.remove(0));
        dropped += 1;
    }
    let mut all = Vec::new();
    for path in paths {
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= LARGEST);
        let read = std::fs::read(&path).ok().filter(|_| small);
        match read.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok()) {
            Some(c) if clock::now().duration_since(c.made_at) < LONGEST => {
                all.push(Waiting { path, key: c.delivery, parcel: c.parcel });
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

    fn parcel(text: &str) -> Parcel {
        Parcel::Mail { subject: text.into(), text: text.into(), html: None }
    }

    #[test]
    fn what_waits_is_found_in_its_order_and_bounded() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        let mut notes = Vec::new();
        assert!(waiting(&state, &mut notes).is_empty());
        for i in 0..(MOST + 3) {
            put(&state, "k", &parcel(&i.to_string())).unwrap();
        }
        let found = waiting(&state, &mut notes);
        assert_eq!((found.len(), &found[0].parcel), (MOST, &parcel("3")));
        assert_eq!(notes.len(), 1);
        found[0].remove();
        std::fs::write(state.join(FOLDER).join("0-broken.json"), "{").unwrap();
        assert_eq!(waiting(&state, &mut notes).len(), MOST - 1);
        assert!(!state.join(FOLDER).join("0-broken.json").exists());
    }

    #[test]
    fn the_spool_tells_no_address() {
        let url = "https://hooks.slack.com/services/T0/B0/canary".to_owned();
        let place = Destination::Webhook { url, shape: crate::config::Shape::Slack };
        let delivery = Delivery { place, when: vec![], owner: None };
        assert_eq!(key(&delivery).len(), 16);
        assert!(!delivery.name().contains("canary"), "{}", delivery.name());
    }
}
