//! The waivers stored by `opsctl waive`.

use std::path::Path;

use super::Waiver;
use crate::state::{List, ListError};

/// The list of waivers in the state directory.
const WAIVERS: List = List { name: "waivers", otherwise: "; no finding is waived", busy: "changing the waivers" };

/// The waivers stored on this host; empty if there is no file.
pub fn load(state_dir: &Path) -> Result<Vec<Waiver>, ListError> {
    WAIVERS.load(state_dir)
}

/// Changes the list: the result of `change` is on disk when this returns.
pub fn change<T>(state_dir: &Path, change: impl FnOnce(&mut Vec<Waiver>) -> T) -> Result<T, ListError> {
    WAIVERS.change(state_dir, change)
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
    fn waiver_is_stored_for_the_next_run() {
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
    fn invalid_file_is_reported_and_kept() {
        let tmp = tempfile::tempdir().unwrap();
        let path = WAIVERS.path(tmp.path());
        for text in ["", "{}", "{\"version\":9,\"waivers\":[]}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            let error = load(tmp.path()).unwrap_err().to_string();
            assert!(error.contains("no finding is waived"), "{error}");
            assert!(change(tmp.path(), |_| ()).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
