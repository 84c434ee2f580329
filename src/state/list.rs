//! A small list that people add to (waivers, notes): one JSON file in the state directory, written whole or not at all.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::audit::dir;
use crate::fix::Lock;

/// Larger than any such list, in bytes.
const LARGEST: u64 = 4 << 20;

/// Version of the file's shape.
const VERSION: u64 = 1;

/// What a list is called.
#[derive(Debug)]
pub struct List {
    /// The file's name without its end, the key of the list in it, and what it is called in errors: `waivers`.
    pub name: &'static str,
    /// What follows when it cannot be read, behind a semicolon; empty when nothing does.
    pub otherwise: &'static str,
    /// What another opsctl is doing that has it: `changing the waivers`.
    pub busy: &'static str,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file.
    #[error("{doing} the {name} in {path}: {source}")]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// Of what.
        name: &'static str,
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What it says.
    #[error("the {name} in {path} cannot be read: {why}{otherwise}. Move the file away to begin anew")]
    Content {
        /// Of what.
        name: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What follows from that.
        otherwise: &'static str,
    },
    /// Two at once.
    #[error("another opsctl is {0}; try again")]
    Busy(&'static str),
}

impl List {
    /// Its file.
    #[must_use]
    pub fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(format!("{}.json", self.name))
    }

    /// What is on it; nothing when there is no file.
    pub fn load<T: DeserializeOwned>(&self, state_dir: &Path) -> Result<Vec<T>, ListError> {
        let path = self.path(state_dir);
        let io = |source| ListError::Io { doing: "reading", name: self.name, path: path.clone(), source };
        let content = |why| ListError::Content { name: self.name, path: path.clone(), why, otherwise: self.otherwise };
        dir::check(state_dir).map_err(io)?;
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io(e)),
            Ok(meta) if meta.len() > LARGEST => return Err(content("it is larger than 4 MiB".to_owned())),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(io)?;
        let mut value: Value = serde_json::from_str(&text).map_err(|e| content(e.to_string()))?;
        match value.get("version") {
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(version) => return Err(content(format!("its version is {version}, this opsctl reads {VERSION}"))),
            None => return Err(content("it has no version".to_owned())),
        }
        let items = value.get_mut(self.name).map(Value::take).unwrap_or_default();
        serde_json::from_value(items).map_err(|e| content(e.to_string()))
    }

    /// Changes it: what `change` makes of it is on disk when this returns.
    pub fn change<T: Serialize + DeserializeOwned, R>(
        &self,
        state_dir: &Path,
        change: impl FnOnce(&mut Vec<T>) -> R,
    ) -> Result<R, ListError> {
        let path = self.path(state_dir);
        let io = |source| ListError::Io { doing: "writing", name: self.name, path: path.clone(), source };
        dir::ensure(state_dir).map_err(io)?;
        let _lock = Lock::take(&state_dir.join(format!("{}.lock", self.name))).map_err(|_| ListError::Busy(self.busy))?;
        let mut items = self.load(state_dir)?;
        let result = change(&mut items);
        let text = serde_json::to_vec_pretty(&json!({ "version": VERSION, self.name: items })).map_err(|e| io(e.into()))?;
        dir::write(&path, &text).map_err(io)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const WORDS: List = List { name: "words", otherwise: "; nothing is said", busy: "writing words" };

    #[test]
    fn what_is_added_is_there_for_the_next_run() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        assert_eq!(WORDS.load::<String>(&state).unwrap(), [""; 0]);
        for word in ["a", "b"] {
            WORDS.change(&state, |all| all.push(word.to_owned())).unwrap();
        }
        assert_eq!(WORDS.load::<String>(&state).unwrap(), ["a", "b"]);
        WORDS.change(&state, Vec::<String>::clear).unwrap();
        assert_eq!(WORDS.load::<String>(&state).unwrap(), [""; 0]);
        let _held = Lock::take(&state.join("words.lock")).unwrap();
        let busy = WORDS.change(&state, Vec::<String>::clear).unwrap_err().to_string();
        assert_eq!(busy, "another opsctl is writing words; try again");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_left_alone_and_said() {
        let tmp = tempfile::tempdir().unwrap();
        let path = WORDS.path(tmp.path());
        for text in ["", "{}", "{\"version\":9,\"words\":[]}", "{\"version\":1}", "{\"version\":1,\"words\":[1]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            let error = WORDS.load::<String>(tmp.path()).unwrap_err().to_string();
            assert!(error.contains("cannot be read") && error.contains("; nothing is said. Move"), "{error}");
            assert!(WORDS.change(tmp.path(), Vec::<String>::clear).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
