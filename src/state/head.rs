//! The head of the journal in the state database: written after every entry, so that a journal that was truncated, rewritten or
//! removed differs from it.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::STATE_DB;
use super::store::{Broken, Db, SCHEMA_VERSION, connect};

pub(super) const TABLES: &str = "
  CREATE TABLE IF NOT EXISTS journal_head (
    id INTEGER PRIMARY KEY CHECK (id = 1), entries INTEGER NOT NULL, hash TEXT NOT NULL, at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS journal_gap (at_ms INTEGER NOT NULL, tampering INTEGER NOT NULL, why TEXT NOT NULL) STRICT;
";

/// The end of a journal. As every line contains the hash of the previous line, it covers the whole journal up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of the last entry.
    pub entries: u64,
    /// SHA-256 of its line, in hex; zeros without an entry.
    pub hash: String,
}

/// The journal in the state database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The head.
    pub kept: Kept,
    /// Differences detected when entries were written, oldest first; kept until they are accepted.
    pub gaps: Vec<Gap>,
}

/// The head in the state database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A stored head.
    Head(Head),
    /// No head.
    Absent {
        /// Whether there is a database.
        database: bool,
        /// A corrupt database that was moved away.
        set_aside: Option<PathBuf>,
    },
    /// The database is corrupt, and the reason.
    Corrupt(String),
    /// The database cannot be read now, and the reason.
    Unreadable(String),
}

/// A difference between the journal and the stored head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Time of detection.
    pub at: Timestamp,
    /// Whether the failure is a sign of tampering; a corrupt database is not.
    pub tampering: bool,
    /// The difference, one line.
    pub why: String,
}

/// Reads the record. Does not create, migrate or move any file.
#[must_use]
pub fn read(state_dir: &Path) -> Record {
    let path = state_dir.join(STATE_DB);
    let (kept, gaps) = match read_kept(&path) {
        Ok((Some(head), gaps)) => (Kept::Head(head), gaps),
        Ok((None, gaps)) => (Kept::Absent { database: path.exists(), set_aside: newest_set_aside(state_dir) }, gaps),
        Err(unreadable) => (unreadable, Vec::new()),
    };
    Record { kept, gaps }
}

fn read_kept(path: &Path) -> Result<(Option<Head>, Vec<Gap>), Kept> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(Kept::Unreadable(format!("{shown} is not a file"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(e) => return Err(Kept::Unreadable(format!("reading {shown}: {e}"))),
    }
    let failed = |e: rusqlite::Error| match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kept::Corrupt(format!("{shown} is corrupt: {e}")),
        _ => Kept::Unreadable(format!("reading {shown}: {e}")),
    };
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    match version {
        // version 0.1.0 of opsctl stored no head
        ..SCHEMA_VERSION => Ok((None, Vec::new())),
        SCHEMA_VERSION => select(&connection).map_err(failed),
        newer => Err(Kept::Unreadable(format!("{shown} has version {newer}, this opsctl reads version {SCHEMA_VERSION}"))),
    }
}

fn select(connection: &Connection) -> rusqlite::Result<(Option<Head>, Vec<Gap>)> {
    let head = connection
        .query_row("SELECT entries, hash FROM journal_head", [], |row| {
            Ok(Head { entries: row.get::<_, i64>(0)?.try_into().unwrap_or(u64::MAX), hash: row.get(1)? })
        })
        .optional()?;
    let gaps = connection
        .prepare("SELECT at_ms, tampering, why FROM journal_gap ORDER BY at_ms")?
        .query_map([], |row| {
            let at = Timestamp::from_millisecond(row.get(0)?).unwrap_or_default();
            Ok(Gap { at, tampering: row.get::<_, i64>(1)? != 0, why: row.get(2)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok((head, gaps))
}

fn newest_set_aside(state_dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(state_dir).ok()?.flatten().map(|e| e.path());
    let aside = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("state.db.corrupt-"));
    entries.filter(aside).max()
}

/// Stores this head, and a difference from the previous one. The error is the reason why it cannot be stored.
pub fn keep(state_dir: &Path, head: &Head, at: Timestamp, gap: Option<&Gap>) -> Result<(), String> {
    write(state_dir, head, at, |transaction| match gap {
        Some(gap) => transaction
            .execute("INSERT INTO journal_gap VALUES (?1, ?2, ?3)", params![gap.at.as_millisecond(), gap.tampering, gap.why])
            .map(drop),
        None => Ok(()),
    })
}

/// Stores this head and deletes all differences.
pub fn accept(state_dir: &Path, head: &Head, at: Timestamp) -> Result<(), String> {
    write(state_dir, head, at, |transaction| transaction.execute("DELETE FROM journal_gap", []).map(drop))
}

fn write(
    state_dir: &Path,
    head: &Head,
    at: Timestamp,
    also: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), String> {
    let path = state_dir.join(STATE_DB);
    let db = match Db::open(path.clone()) {
        Err(Broken::Empty(path) | Broken::SetAside(path, _)) => Db::create(&path),
        opened => opened,
    };
    let entries = i64::try_from(head.entries).unwrap_or(i64::MAX);
    db.and_then(|mut db| {
        db.with(|connection| {
            // unlike history, a head must survive a power cut, which is worth an fsync
            connection.pragma_update(None, "synchronous", "FULL")?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT OR REPLACE INTO journal_head VALUES (1, ?1, ?2, ?3)",
                params![entries, head.hash, at.as_millisecond()],
            )?;
            also(&transaction)?;
            transaction.commit()
        })
    })
    .map_err(|broken| match broken {
        Broken::Empty(path) => format!("{} could not be created", path.display()),
        Broken::SetAside(_, why) | Broken::Unusable(why) => why,
    })
}
