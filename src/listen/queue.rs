//! Queue of alerts. An alert is on disk before it is accepted, so that neither a crash nor a stop loses it; an alert that is
//! queued, in progress or recently answered is not accepted twice.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::probe::io::clock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::respond::Alert;
use crate::state::dir;

/// Maximum number of alerts answered by one run.
const MAX_ALERTS_PER_RUN: usize = 200;

/// Maximum size of queued alerts in bytes, on disk and in memory: the limit on their number alone would allow a hundred times as
/// much.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// Maximum number of stored keys of answered alerts.
const MAX_ANSWERED_KEYS: usize = 20_000;

/// Alerts of one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Batch {
    /// Time of arrival.
    pub(super) received_at: Timestamp,
    /// The alerts.
    pub(super) alerts: Vec<Alert>,
    #[serde(skip)]
    path: PathBuf,
    /// Size of the file.
    #[serde(skip)]
    bytes: usize,
}

/// Result of offering the alerts of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EnqueueResult {
    /// Number of accepted and of already known alerts.
    Accepted {
        /// Now on disk.
        new: usize,
        /// Queued, in progress or recently answered.
        known: usize,
    },
    /// The queue is full.
    Full,
}

/// The queue.
pub(super) struct Queue {
    directory: PathBuf,
    capacity: usize,
    repeat_after: Duration,
    inner: Mutex<Inner>,
    more: Notify,
}

#[derive(Default)]
struct Inner {
    /// Batches on disk, oldest first.
    waiting: VecDeque<Batch>,
    /// Alerts in `waiting`, and those being written.
    count: usize,
    /// Their size.
    bytes: usize,
    /// Keys of queued alerts and of alerts in progress.
    known: HashSet<String>,
    /// Keys of alerts that were resolved before they were answered.
    over: HashSet<String>,
    /// Keys of answered alerts, and the time.
    answered: HashMap<String, Instant>,
    /// Makes file names unique.
    next: u64,
}

impl Queue {
    /// Opens the directory and loads its alerts.
    pub(super) fn open(directory: PathBuf, capacity: usize, repeat_after: Duration) -> io::Result<Self> {
        if let Some(parent) = directory.parent() {
            dir::ensure(parent)?;
        }
        dir::ensure(&directory)?;
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory)?.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
        paths.sort();
        let mut inner = Inner::default();
        for path in paths {
            let text = std::fs::read(&path).unwrap_or_default();
            let Ok(batch) = serde_json::from_slice::<Batch>(&text) else {
                super::log(&format!("{} is not a stored alert; it is renamed to .broken", path.display()));
                std::fs::rename(&path, path.with_extension("broken"))?;
                continue;
            };
            inner.count += batch.alerts.len();
            inner.bytes += text.len();
            inner.known.extend(batch.alerts.iter().map(Alert::key));
            inner.waiting.push_back(Batch { path, bytes: text.len(), ..batch });
        }
        Ok(Self { directory, capacity, repeat_after, inner: Mutex::new(inner), more: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of queued alerts.
    pub(super) fn waiting(&self) -> usize {
        self.lock().count
    }

    /// Accepts the new alerts; they are on disk when this returns. Blocks for the disk.
    pub(super) fn offer(&self, alerts: Vec<Alert>) -> io::Result<EnqueueResult> {
        let (batch, text, keys, known, number) = {
            let mut inner = self.lock();
            let all = alerts.len();
            let mut keys = Vec::new();
            let mut new = Vec::new();
            for alert in alerts {
                let key = alert.key();
                let answered = inner.answered.get(&key).is_some_and(|at| at.elapsed() < self.repeat_after);
                if !answered && !inner.known.contains(&key) && !keys.contains(&key) {
                    keys.push(key);
                    new.push(alert);
                }
            }
            let known = all - new.len();
            if new.is_empty() {
                return Ok(EnqueueResult::Accepted { new: 0, known });
            }
            let batch = Batch { received_at: clock::now(), alerts: new, path: PathBuf::new(), bytes: 0 };
            let text = serde_json::to_vec(&batch)?;
            if inner.count + keys.len() > self.capacity || inner.bytes + text.len() > MAX_WAITING_BYTES {
                return Ok(EnqueueResult::Full);
            }
            inner.count += keys.len();
            inner.bytes += text.len();
            inner.known.extend(keys.iter().cloned());
            inner.next += 1;
            (batch, text, keys, known, inner.next)
        };
        let path = self.directory.join(format!("{:020}-{number}.json", batch.received_at.as_nanosecond()));
        let written = dir::write(&path, &text);
        let mut inner = self.lock();
        match written {
            Ok(()) => {
                let new = batch.alerts.len();
                inner.waiting.push_back(Batch { path, bytes: text.len(), ..batch });
                drop(inner);
                self.more.notify_one();
                Ok(EnqueueResult::Accepted { new, known })
            }
            Err(e) => {
                inner.count -= keys.len();
                inner.bytes -= text.len();
                for key in &keys {
                    inner.known.remove(key);
                }
                Err(e)
            }
        }
    }

    /// Marks an alert as resolved: a queued alert is answered as resolved, and no fix is applied for it. Returns whether it was
    /// queued.
    pub(super) fn resolve(&self, alert: &Alert) -> bool {
        let key = alert.key();
        let mut inner = self.lock();
        inner.answered.remove(&key);
        inner.known.contains(&key) && inner.over.insert(key)
    }

    /// Whether an alert in progress is resolved by now.
    pub(super) fn is_over(&self, alert: &Alert) -> bool {
        self.lock().over.contains(&alert.key())
    }

    /// The next batches: all queued alerts up to the limit of one run. Waits until there is one.
    pub(super) async fn take(&self) -> Vec<Batch> {
        loop {
            {
                let mut inner = self.lock();
                let mut batches = Vec::new();
                let mut alerts = 0;
                while let Some(batch) = inner.waiting.pop_front() {
                    alerts += batch.alerts.len();
                    batches.push(batch);
                    if alerts >= MAX_ALERTS_PER_RUN {
                        break;
                    }
                }
                if !batches.is_empty() {
                    return batches;
                }
            }
            self.more.notified().await;
        }
    }

    /// Marks batches as answered.
    pub(super) fn done(&self, batches: &[Batch]) {
        for batch in batches {
            // if removal fails, the batch is answered again after a restart; the guard then finds nothing to fix
            let _ = std::fs::remove_file(&batch.path);
        }
        let mut inner = self.lock();
        let repeat_after = self.repeat_after;
        inner.answered.retain(|_, at| at.elapsed() < repeat_after);
        if inner.answered.len() >= MAX_ANSWERED_KEYS {
            inner.answered.clear();
        }
        inner.bytes -= batches.iter().map(|batch| batch.bytes).sum::<usize>();
        for alert in batches.iter().flat_map(|b| &b.alerts) {
            let key = alert.key();
            inner.count -= 1;
            inner.known.remove(&key);
            inner.over.remove(&key);
            inner.answered.insert(key, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn alert(name: &str) -> Alert {
        let text = serde_json::json!([{ "labels": { "alertname": name } }]).to_string();
        crate::respond::parse(text.as_bytes()).unwrap().alerts.remove(0)
    }

    fn open(dir: &tempfile::TempDir, capacity: usize) -> Queue {
        Queue::open(dir.path().join("state/alerts"), capacity, Duration::from_secs(3600)).unwrap()
    }

    fn accepted(new: usize, known: usize) -> EnqueueResult {
        EnqueueResult::Accepted { new, known }
    }

    fn take(queue: &Queue) -> Vec<Batch> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(queue.take())
    }

    #[test]
    fn alerts_are_accepted_once_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 10);
        assert_eq!(queue.offer(vec![alert("a"), alert("a"), alert("b")]).unwrap(), accepted(2, 1));
        assert_eq!(queue.offer(vec![alert("a")]).unwrap(), accepted(0, 1));
        // killed here
        drop(queue);
        let queue = open(&dir, 10);
        assert_eq!(queue.waiting(), 2);
        assert_eq!(queue.offer(vec![alert("b"), alert("c")]).unwrap(), accepted(1, 1));
        let in_work = take(&queue);
        assert_eq!(in_work.iter().map(|b| b.alerts.len()).sum::<usize>(), 3);
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), accepted(0, 1));
        queue.done(&in_work);
        // answered a moment ago
        assert_eq!((queue.offer(vec![alert("c")]).unwrap(), queue.waiting()), (accepted(0, 1), 0));
        // resolved, then firing again
        queue.resolve(&alert("c"));
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), accepted(1, 0));
        assert_eq!(open(&dir, 10).waiting(), 1);
    }

    #[test]
    fn number_of_queued_alerts_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 2);
        assert_eq!(queue.offer(vec![alert("a"), alert("b"), alert("c")]).unwrap(), EnqueueResult::Full);
        assert_eq!(queue.offer(vec![alert("a"), alert("b")]).unwrap(), accepted(2, 0));
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), EnqueueResult::Full);
        assert_eq!(queue.offer(vec![alert("b")]).unwrap(), accepted(0, 1));
    }

    #[test]
    fn size_of_waiting_alerts_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 10_000);
        let large = |n: usize| {
            let labels: serde_json::Map<String, serde_json::Value> =
                (0..60).map(|i| (format!("label{i}"), "x".repeat(990).into())).collect();
            let mut alert = serde_json::json!({ "labels": labels });
            alert["labels"]["alertname"] = format!("a{n}").into();
            crate::respond::parse(serde_json::json!([alert]).to_string().as_bytes()).unwrap().alerts
        };
        let stored = (0..1000).take_while(|n| queue.offer(large(*n)).unwrap() != EnqueueResult::Full).count();
        assert!((200..300).contains(&stored), "{stored}");
        // also after a restart, and until alerts are answered
        drop(queue);
        let queue = open(&dir, 10_000);
        assert_eq!(queue.offer(large(2000)).unwrap(), EnqueueResult::Full);
        let in_work = take(&queue);
        queue.done(&in_work);
        assert_eq!(queue.offer(large(2000)).unwrap(), EnqueueResult::Accepted { new: 1, known: 0 });
    }

    #[test]
    fn alert_resolved_while_queued_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 2);
        assert!(!queue.resolve(&alert("a")));
        queue.offer(vec![alert("a")]).unwrap();
        assert!(queue.resolve(&alert("a")) && queue.is_over(&alert("a")));
        let in_work = take(&queue);
        queue.done(&in_work);
        assert!(!queue.is_over(&alert("a")));
    }

    #[test]
    fn broken_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir, 2));
        std::fs::write(dir.path().join("state/alerts/1.json"), "{").unwrap();
        assert_eq!(open(&dir, 2).waiting(), 0);
        assert!(dir.path().join("state/alerts/1.broken").exists());
    }

    #[test]
    fn unwritable_alert_is_not_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 2);
        std::fs::remove_dir_all(dir.path().join("state/alerts")).unwrap();
        assert!(queue.offer(vec![alert("a")]).is_err());
        assert_eq!(queue.waiting(), 0);
        std::fs::create_dir(dir.path().join("state/alerts")).unwrap();
        assert_eq!(queue.offer(vec![alert("a")]).unwrap(), accepted(1, 0));
    }
}
