//! A small list edited by users (waivers, notes): one JSON file in the state directory, written atomically.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Lock, dir};

/// Maximum size of a list in bytes.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// Version of the file format.
const VERSION: u64 = 1;

/// The names of a list.
#[derive(Debug)]
pub struct List {
    /// The file name without its extension, the key of the list in it, and its name in errors: `waivers`.
    pub name: &'static str,
    /// Consequence if it cannot be read, after a semicolon; may be empty.
    pub otherwise: &'static str,
    /// Operation of another opsctl that holds the list: `changing the waivers`.
    pub busy: &'static str,
}

/// Reason why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// An I/O error.
    #[error("{doing} the {name} in {path}: {source}")]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// Name of the list.
        name: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Invalid content.
    #[error("the {name} in {path} cannot be read: {why}{otherwise}. Move the file away to start with an empty list")]
    Content {
        /// Name of the list.
        name: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error.
        why: String,
        /// Its consequence.
        otherwise: &'static str,
    },
    /// Concurrent change.
    #[error("another opsctl is {0}; try again")]
    Busy(&'static str),
}

impl List {
    /// Path of the file.
    #[must_use]
    pub fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(format!("{}.json", self.name))
    }

    /// The items of the list; empty if there is no file.
    pub fn load<T: DeserializeOwned>(&self, state_dir: &Path) -> Result<Vec<T>, ListError> {
        let path = self.path(state_dir);
        let io = |source| ListError::Io { doing: "reading", name: self.name, path: path.clone(), source };
        let content = |why| ListError::Content { name: self.name, path: path.clone(), why, otherwise: self.otherwise };
        dir::check(state_dir).map_err(io)?;
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io(e)),
            Ok(meta) if meta.len() > MAX_LIST_BYTES => return Err(content("it is larger than 4 MiB".to_owned())),
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

    /// Changes the list: the result of `change` is on disk when this returns.
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

    const WORDS: List = List { name: "words", otherwise: "; no word is used", busy: "writing words" };

    #[test]
    fn added_items_are_stored() {
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
    fn invalid_file_is_reported_and_kept() {
        let tmp = tempfile::tempdir().unwrap();
        let path = WORDS.path(tmp.path());
        for text in ["", "{}", "{\"version\":9,\"words\":[]}", "{\"version\":1}", "{\"version\":1,\"words\":[1]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            let error = WORDS.load::<String>(tmp.path()).unwrap_err().to_string();
            assert!(error.contains("cannot be read") && error.contains("; no word is used. Move"), "{error}");
            assert!(WORDS.change(tmp.path(), Vec::<String>::clear).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
