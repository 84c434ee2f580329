//! The kill switch: while a file exists, opsctl applies no fix.

#![allow(
    clippy::disallowed_methods,
    reason = "configuration, read by the watched main thread from files that no other user can change"
)]

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;

/// Path of the kill switch. Only root can create it, and `touch` is enough.
pub const NO_FIXES: &str = "/etc/opsctl/no-fixes";

/// Reason why no fix is applied now, or `None` while fixes are allowed.
///
/// The path itself decides (`lstat`), not its target: a dangling link, a directory or an empty file switches fixes off. So does a
/// path that cannot be examined, because an unreadable switch may be set.
#[must_use]
pub fn switched_off(file: &Path) -> Option<String> {
    match std::fs::symlink_metadata(file) {
        Ok(meta) => {
            // the creation time survives a later `touch`; not every filesystem has it
            let since = meta.created().or_else(|_| meta.modified()).ok().and_then(|at| Timestamp::try_from(at).ok());
            let since = since.map_or_else(String::new, |at| format!(" since {at:.0}"));
            Some(format!("fixes are switched off by {}{since}", file.display()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => Some(format!("fixes are switched off: {} cannot be examined ({e})", file.display())),
    }
}

/// [`switched_off`] for the switch of this host.
#[must_use]
pub fn host_switched_off() -> Option<String> {
    switched_off(Path::new(NO_FIXES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn absent_switch_allows_fixes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(switched_off(&dir.path().join("no-fixes")), None);
        assert_eq!(switched_off(&dir.path().join("missing/no-fixes")), None);
    }

    #[test]
    fn anything_at_the_path_switches_fixes_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        symlink("/nonexistent/target", path("dangling")).unwrap();
        symlink(path("loop"), path("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
            .unwrap();
        for name in ["file", "directory", "dangling", "loop", "fifo"] {
            let why = switched_off(&path(name)).unwrap_or_else(|| panic!("{name}"));
            assert!(why.contains(&format!("/{name} since 20")), "{why}");
        }
    }

    #[test]
    fn unexaminable_switch_counts_as_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        // the parent is not a directory, links to itself, or has too long a name
        symlink(dir.path().join("loop"), dir.path().join("loop")).unwrap();
        for parent in ["file".to_owned(), "loop".to_owned(), "x".repeat(300)] {
            let why = switched_off(&dir.path().join(parent).join("no-fixes")).unwrap();
            assert!(why.contains("cannot be examined"), "{why}");
        }
    }
}
