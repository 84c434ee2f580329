//! The schedule file of a beat, a sign of life only where its format allows it.
//!
//! `PersistentScheduler` keeps a shelve of Python's dbm and synchronises it every few minutes, whether or not a task is due
//! (celery/beat.py, `Service.start`). The formats (docs.python.org, "dbm"): gdbm, and `dbm.sqlite3` from 3.13 on, write with each
//! synchronisation to a file without suffix that stays open; `dbm.dumb` writes `.dat` and `.dir` and keeps none open; `dbm.ndbm`, the
//! format of Python without gdbm, has no synchronisation and writes `.db` when it is closed. Other schedulers have no file: those of
//! django-celery-beat and redbeat, or an application's own.

use std::time::{Duration, SystemTime};

use super::celery::option;
use crate::probe::Io;
use crate::probe::io::Root;
use crate::probe::proc::files::open_files;

/// Name of the file without `-s`, in the working directory.
const DEFAULT_SCHEDULE: &str = "celerybeat-schedule";

/// Clock ticks and file times are not exact: seconds by which a file may be older than the process that wrote it.
const SLACK_S: u64 = 5;

/// Seconds since a beat that runs for `age_s` last wrote its schedule. `None` if it writes none while it runs, or has not written
/// this file since its start: then another scheduler is configured, and the file is left over.
pub(super) fn schedule_age(io: &Io, pid: i32, line: &str, scheduler: Option<&str>, age_s: u64) -> Option<u64> {
    if scheduler.is_some_and(|s| !s.ends_with("PersistentScheduler")) {
        return None;
    }
    let name = option(line, &["-s", "--schedule", "--schedule-filename"]).unwrap_or_else(|| DEFAULT_SCHEDULE.to_owned());
    let base = if name.starts_with('/') { name } else { format!("{}/{name}", io.working_directory(pid)?) };
    let root = Root::of(io, pid).ok()?;
    let modified = |suffix: &str| root.metadata(&format!("{base}{suffix}")).ok()?.modified().ok();
    written(&modified, &open_files(io, pid, ""), &base)?
        .elapsed()
        .map(|since: Duration| since.as_secs())
        .ok()
        .filter(|since| *since <= age_s.saturating_add(SLACK_S))
}

/// The last time at which the file was written, if its format is one that is written while beat runs.
fn written(modified: &dyn Fn(&str) -> Option<SystemTime>, open: &[String], base: &str) -> Option<SystemTime> {
    let file = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_open = || open.iter().any(|path| file(path) == file(base));
    if let Some(at) = modified("") {
        // SQLite writes to its log first
        return is_open().then(|| modified("-wal").map_or(at, |log| log.max(at)));
    }
    // ndbm
    if modified(".db").is_some() || modified(".pag").is_some() {
        return None;
    }
    modified(".dat").max(modified(".dir"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since the epoch of the last write, for these files and an open file.
    fn at(files: &[(&str, u64)], open: &[&str]) -> Option<u64> {
        let modified = |suffix: &str| {
            let at = files.iter().find(|(s, _)| *s == suffix)?.1;
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(at))
        };
        let open: Vec<String> = open.iter().map(|path| (*path).to_owned()).collect();
        let at = written(&modified, &open, "/app/celerybeat-schedule")?;
        at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }

    #[test]
    fn formats_of_the_schedule() {
        assert_eq!(at(&[("", 5)], &["/app/celerybeat-schedule"]), Some(5), "gdbm");
        assert_eq!(at(&[("", 5), ("-wal", 9)], &["/data/celerybeat-schedule"]), Some(9), "SQLite");
        assert_eq!(at(&[(".dat", 5), (".dir", 7)], &[]), Some(7), "dumb");
        assert_eq!(at(&[(".db", 5)], &["/app/celerybeat-schedule.db"]), None, "ndbm");
        assert_eq!(at(&[("", 5)], &["/app/db.sqlite3"]), None, "left over: a database scheduler");
        assert_eq!(at(&[], &[]), None);
    }
}
