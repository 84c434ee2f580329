//! Blocking calls on threads that can be abandoned when they hang in the kernel.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::{Io, threads};
use crate::probe::ProbeError;

/// Concurrent reads. A host with hundreds of containers has thousands of reads, and the memory retained by the allocator for each
/// thread that exists at the same time is most of the memory of a run.
static CONCURRENT_READS: Semaphore = Semaphore::const_new(8);

/// Time for which a read holds its permit. A read that takes longer waits or hangs, and must not delay the others.
const PERMIT_TIME: Duration = Duration::from_millis(5);

/// Limit of existing threads, including those with an abandoned read.
const MAX_THREADS: usize = 192;

/// Abandoned reads per source, after which the source is no longer read. A source that hangs costs a few threads, not all.
const MAX_ABANDONED_PER_SOURCE: usize = 4;

static THREADS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_THREADS)));

/// Number of abandoned reads that have not ended, by source.
static ABANDONED: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

fn abandoned(source: &str, change: impl FnOnce(&mut usize)) -> usize {
    let mut all = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = all.entry(source.to_owned()).or_default();
    change(count);
    let now = *count;
    if now == 0 {
        all.remove(source);
    }
    now
}

/// A read in progress. If it is dropped before its result arrives, it is charged to its source until its thread ends.
struct Pending<'a, T> {
    source: &'a str,
    /// Receives `None` if the read panicked.
    result: oneshot::Receiver<Option<T>>,
    received: bool,
}

impl<T> Pending<'_, T> {
    /// The result, or `None` after `timeout`.
    async fn within(&mut self, timeout: Duration) -> Option<Option<T>> {
        let result = tokio::time::timeout(timeout, &mut self.result).await.ok()?;
        self.received = true;
        Some(result.ok().flatten())
    }
}

impl<T> Drop for Pending<'_, T> {
    fn drop(&mut self) {
        if self.received {
            return;
        }
        // before the channel is closed: the thread removes the charge as soon as the channel is closed
        abandoned(self.source, |n| *n += 1);
        self.result.close();
        if self.result.try_recv().is_ok() {
            abandoned(self.source, |n| *n = n.saturating_sub(1));
        }
    }
}

/// Runs `read` on a thread and waits for at most `timeout`.
///
/// A dead NFS server or a stopped FUSE daemon can block `stat` forever. Such waits end when the process is killed
/// (`wait_event_killable`), so an abandoned thread ends together with opsctl; tokio's own blocking pool would keep the process
/// alive until the call returns.
///
/// # Errors
/// `Timeout` if the read takes longer, `Failed` if it panics or if earlier reads of the same source still hang.
pub async fn run<T: Send + 'static>(
    subject: &str,
    from: &str,
    timeout: Duration,
    read: impl FnOnce(&Io) -> T + Send + 'static,
) -> Result<T, ProbeError> {
    run_charged(from, subject, from, timeout, read).await
}

/// [`run`] for a read that is charged to `source` instead of `from` when it hangs, for example the user of the process that named
/// the file.
pub async fn run_charged<T: Send + 'static>(
    source: &str,
    subject: &str,
    from: &str,
    timeout: Duration,
    read: impl FnOnce(&Io) -> T + Send + 'static,
) -> Result<T, ProbeError> {
    if abandoned(source, |_| ()) >= MAX_ABANDONED_PER_SOURCE {
        return Err(ProbeError::failed(subject, from, "earlier reads of it hang"));
    }
    let late = || ProbeError::Timeout { subject: subject.to_owned(), from: from.to_owned(), after: timeout };
    let begun = Instant::now();
    // held by the thread until it ends, even if abandoned; neither semaphore is ever closed
    let Ok(Ok(thread)) = tokio::time::timeout(timeout, THREADS.clone().acquire_owned()).await else { return Err(late()) };
    let permit = CONCURRENT_READS.acquire().await;
    let (send, result) = oneshot::channel();
    let charged = source.to_owned();
    threads::run(move || {
        let value = catch_unwind(AssertUnwindSafe(|| read(&Io::new()))).ok();
        // the value of an abandoned read is dropped here, which may block, and not on a thread that serves the next read
        let value = if send.is_closed() { None } else { Some(value) };
        Box::new(move || {
            if value.is_none_or(|value| send.send(value).is_err()) {
                // an abandoned read that has ended no longer counts
                abandoned(&charged, |n| *n = n.saturating_sub(1));
            }
            drop(thread);
        })
    })
    .map_err(|e| ProbeError::io(subject, from, &e))?;
    let mut pending = Pending { source, result, received: false };
    let started = Instant::now();
    let mut value = pending.within(PERMIT_TIME.min(timeout)).await;
    drop(permit);
    if value.is_none() {
        value = pending.within(timeout.saturating_sub(started.elapsed())).await;
    }
    match value {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(ProbeError::failed(subject, from, "internal error: the reading thread ended")),
        None => {
            tracing::debug!(what = subject, from, waited_ms = begun.elapsed().as_millis(), "abandoned a read");
            Err(late())
        }
    }
}

/// Runs `read` on the current thread, for work of the command line before and after a run, such as delivering a report. Not for
/// code that runs on the runtime of a run; the watchdog of the command covers it.
pub fn run_on_current_thread<T>(read: impl FnOnce(&Io) -> T) -> T {
    read(&Io::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "current_thread")]
    async fn call_that_never_returns_times_out() {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let got = run("the filesystem", "/dead", Duration::from_millis(20), move |_| never.recv()).await;
        assert!(matches!(got, Err(ProbeError::Timeout { .. })), "{got:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn hung_reads_do_not_delay_others() {
        let (keep, never) = std::sync::mpsc::channel::<()>();
        let never = Arc::new(Mutex::new(never));
        let hung = (0..100).map(|_| {
            let never = never.clone();
            run("the filesystem", "/slow", LONG, move |_| drop(never.lock().map(|n| n.recv())))
        });
        let quick = async {
            let got = run("the filesystem", "/", LONG, |_| 7).await;
            drop(keep);
            got
        };
        // the hung reads end only after the quick one
        let (_, got) = tokio::join!(futures_util::future::join_all(hung), quick);
        assert_eq!(got.ok(), Some(7));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn hanging_source_is_not_read_again() {
        let (keep, never) = std::sync::mpsc::channel::<()>();
        let never = Arc::new(Mutex::new(never));
        let read = || {
            let never = never.clone();
            run("a file", "/hangs", Duration::from_millis(10), move |_| drop(never.lock().map(|n| n.recv())))
        };
        for _ in 0..MAX_ABANDONED_PER_SOURCE {
            assert!(matches!(read().await, Err(ProbeError::Timeout { .. })));
        }
        assert!(matches!(read().await, Err(ProbeError::Failed { .. })));
        assert_eq!(run("a file", "/other", LONG, |_| 1).await.ok(), Some(1));
        drop(keep);
        // the reads end, and the source is read again
        let readable = async {
            while run("a file", "/hangs", LONG, |_| ()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(LONG, readable).await.is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn dropped_reads_count_as_abandoned() {
        let (keep, never) = std::sync::mpsc::channel::<()>();
        let never = Arc::new(Mutex::new(never));
        for _ in 0..MAX_ABANDONED_PER_SOURCE {
            let never = never.clone();
            let read = run("a file", "/dropped", LONG, move |_| drop(never.lock().map(|n| n.recv())));
            // as when the waiting check is cancelled
            assert!(tokio::time::timeout(Duration::from_millis(10), read).await.is_err());
        }
        assert!(matches!(run("a file", "/dropped", LONG, |_| ()).await, Err(ProbeError::Failed { .. })));
        drop(keep);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn panic_on_the_reading_thread_is_an_error() {
        let got = run("a file", "/panics", LONG, |_| panic!("on purpose")).await;
        assert!(matches!(got, Err::<(), _>(ProbeError::Failed { .. })), "{got:?}");
    }
}
