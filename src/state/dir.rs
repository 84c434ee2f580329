//! The state directory: writable only by this user; for root, every directory above it as well ([`trusted`]).

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use opsctl_core::probe::io::trusted;

use crate::output;

/// Creates the directory if it does not exist, and checks that no other user can put files into it.
pub fn ensure(dir: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        output::create_directories(dir, 0o700)?;
    }
    check(dir)
}

/// Checks a state directory that is only read: waivers, history and undelivered reports of another user are ignored. A directory that does
/// not exist is accepted.
pub fn check(dir: &Path) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(dir) {
        Ok(_) => std::fs::metadata(dir)?,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
    }
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        return refuse(format!("it belongs to user {}, opsctl runs as user {us}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return refuse(format!("others may write to it (mode {:o}); chmod 700 it", meta.mode() & 0o7777));
    }
    trusted::directory(dir).map(|_| ()).map_err(trusted::TrustError::into_io)
}

/// Writes a file atomically; it is on disk when this returns.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".opsctl").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync(directory)
}

/// Makes a rename or a new file in `dir` survive a crash.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn directory_writable_by_others_is_rejected() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a/b");
        ensure(&dir).unwrap();
        ensure(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(ensure(&dir).is_err_and(|e| e.to_string().contains("chmod 700")));
        std::fs::write(tmp.path().join("file"), "").unwrap();
        assert!(ensure(&tmp.path().join("file")).is_err());
    }

    /// For root: whether a state directory is accepted in a parent with this owner and mode.
    fn accepted_below(owner: u32, mode: u32) -> io::Result<()> {
        let tmp = tempfile::tempdir().unwrap();
        let parent = tmp.path().join("parent");
        ensure(&parent.join("state")).unwrap();
        std::os::unix::fs::chown(&parent, Some(owner), None).unwrap();
        std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(mode)).unwrap();
        ensure(&parent.join("state"))
    }

    #[test]
    fn directory_in_a_directory_of_another_user_is_rejected() {
        if rustix::process::geteuid().is_root() {
            let error = accepted_below(65534, 0o755).unwrap_err().to_string();
            assert!(error.contains("parent belongs to user nobody"), "{error}");
        }
    }

    #[test]
    fn directory_in_a_writable_directory_is_rejected() {
        if rustix::process::geteuid().is_root() {
            assert!(accepted_below(0, 0o777).is_err_and(|e| e.to_string().contains("can be written by others (mode 777)")));
        }
    }

    #[test]
    fn directory_in_a_sticky_directory_is_accepted() {
        if rustix::process::geteuid().is_root() {
            accepted_below(0, 0o1777).unwrap();
        }
    }

    #[test]
    fn link_of_another_user_to_a_directory_is_rejected() {
        if rustix::process::geteuid().is_root() {
            let tmp = tempfile::tempdir().unwrap();
            ensure(&tmp.path().join("ours")).unwrap();
            let other = tmp.path().join("theirs");
            std::fs::create_dir(&other).unwrap();
            std::os::unix::fs::symlink(tmp.path().join("ours"), other.join("link")).unwrap();
            ensure(&other.join("link")).unwrap();
            std::os::unix::fs::chown(&other, Some(65534), None).unwrap();
            assert!(ensure(&other.join("link")).is_err());
        }
    }
}
