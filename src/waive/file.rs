//! What `opsctl waive` remembers: one JSON file in the state directory, written whole or not at all.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Waiver;
use crate::audit::dir;
use crate::fix::Lock;

/// File of the waivers in the state directory.
pub const WAIVERS: &str = "waivers.json";

/// Larger than any list of waivers, in bytes.
const LARGEST: u64 = 4 << 20;

/// Version of the file's shape.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    waivers: Vec<Waiver>,
}

/// Why the waivers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WaiverError {
    /// The file.
    #[error("{doing} the waivers in {path}: {source}")]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What it says.
    #[error("the waivers in {path} cannot be read: {why}; no finding is waived. Move the file away to begin anew")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Two at once.
    #[error("another opsctl is changing the waivers; try again")]
    Busy,
}

/// The waivers that people made on this host; none when there is no file.
pub fn load(state_dir: &Path) -> Result<Vec<Waiver>, WaiverError> {
    let path = state_dir.join(WAIVERS);
    let io = |source| WaiverError::Io { doing: "reading", path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
        Ok(meta) if meta.len() > LARGEST => {
            return Err(WaiverError::Content { path, why: "it is larger than 4 MiB".to_owned() });
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(io)?;
    let content: Content =
        serde_json::from_str(&text).map_err(|e| WaiverError::Content { path: path.clone(), why: e.to_string() })?;
    if content.version == VERSION {
        Ok(content.waivers)
    } else {
        Err(WaiverError::Content { path, why: format!("its version is {}, this opsctl reads {VERSION}", content.version) })
    }
}

/// Changes the list: what `change` makes of it is on disk when this returns.
pub fn change<T>(state_dir: &Path, change: impl FnOnce(&mut Vec<Waiver>) -> T) -> Result<T, WaiverError> {
    let path = state_dir.join(WAIVERS);
    let io = |source| WaiverError::Io { doing: "writing", path: path.clone(), source };
    dir::ensure(state_dir).map_err(io)?;
    let _lock = Lock::take(&state_dir.join("waivers.lock")).map_err(|_| WaiverError::Busy)?;
    let mut waivers = load(state_dir)?;
    let result = change(&mut waivers);
    let text = serde_json::to_vec_pretty(&Content { version: VERSION, waivers }).map_err(|e| io(e.into()))?;
    let mut file = tempfile::Builder::new().prefix(".waivers").tempfile_in(state_dir).map_err(io)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(&path).map_err(|e| io(e.error))?;
    dir::sync(state_dir).map_err(io)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::{Tag, Window};
    use super::*;

    fn waiver(which: &str) -> Waiver {
        let until = "2026-01-01T12:00:00Z".parse().unwrap();
        let window = Window::Once { from: jiff::Timestamp::UNIX_EPOCH, until };
        Waiver { which: which.to_owned().into(), window, tag: Tag::Flaky, reason: "r".into(), by: "root".into() }
    }

    #[test]
    fn what_is_waived_is_there_for_the_next_run() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        assert_eq!(load(&state).unwrap(), []);
        change(&state, |all| all.push(waiver("disk.space@/var"))).unwrap();
        change(&state, |all| all.push(waiver("*"))).unwrap();
        assert_eq!(load(&state).unwrap(), [waiver("disk.space@/var"), waiver("*")]);
        change(&state, Vec::clear).unwrap();
        assert_eq!(load(&state).unwrap(), []);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_left_alone_and_said() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(WAIVERS);
        for text in ["", "{}", "{\"version\":9,\"waivers\":[]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            let error = load(tmp.path()).unwrap_err().to_string();
            assert!(error.contains("no finding is waived"), "{error}");
            assert!(change(tmp.path(), |_| ()).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
