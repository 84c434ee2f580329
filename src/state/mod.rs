//! Numbers and findings remembered between runs, so that growth can be told from size and news from what is known: one `SQLite` file in the state directory.
//!
//! History is a convenience. Whatever is wrong with it (corrupt, locked, no permission, made by a newer opsctl), the run goes on
//! without it and has one line that says so.

mod episodes;
pub mod head;
mod list;
mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::{Measure, Report, Sample};
use opsctl_core::probe::{History, blocking, clock};

pub use episodes::{Episode, Scope};
pub use list::{List, ListError};
use store::{Broken, Db};

/// File of the history in the state directory.
pub const STATE_DB: &str = "state.db";

/// How long opening or writing may take before the run goes on without. A healthy disk needs a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Under what the numbers of a measure are remembered: the subject's name, so that a plot goes on across a restart.
#[must_use]
pub fn object_of(measure: &Measure) -> String {
    format!("measure:{}", measure.subject)
}

/// A measure as a number to remember.
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
    /// Opens the history in this state directory; what is recorded prunes numbers older than `keep_days`. Never fails: see [`Store::note`]. Nothing is made before there is something to remember.
    pub async fn open(state_dir: &Path, keep_days: u16) -> Self {
        let path = state_dir.join(STATE_DB);
        let from = path.display().to_string();
        let db = match blocking::run("the history", &from, PATIENCE, move |_| Db::open(path)).await {
            Ok(db) => db,
            Err(e) => Err(Broken::Unusable(e.to_string())),
        };
        let note = db.as_ref().err().and_then(Broken::note);
        Self { inner: Arc::new(Mutex::new(Inner { db, note })), keep_days }
    }

    /// What is wrong with the history, one line; none when it is fine or merely empty.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.lock().note.clone()
    }

    /// Remembers these numbers. What goes wrong is in [`Store::note`].
    pub async fn record(&self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.write(move |db, keep_days| db.record(&samples, keep_days, clock::now())).await;
        }
    }

    /// Remembers what a run found, and that what it no longer found is over.
    pub async fn observe(&self, report: &Report, scope: Scope) {
        // a host on which nothing was ever wrong needs no file
        if self.lock().db.is_err() && report.findings.iter().all(|f| f.severity == opsctl_core::model::Severity::Info) {
            return;
        }
        let report = report.clone();
        let now = clock::now().as_millisecond();
        self.write(move |db, _| db.with(|c| episodes::observe(c, &report, scope, now))).await;
    }

    /// Remembers that a report (`what` names its kind) told of what is open: code, subject and whether it comes and goes.
    pub async fn told(&self, open: Vec<(String, String, bool)>, what: &'static str) {
        let now = clock::now().as_millisecond();
        self.write(move |db, _| db.with(|c| episodes::told(c, &open, what, now))).await;
    }

    /// Everything that was open since then, oldest first.
    #[must_use]
    pub fn episodes(&self, since: Timestamp) -> Vec<Episode> {
        self.read(|c| episodes::since(c, since.as_millisecond())).unwrap_or_default()
    }

    /// What is over and was like this: the same code, of the same subject first; at most so many.
    #[must_use]
    pub fn like(&self, code: &str, subject: &str, most: u32) -> Vec<Episode> {
        self.read(|c| episodes::like(c, code, subject, most)).unwrap_or_default()
    }

    /// When a report of this kind was made last.
    #[must_use]
    pub fn last_told(&self, what: &str) -> Option<Timestamp> {
        self.read(|c| episodes::last_told(c, what)).flatten()
    }

    /// All numbers of a metric of an object since then, oldest first.
    #[must_use]
    pub fn series(&self, object: &str, metric: &str, since: Timestamp) -> Vec<(Timestamp, f64)> {
        self.read(|c| episodes::series(c, object, metric, since.as_millisecond())).unwrap_or_default()
    }

    fn read<T>(&self, read: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut inner = self.lock();
        match inner.db.as_mut().ok()?.with(read) {
            Ok(value) => Some(value),
            Err(broken) => {
                inner.give_up(broken);
                None
            }
        }
    }

    async fn write(&self, write: impl FnOnce(&mut Db, u16) -> Result<(), Broken> + Send + 'static) {
        let (inner, keep_days) = (Arc::clone(&self.inner), self.keep_days);
        let written = blocking::run("the history", STATE_DB, PATIENCE, move |_| {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            let result = match std::mem::replace(&mut inner.db, Err(Broken::Empty(std::path::PathBuf::new()))) {
                Ok(db) => Ok(db),
                Err(Broken::Empty(path) | Broken::SetAside(path, _)) => Db::create(&path),
                Err(broken) => Err(broken),
            };
            match result.and_then(|mut db| write(&mut db, keep_days).map(|()| db)) {
                Ok(db) => inner.db = Ok(db),
                Err(broken) => inner.give_up(broken),
            }
        })
        .await;
        if let Err(e) = written {
            // the lock may still be held by the abandoned thread
            if let Ok(mut inner) = self.inner.try_lock() {
                inner.note = Some(format!("the numbers of this run were not remembered: {e}"));
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
                inner.give_up(broken);
                None
            }
        }
    }
}

impl Inner {
    fn give_up(&mut self, broken: Broken) {
        // the first reason is the one that matters
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
