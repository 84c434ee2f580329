//! Numbers and findings stored between runs, for trends and for the distinction of new and known findings: one `SQLite` file in
//! the state directory.
//!
//! History is optional. If it is unusable (corrupt, locked, no permission, created by a newer opsctl), the run continues without
//! it and reports this in one line.

pub mod dir;
mod episodes;
pub mod head;
mod list;
mod lock;
mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::{Measure, Report, Sample};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::{History, blocking};

pub use episodes::{Episode, Scope};
pub use list::{List, ListError};
pub use lock::{Lock, LockError};
use store::{Broken, Db};

/// File name of the history in the state directory.
pub const STATE_DB: &str = "state.db";

/// Time limit of opening or writing; the run then continues without history. A healthy disk needs a few milliseconds.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(1);

/// Key of the stored values of a measure: the subject's name, so that a plot continues across a restart.
#[must_use]
pub fn object_of(measure: &Measure) -> String {
    format!("measure:{}", measure.subject)
}

/// A measure as a sample.
#[must_use]
pub fn sample_of(measure: &Measure, at: Timestamp) -> Sample {
    Sample { object: object_of(measure), metric: measure.name.clone(), at, value: measure.value }
}

/// The history of a host (of a user, without root).
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    keep_days: u16,
}

#[derive(Debug)]
struct Inner {
    db: Result<Db, Broken>,
    note: Option<String>,
}

impl Store {
    /// Opens the history in this state directory; recording deletes numbers older than `keep_days`. Never fails: see
    /// [`Store::note`]. No file is created before there is data.
    pub async fn open(state_dir: &Path, keep_days: u16) -> Self {
        let path = state_dir.join(STATE_DB);
        let from = path.display().to_string();
        let db = match blocking::run("the history", &from, HISTORY_TIMEOUT, move |_| Db::open(path)).await {
            Ok(db) => db,
            Err(e) => Err(Broken::Unusable(e.to_string())),
        };
        let note = db.as_ref().err().and_then(Broken::note);
        Self { inner: Arc::new(Mutex::new(Inner { db, note })), keep_days }
    }

    /// No history, and the reason: reads find nothing, and nothing is stored.
    #[must_use]
    pub fn without(why: &str) -> Self {
        let db: Result<Db, Broken> = Err(Broken::Unusable(why.to_owned()));
        let note = db.as_ref().err().and_then(Broken::note);
        Self { inner: Arc::new(Mutex::new(Inner { db, note })), keep_days: 1 }
    }

    /// Reason why the history is unusable, one line; `None` if it is usable or empty.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.lock().note.clone()
    }

    /// Stores these numbers. Errors are in [`Store::note`].
    pub async fn record(&self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.write(move |db, keep_days| db.record(&samples, keep_days, clock::now())).await;
        }
    }

    /// Stores the findings of a run, and closes the episodes of missing ones.
    pub async fn observe(&self, report: &Report, scope: Scope) {
        // a host without findings needs no file
        if self.lock().db.is_err() && report.findings.iter().all(|f| f.severity == opsctl_core::model::Severity::Info) {
            return;
        }
        let report = report.clone();
        let now = clock::now().as_millisecond();
        self.write(move |db, _| db.with(|c| episodes::observe(c, &report, scope, now))).await;
    }

    /// Records that a report (`kind` names it) contained the open findings: code, subject and whether it is flapping.
    pub async fn mark_reported(&self, open: Vec<(String, String, bool)>, kind: &'static str) {
        let now = clock::now().as_millisecond();
        self.write(move |db, _| db.with(|c| episodes::mark_reported(c, &open, kind, now))).await;
    }

    /// All episodes open since then, oldest first.
    #[must_use]
    pub fn episodes(&self, since: Timestamp) -> Vec<Episode> {
        self.read(|c| episodes::since(c, since.as_millisecond())).unwrap_or_default()
    }

    /// Similar closed episodes: the same code, the same subject first; at most `limit`.
    #[must_use]
    pub fn like(&self, code: &str, subject: &str, limit: u32) -> Vec<Episode> {
        self.read(|c| episodes::like(c, code, subject, limit)).unwrap_or_default()
    }

    /// Time of the last report of this kind.
    #[must_use]
    pub fn last_reported(&self, kind: &str) -> Option<Timestamp> {
        self.read(|c| episodes::last_reported(c, kind)).flatten()
    }

    /// All values of a metric of an object since then, oldest first.
    #[must_use]
    pub fn series(&self, object: &str, metric: &str, since: Timestamp) -> Vec<(Timestamp, f64)> {
        self.read(|c| episodes::series(c, object, metric, since.as_millisecond())).unwrap_or_default()
    }

    fn read<T>(&self, read: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut inner = self.lock();
        match inner.db.as_mut().ok()?.with(read) {
            Ok(value) => Some(value),
            Err(broken) => {
                inner.disable(broken);
                None
            }
        }
    }

    async fn write(&self, write: impl FnOnce(&mut Db, u16) -> Result<(), Broken> + Send + 'static) {
        let (inner, keep_days) = (Arc::clone(&self.inner), self.keep_days);
        let written = blocking::run("the history", STATE_DB, HISTORY_TIMEOUT, move |_| {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            let result = match std::mem::replace(&mut inner.db, Err(Broken::Empty(std::path::PathBuf::new()))) {
                Ok(db) => Ok(db),
                Err(Broken::Empty(path) | Broken::SetAside(path, _)) => Db::create(&path),
                Err(broken) => Err(broken),
            };
            match result.and_then(|mut db| write(&mut db, keep_days).map(|()| db)) {
                Ok(db) => inner.db = Ok(db),
                Err(broken) => inner.disable(broken),
            }
        })
        .await;
        if let Err(e) = written {
            // the abandoned thread may still hold the lock
            if let Ok(mut inner) = self.inner.try_lock() {
                inner.note = Some(format!("the measurements of this run were not stored: {e}"));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest_at(&self, object: &str, metric: &str, max_age_s: i64, now: Timestamp) -> Option<Sample> {
        let mut inner = self.lock();
        match inner.db.as_mut().ok()?.oldest(object, metric, max_age_s, now) {
            Ok(sample) => sample,
            Err(broken) => {
                inner.disable(broken);
                None
            }
        }
    }
}

impl Inner {
    fn disable(&mut self, broken: Broken) {
        // the first reason is the relevant one
        if self.note.is_none() {
            self.note = broken.note();
        }
        self.db = Err(broken);
    }
}

impl History for Store {
    fn oldest(&self, object: &str, metric: &str, max_age_s: i64) -> Option<Sample> {
        self.oldest_at(object, metric, max_age_s, clock::now())
    }
}

#[cfg(test)]
mod tests;
