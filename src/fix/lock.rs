//! One opsctl changes a host at a time.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

/// The lock; released when dropped, and by the kernel when the process dies. The file stays: removing it would let two processes hold two locks.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another opsctl has it.
    #[error("another opsctl{} is changing this host; wait until it has ended", .0.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held(Option<u32>),
    /// The file cannot be used.
    #[error("taking the lock {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock or says who has it. Does not wait: whoever waits at a fix would act on what they saw before.
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
        // only for the message of another opsctl
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(error, LockError::Held(Some(pid)) if pid == std::process::id()), "{error}");
        drop(first);
        // a child that another test forks at this moment holds a copy of the lock until it runs its program
        let began = std::time::Instant::now();
        while Lock::take(&path).is_err() {
            assert!(began.elapsed().as_secs() < 10, "the lock is given back");
        }
        std::fs::write(&path, "what is this, a pid?").unwrap();
        let _first = loop {
            match Lock::take(&path) {
                Ok(lock) => break lock,
                Err(e) => assert!(began.elapsed().as_secs() < 10, "{e}"),
            }
        };
        assert!(Lock::take(&path).is_err());
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("target"), dir.path().join("lock")).unwrap();
        assert!(matches!(Lock::take(&dir.path().join("lock")), Err(LockError::Io { .. })));
        assert!(!dir.path().join("target").exists());
    }
}
