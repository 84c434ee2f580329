//! The notes of `opsctl note`: the newest only.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::{List, ListError};

/// The list of notes in the state directory.
pub const NOTES: List = List { name: "notes", otherwise: "", busy: "writing a note" };

/// Number of notes kept: some years of a deployment a day.
const MAX_NOTES: usize = 1000;

/// A change recorded by a user or a deployment tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Time of the change.
    pub at: Timestamp,
    /// One word: `deploy`.
    pub kind: String,
    /// The rest: `shop 1.4.2`.
    pub text: String,
    /// Author.
    pub by: String,
}

/// All notes of this host, oldest first; empty if the file does not exist.
pub fn load(state_dir: &Path) -> Result<Vec<Note>, ListError> {
    NOTES.load(state_dir)
}

/// Adds a note; it is on disk when this returns.
pub fn add(state_dir: &Path, note: Note) -> Result<(), ListError> {
    NOTES.change(state_dir, |notes: &mut Vec<Note>| {
        notes.push(note);
        notes.sort_by_key(|n| n.at);
        notes.drain(..notes.len().saturating_sub(MAX_NOTES));
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn note(second: i64) -> Note {
        let at = Timestamp::from_second(second).unwrap();
        Note { at, kind: "deploy".into(), text: format!("shop {second}"), by: "root".into() }
    }

    #[test]
    fn notes_are_ordered_and_the_oldest_is_dropped() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        assert_eq!(load(&state).unwrap(), []);
        for second in [20, 10, 30] {
            add(&state, note(second)).unwrap();
        }
        assert_eq!(load(&state).unwrap(), [note(10), note(20), note(30)]);
        let many: Vec<Note> = (0..MAX_NOTES).map(|n| note(i64::try_from(n).unwrap() + 100)).collect();
        let text = serde_json::json!({ "version": 1, "notes": many }).to_string();
        std::fs::write(NOTES.path(&state), text).unwrap();
        add(&state, note(9_999_999)).unwrap();
        let kept = load(&state).unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[MAX_NOTES - 1]), (MAX_NOTES, &note(101), &note(9_999_999)));
    }

    #[test]
    fn invalid_file_is_kept_and_reported() {
        let tmp = tempfile::tempdir().unwrap();
        let path = NOTES.path(tmp.path());
        for text in ["", "{}", "{\"version\":9,\"notes\":[]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            assert!(load(tmp.path()).unwrap_err().to_string().contains("cannot be read"));
            assert!(add(tmp.path(), note(1)).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
