//! Alerts that wait. What is accepted is on disk first, so that neither a crash nor a stop loses it; what is waiting, in work or was
//! just answered is not taken twice.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::probe::clock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::audit::dir;
use crate::respond::Alert;

/// Alerts answered by one look at the host at most.
const TOGETHER: usize = 200;

/// Bytes of alerts that wait at most, on disk and in memory: their number alone would allow a hundred times as much.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// Keys of answered alerts that are remembered at most.
const MOST_ANSWERED: usize = 20_000;

/// Alerts of one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Batch {
    /// When they came.
    pub(super) received_at: Timestamp,
    /// The alerts.
    pub(super) alerts: Vec<Alert>,
    #[serde(skip)]
    path: PathBuf,
    /// Size of the file.
    #[serde(skip)]
    bytes: usize,
}

/// What became of the alerts of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// So many were taken, so many were known already.
    Taken {
        /// On disk now.
        new: usize,
        /// Waiting, in work or just answered.
        known: usize,
    },
    /// There is no room.
    Full,
}

/// Alerts that wait.
pub(super) struct Queue {
    directory: PathBuf,
    most: usize,
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
    /// Keys of what waits or is in work.
    known: HashSet<String>,
    /// Keys of what was over before it was answered.
    over: HashSet<String>,
    /// Keys of what was answered, and when.
    answered: HashMap<String, Instant>,
    /// Makes file names unique.
    next: u64,
}

impl Queue {
    /// Opens the directory and takes up what is in it.
    pub(super) fn open(directory: PathBuf, most: usize, repeat_after: Duration) -> io::Result<Self> {
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
                super::say(&format!("{} is no alert of ours and is set aside", path.display()));
                std::fs::rename(&path, path.with_extension("broken"))?;
                continue;
            };
            inner.count += batch.alerts.len();
            inner.bytes += text.len();
            inner.known.extend(batch.alerts.iter().map(Alert::key));
            inner.waiting.push_back(Batch { path, bytes: text.len(), ..batch });
        }
        Ok(Self { directory, most, repeat_after, inner: Mutex::new(inner), more: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().count
    }

    /// Takes the alerts that are new; they are on disk when this returns. Blocks for the disk.
    pub(super) fn offer(&self, alerts: Vec<Alert>) -> io::Result<Offered> {
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
                return Ok(Offered::Taken { new: 0, known });
            }
            let batch = Batch { received_at: clock::now(), alerts: new, path: PathBuf::new(), bytes: 0 };
            let text = serde_json::to_vec(&batch)?;
            if inner.count + keys.len() > self.most || inner.bytes + text.len() > MAX_WAITING_BYTES {
                return Ok(Offered::Full);
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
                Ok(Offered::Taken { new, known })
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

    /// An alert is over: if it still waits it is answered as such, and nothing is fixed for it. Whether it waited.
    pub(super) fn resolve(&self, alert: &Alert) -> bool {
        let key = alert.key();
        let mut inner = self.lock();
        inner.answered.remove(&key);
        inner.known.contains(&key) && inner.over.insert(key)
    }

    /// Whether an alert that is in work is over by now.
    pub(super) fn is_over(&self, alert: &Alert) -> bool {
        self.lock().over.contains(&alert.key())
    }

    /// What is to be answered next: everything that waits, up to what one look is enough for. Waits until there is something.
    pub(super) async fn take(&self) -> Vec<Batch> {
        loop {
            {
                let mut inner = self.lock();
                let mut taken = Vec::new();
                let mut alerts = 0;
                while let Some(batch) = inner.waiting.pop_front() {
                    alerts += batch.alerts.len();
                    taken.push(batch);
                    if alerts >= TOGETHER {
                        break;
                    }
                }
                if !taken.is_empty() {
                    return taken;
                }
            }
            self.more.notified().await;
        }
    }

    /// They are answered.
    pub(super) fn done(&self, batches: &[Batch]) {
        for batch in batches {
            // if it cannot be removed it is answered again after a restart; the guard then finds nothing left to fix
            let _ = std::fs::remove_file(&batch.path);
        }
        let mut inner = self.lock();
        let repeat_after = self.repeat_after;
        inner.answered.retain(|_, at| at.elapsed() < repeat_after);
        if inner.answered.len() >= MOST_ANSWERED {
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
        crate::respond::parse(text.as_bytes()).unwrap().remove(0)
    }

    fn open(dir: &tempfile::TempDir, most: usize) -> Queue {
        Queue::open(dir.path().join("state/alerts"), most, Duration::from_secs(3600)).unwrap()
    }

    fn taken(new: usize, known: usize) -> Offered {
        Offered::Taken { new, known }
    }

    fn take(queue: &Queue) -> Vec<Batch> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(queue.take())
    }

    #[test]
    fn nothing_is_taken_twice_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 10);
        assert_eq!(queue.offer(vec![alert("a"), alert("a"), alert("b")]).unwrap(), taken(2, 1));
        assert_eq!(queue.offer(vec![alert("a")]).unwrap(), taken(0, 1));
        // killed here
        drop(queue);
        let queue = open(&dir, 10);
        assert_eq!(queue.waiting(), 2);
        assert_eq!(queue.offer(vec![alert("b"), alert("c")]).unwrap(), taken(1, 1));
        let in_work = take(&queue);
        assert_eq!(in_work.iter().map(|b| b.alerts.len()).sum::<usize>(), 3);
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), taken(0, 1));
        queue.done(&in_work);
        // answered a moment ago
        assert_eq!((queue.offer(vec![alert("c")]).unwrap(), queue.waiting()), (taken(0, 1), 0));
        // over, and back
        queue.resolve(&alert("c"));
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), taken(1, 0));
        assert_eq!(open(&dir, 10).waiting(), 1);
    }

    #[test]
    fn there_is_an_end_to_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 2);
        assert_eq!(queue.offer(vec![alert("a"), alert("b"), alert("c")]).unwrap(), Offered::Full);
        assert_eq!(queue.offer(vec![alert("a"), alert("b")]).unwrap(), taken(2, 0));
        assert_eq!(queue.offer(vec![alert("c")]).unwrap(), Offered::Full);
        assert_eq!(queue.offer(vec![alert("b")]).unwrap(), taken(0, 1));
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
            crate::respond::parse(serde_json::json!([alert]).to_string().as_bytes()).unwrap()
        };
        let taken = (0..1000).take_while(|n| queue.offer(large(*n)).unwrap() != Offered::Full).count();
        assert!((200..300).contains(&taken), "{taken}");
        // also after a restart, and until something is answered
        drop(queue);
        let queue = open(&dir, 10_000);
        assert_eq!(queue.offer(large(2000)).unwrap(), Offered::Full);
        let in_work = take(&queue);
        queue.done(&in_work);
        assert_eq!(queue.offer(large(2000)).unwrap(), Offered::Taken { new: 1, known: 0 });
    }

    #[test]
    fn what_is_over_before_its_turn_is_known_as_such() {
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
    fn a_broken_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir, 2));
        std::fs::write(dir.path().join("state/alerts/1.json"), "{").unwrap();
        assert_eq!(open(&dir, 2).waiting(), 0);
        assert!(dir.path().join("state/alerts/1.broken").exists());
    }

    #[test]
    fn what_cannot_be_written_is_not_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(&dir, 2);
        std::fs::remove_dir_all(dir.path().join("state/alerts")).unwrap();
        assert!(queue.offer(vec![alert("a")]).is_err());
        assert_eq!(queue.waiting(), 0);
        std::fs::create_dir(dir.path().join("state/alerts")).unwrap();
        assert_eq!(queue.offer(vec![alert("a")]).unwrap(), taken(1, 0));
    }
}
