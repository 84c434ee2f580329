//! The `SQLite` file of the history.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::Sample;
use opsctl_core::probe::io::clock;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{dir, episodes, head};

/// Version of the schema; a file with a higher version was created by a newer opsctl and is not changed.
pub(super) const SCHEMA_VERSION: i64 = 3;

/// Time limit of waiting for another opsctl.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// A day in milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Numbers older than an hour are thinned to one in this many milliseconds.
const THIN_MS: i64 = 10 * 60 * 1000;

/// Maximum number of values of one metric of one object: per day, thinned, and an hour with one every two seconds.
const MAX_PER_DAY: i64 = DAY_MS / THIN_MS;
const MAX_PER_HOUR: i64 = 1800;

/// Reason why there is no history.
#[derive(Debug)]
pub(super) enum Broken {
    /// There is none yet; its path.
    Empty(PathBuf),
    /// Corrupt and moved away; a new one may be created at this path.
    SetAside(PathBuf, String),
    /// Unusable in this run, and the reason.
    Unusable(String),
}

impl Broken {
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::Empty(_) => None,
            Self::SetAside(_, why) | Self::Unusable(why) => Some(format!("no history between runs: {why}")),
        }
    }
}

#[derive(Debug)]
pub(super) struct Db {
    connection: Connection,
    path: PathBuf,
}

impl Db {
    /// Opens an existing file.
    pub(super) fn open(path: PathBuf) -> Result<Self, Broken> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        dir::check(parent).map_err(|e| Broken::Unusable(format!("{}: {e}", parent.display())))?;
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => {
                restrict(&path, meta.mode()).map_err(|e| Broken::Unusable(format!("{}: {e}", path.display())))?;
            }
            Ok(_) => return Err(Broken::Unusable(format!("{} is not a file", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Broken::Empty(path)),
            Err(e) => return Err(Broken::Unusable(format!("reading {}: {e}", path.display()))),
        }
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| broken(&path, &e))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| broken(&path, &e))?;
        match version {
            SCHEMA_VERSION => Ok(Self { connection, path }),
            // 1 has samples only, 2 has no head of the journal
            1 | 2 => Self::make(&connection).map_err(|e| broken(&path, &e)).map(|()| Self { connection, path }),
            // killed between creating the file and creating the tables
            0 => Err(Broken::Empty(path)),
            newer => Err(Broken::Unusable(format!(
                "{} has version {newer}, this opsctl reads version {SCHEMA_VERSION}",
                path.display()
            ))),
        }
    }

    /// Creates a new file.
    pub(super) fn create(path: &Path) -> Result<Self, Broken> {
        let unusable = |e: std::io::Error| Broken::Unusable(format!("{}: {e}", path.display()));
        dir::ensure(path.parent().unwrap_or(Path::new("/"))).map_err(unusable)?;
        // SQLite creates a new file, its log and its index with the mode left by the umask; the mode of an existing file applies
        // to all three
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path).map_err(unusable)?;
        drop(file);
        let make = || -> rusqlite::Result<Connection> {
            let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            Self::make(&connection)?;
            Ok(connection)
        };
        make().map_err(|e| broken(path, &e)).map(|connection| Self { connection, path: path.to_owned() })
    }

    /// Creates missing tables; two runs may do so at the same time.
    fn make(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS sample (
               object TEXT NOT NULL, metric TEXT NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL,
               PRIMARY KEY (object, metric, at_ms)
             ) STRICT, WITHOUT ROWID;
             {}
             {}
             PRAGMA user_version = {SCHEMA_VERSION};
             COMMIT;",
            episodes::TABLES,
            head::TABLES
        ))
    }

    /// Runs a function on the tables of findings; an error is the reason why the file is unusable.
    pub(super) fn with<T>(&mut self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, Broken> {
        run(&mut self.connection).map_err(|e| broken(&self.path, &e))
    }

    pub(super) fn oldest(
        &mut self,
        object: &str,
        metric: &str,
        max_age_s: i64,
        now: Timestamp,
    ) -> Result<Option<Sample>, Broken> {
        let now = now.as_millisecond();
        // a number from the future was written before the clock was set back: its age is not known
        self.connection
            .prepare("SELECT at_ms, value FROM sample WHERE object = ?1 AND metric = ?2 AND at_ms BETWEEN ?3 AND ?4 ORDER BY at_ms LIMIT 1")
            .and_then(|mut statement| {
                let since = now.saturating_sub(max_age_s.saturating_mul(1000));
                statement
                    .query_row(params![object, metric, since, now], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
                    .optional()
            })
            .map(|found| {
                let (at, value) = found?;
                let at = Timestamp::from_millisecond(at).ok()?;
                Some(Sample { object: object.to_owned(), metric: metric.to_owned(), at, value })
            })
            .map_err(|e| broken(&self.path, &e))
    }

    pub(super) fn record(&mut self, samples: &[Sample], keep_days: u16, now: Timestamp) -> Result<(), Broken> {
        self.write(samples, i64::from(keep_days.max(1)), now.as_millisecond()).map_err(|e| broken(&self.path, &e))
    }

    fn write(&mut self, samples: &[Sample], keep_days: i64, now: i64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare("INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4)")?;
            let mut thin = transaction.prepare(
                "DELETE FROM sample WHERE object = ?1 AND metric = ?2 AND at_ms < ?3 AND at_ms NOT IN
                   (SELECT min(at_ms) FROM sample WHERE object = ?1 AND metric = ?2 AND at_ms < ?3 GROUP BY at_ms / ?4)",
            )?;
            let mut cap = transaction.prepare(
                "DELETE FROM sample WHERE object = ?1 AND metric = ?2 AND at_ms <=
                   (SELECT at_ms FROM sample WHERE object = ?1 AND metric = ?2 ORDER BY at_ms DESC LIMIT 1 OFFSET ?3)",
            )?;
            for s in samples.iter().filter(|s| s.value.is_finite()) {
                insert.execute(params![s.object, s.metric, s.at.as_millisecond(), s.value])?;
                thin.execute(params![s.object, s.metric, now - 3_600_000, THIN_MS])?;
                cap.execute(params![s.object, s.metric, keep_days * MAX_PER_DAY + MAX_PER_HOUR])?;
            }
        }
        // a clock that was a day ahead wrote numbers that cannot be compared
        transaction
            .execute("DELETE FROM sample WHERE at_ms < ?1 OR at_ms > ?2", params![now - keep_days * DAY_MS, now + DAY_MS])?;
        transaction.commit()
    }
}

/// Files of earlier versions were readable by others, as far as the directory allowed.
fn restrict(path: &Path, mode: u32) -> std::io::Result<()> {
    if mode & 0o777 == 0o600 { Ok(()) } else { std::fs::set_permissions(path, Permissions::from_mode(0o600)) }
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // losing the last number in a power cut costs nothing; an fsync per run does
    connection.pragma_update(None, "synchronous", "OFF")?;
    Ok(connection)
}

/// Classifies an error; a corrupt file is set aside, so that a new one can be created.
fn broken(path: &Path, error: &rusqlite::Error) -> Broken {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => match set_aside(path) {
            Ok(aside) => Broken::SetAside(path.to_owned(), format!("{shown} was corrupt and is now {}", aside.display())),
            Err(e) => Broken::Unusable(format!("{shown} is corrupt and cannot be moved away: {e}")),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Broken::Unusable(format!("{shown} is locked by another process"))
        }
        _ => Broken::Unusable(format!("{shown}: {error}")),
    }
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let suffixed = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = suffixed(&format!(".corrupt-{}", clock::now().as_second()));
    std::fs::rename(path, &aside)?;
    for companion in ["-wal", "-shm"] {
        // they belong to the old file and would corrupt the new one
        let _ = std::fs::remove_file(suffixed(companion));
    }
    Ok(aside)
}
