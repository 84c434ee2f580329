//! Lock that allows one opsctl at a time to change the host.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

/// The lock; released when dropped, and by the kernel when the process exits. The file is kept: removing it would let two
/// processes hold two locks.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Reason why the lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Held by another opsctl.
    #[error("another opsctl{} is changing this host; wait until it has ended", .0.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held(Option<u32>),
    /// The file cannot be used.
    #[error("taking the lock {path}: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// Cause.
        source: io::Error,
    },
}

impl Lock {
    /// Acquires the lock or reports its holder. Does not wait: a fix that waits would act on outdated facts.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.display().to_string(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0))
            .open(path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = (&mut file).take(16).read_to_string(&mut pid);
                return Err(LockError::Held(pid.trim().parse().ok()));
            }
            Err(e) => return Err(io(e.into())),
        }
        // only for the error message of another opsctl
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn held_lock_reports_the_pid_of_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(error, LockError::Held(Some(pid)) if pid == std::process::id()), "{error}");
        drop(first);
        // a child forked by another test at this moment holds a copy of the lock until it executes its program
        let began = std::time::Instant::now();
        while Lock::take(&path).is_err() {
            assert!(began.elapsed().as_secs() < 10, "the lock is released");
        }
        std::fs::write(&path, "this is not a pid").unwrap();
        let _first = loop {
            match Lock::take(&path) {
                Ok(lock) => break lock,
                Err(e) => assert!(began.elapsed().as_secs() < 10, "{e}"),
            }
        };
        assert!(Lock::take(&path).is_err());
    }

    #[test]
    fn lock_file_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("target"), dir.path().join("lock")).unwrap();
        assert!(matches!(Lock::take(&dir.path().join("lock")), Err(LockError::Io { .. })));
        assert!(!dir.path().join("target").exists());
    }
}
