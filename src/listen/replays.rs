//! Accepted signatures, on disk until their window ends: none is accepted twice, also after a restart or a crash.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use rustix::fs::OFlags;

/// The file, in the state directory.
pub(super) const FILE: &str = "listen-signatures.db";

/// Maximum number of stored signatures. With the default window that is one every 60 ms for ten minutes; further requests are
/// rejected, no signature is dropped early.
const MAX_REMEMBERED: i64 = 10_000;

/// Time limit for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a signature may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// New, and now on disk.
    New,
    /// Already accepted.
    Replayed,
    /// As old as signatures that were already dropped, and may be one of them: the clock was set back.
    Forgotten,
    /// No room to store it.
    Full,
}

/// The stored signatures.
pub(super) struct Replays {
    file: Mutex<Connection>,
    window_s: i64,
    capacity: i64,
}

impl Replays {
    /// Opens or creates the file in the state directory, which must belong to this user alone.
    pub(super) fn open(path: &Path, window_s: i64) -> Result<Self, String> {
        Self::with_capacity(path, window_s, MAX_REMEMBERED)
    }

    fn with_capacity(path: &Path, window_s: i64, capacity: i64) -> Result<Self, String> {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(path).map_err(|e| e.to_string())?;
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err("not a regular file".to_owned());
        }
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // a commit is on disk when it returns, and a power cut does not revert it (sqlite.org/pragma.html#pragma_synchronous)
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            connection.execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS accepted (tag BLOB PRIMARY KEY, at_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS forgotten (id INTEGER PRIMARY KEY CHECK (id = 0), until_s INTEGER NOT NULL) STRICT;
                 COMMIT;",
            )?;
            Ok(connection)
        };
        let connection = open().map_err(|e| e.to_string())?;
        Ok(Self { file: Mutex::new(connection), window_s, capacity })
    }

    /// Stores a signature made at `at_s`; it is on disk when this returns. Blocks for the disk.
    pub(super) fn claim(&self, tag: &[u8], at_s: i64, now_s: i64) -> rusqlite::Result<Claim> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let over_s = now_s.saturating_sub(self.window_s);
        // Stored is the newest timestamp that was ever dropped, and not the time of this host's clock: a clock that jumped ahead
        // for a moment must not reject requests for as long
        transaction.execute(
            "INSERT INTO forgotten SELECT 0, max(at_s) FROM accepted WHERE at_s < ?1 HAVING count(*) > 0
             ON CONFLICT (id) DO UPDATE SET until_s = max(until_s, excluded.until_s)",
            [over_s],
        )?;
        transaction.execute("DELETE FROM accepted WHERE at_s < ?1", [over_s])?;
        let forgotten: Option<i64> = transaction.query_row("SELECT until_s FROM forgotten", [], |row| row.get(0)).optional()?;
        let known: bool =
            transaction.query_row("SELECT EXISTS (SELECT 1 FROM accepted WHERE tag = ?1)", [tag], |row| row.get(0))?;
        let count: i64 = transaction.query_row("SELECT count(*) FROM accepted", [], |row| row.get(0))?;
        let claim = if known {
            Claim::Replayed
        } else if forgotten.is_some_and(|until| at_s <= until) {
            Claim::Forgotten
        } else if count >= self.capacity {
            Claim::Full
        } else {
            transaction.execute("INSERT INTO accepted (tag, at_s) VALUES (?1, ?2)", params![tag, at_s])?;
            Claim::New
        };
        transaction.commit()?;
        Ok(claim)
    }

    /// Removes the signature of a request that was not accepted for lack of room: the client may send the same request again.
    pub(super) fn release(&self, tag: &[u8]) -> rusqlite::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.execute("DELETE FROM accepted WHERE tag = ?1", [tag]).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn open(dir: &tempfile::TempDir) -> Replays {
        Replays::with_capacity(&dir.path().join(FILE), 300, 3).unwrap()
    }

    #[test]
    fn replay_is_refused_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::New);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::Replayed);
        drop(replays);
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1300).unwrap(), Claim::Replayed);
        assert_eq!(replays.claim(b"b", 1000, 1300).unwrap(), Claim::New);
        let mode = std::os::unix::fs::MetadataExt::mode(&dir.path().join(FILE).metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn replay_is_refused_by_a_second_listener() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (open(&dir), open(&dir));
        assert_eq!(one.claim(b"a", 1000, 1000).unwrap(), Claim::New);
        assert_eq!(other.claim(b"a", 1000, 1000).unwrap(), Claim::Replayed);
    }

    #[test]
    fn signature_from_the_future_is_remembered_through_its_window() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1300, 1000).unwrap(), Claim::New);
        assert_eq!(replays.claim(b"a", 1300, 1600).unwrap(), Claim::Replayed);
    }

    #[test]
    fn clock_set_back_does_not_reopen_forgotten_signatures() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::New);
        // an hour later it is forgotten
        assert_eq!(replays.claim(b"b", 4600, 4600).unwrap(), Claim::New);
        drop(replays);
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::Forgotten);
        // healthy counterpart: signed after the dropped signature
        assert_eq!(replays.claim(b"c", 1001, 1001).unwrap(), Claim::New);
    }

    #[test]
    fn clock_jump_ahead_does_not_reject_present_requests() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::New);
        assert_eq!(replays.claim(b"x", 9_000_000, 9_000_000).unwrap(), Claim::New);
        assert_eq!(replays.claim(b"b", 1010, 1010).unwrap(), Claim::New);
    }

    #[test]
    fn full_store_rejects_and_drops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        for tag in [b"a", b"b", b"c"] {
            assert_eq!(replays.claim(tag, 1000, 1000).unwrap(), Claim::New);
        }
        assert_eq!(replays.claim(b"d", 1000, 1000).unwrap(), Claim::Full);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::Replayed);
        assert_eq!(replays.claim(b"d", 1301, 1301).unwrap(), Claim::New);
    }

    #[test]
    fn released_signature_may_be_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let replays = open(&dir);
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::New);
        replays.release(b"a").unwrap();
        assert_eq!(replays.claim(b"a", 1000, 1000).unwrap(), Claim::New);
    }

    #[test]
    fn unusable_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(Replays::open(&path, 300).is_err());
        assert!(!dir.path().join("elsewhere").exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "this is no database, and longer than a header").unwrap();
        assert!(Replays::open(&path, 300).is_err());
    }
}
