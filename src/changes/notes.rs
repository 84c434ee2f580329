//! What `opsctl note` remembers: one JSON file in the state directory, written whole or not at all, the newest notes only.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::dir;
use crate::fix::Lock;

/// File of the notes in the state directory.
pub const NOTES: &str = "notes.json";

/// Most notes kept: some years of a deployment a day.
const MOST: usize = 1000;

/// Larger than any list of notes, in bytes.
const LARGEST: u64 = 4 << 20;

/// Version of the file's shape.
const VERSION: u32 = 1;

/// Something a person, or what deploys for them, wants to be remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it happened.
    pub at: Timestamp,
    /// One word: `deploy`.
    pub kind: String,
    /// The rest: `shop 1.4.2`.
    pub text: String,
    /// Who noted it.
    pub by: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    notes: Vec<Note>,
}

/// Why the notes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// The file.
    #[error("{doing} the notes in {path}: {source}")]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What it says.
    #[error("the notes in {path} cannot be read: {why}. Move the file away to begin anew")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Two at once.
    #[error("another opsctl is writing a note; try again")]
    Busy,
}

/// All notes of this host, oldest first; none when there is no file.
pub fn load(state_dir: &Path) -> Result<Vec<Note>, NoteError> {
    let path = state_dir.join(NOTES);
    let io = |source| NoteError::Io { doing: "reading", path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
        Ok(meta) if meta.len() > LARGEST => return Err(NoteError::Content { path, why: "it is larger than 4 MiB".to_owned() }),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(io)?;
    let content: Content =
        serde_json::from_str(&text).map_err(|e| NoteError::Content { path: path.clone(), why: e.to_string() })?;
    if content.version == VERSION {
        Ok(content.notes)
    } else {
        Err(NoteError::Content { path, why: format!("its version is {}, this opsctl reads {VERSION}", content.version) })
    }
}

/// Adds one; it is on disk when this returns.
pub fn add(state_dir: &Path, note: Note) -> Result<(), NoteError> {
    let path = state_dir.join(NOTES);
    let io = |source| NoteError::Io { doing: "writing", path: path.clone(), source };
    dir::ensure(state_dir).map_err(io)?;
    let _lock = Lock::take(&state_dir.join("notes.lock")).map_err(|_| NoteError::Busy)?;
    let mut notes = load(state_dir)?;
    notes.push(note);
    notes.sort_by_key(|n| n.at);
    notes.drain(..notes.len().saturating_sub(MOST));
    let text = serde_json::to_vec_pretty(&Content { version: VERSION, notes }).map_err(|e| io(e.into()))?;
    let mut file = tempfile::Builder::new().prefix(".notes").tempfile_in(state_dir).map_err(io)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(&path).map_err(|e| io(e.error))?;
    dir::sync(state_dir).map_err(io)
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
    fn notes_are_kept_in_order_and_the_oldest_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        assert_eq!(load(&state).unwrap(), []);
        for second in [20, 10, 30] {
            add(&state, note(second)).unwrap();
        }
        assert_eq!(load(&state).unwrap(), [note(10), note(20), note(30)]);
        let many = (0..MOST).map(|n| note(i64::try_from(n).unwrap() + 100)).collect();
        let text = serde_json::to_string(&Content { version: VERSION, notes: many }).unwrap();
        std::fs::write(state.join(NOTES), text).unwrap();
        add(&state, note(9_999_999)).unwrap();
        let kept = load(&state).unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[MOST - 1]), (MOST, &note(101), &note(9_999_999)));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_left_alone_and_said() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(NOTES);
        for text in ["", "{}", "{\"version\":9,\"notes\":[]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            assert!(load(tmp.path()).unwrap_err().to_string().contains("cannot be read"));
            assert!(add(tmp.path(), note(1)).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
